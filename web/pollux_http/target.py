"""`Target`: where a URL leads. What a URL may hold is decided here, before anything of it reaches a socket.

RFC 3986 is the grammar. `urllib.parse.urlsplit` removes CR, LF and TAB without a word, so they are looked for before:
a URL made from somebody's input must not become another one, and never a header line (CVE-2019-12387 was that).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_REFUSED = re.compile(r"[\x00-\x20\x7f]")
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))  # what `quote` leaves alone: ASCII is the caller's affair
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%-]+")  # RFC 3986 3.2.2: reg-name, IPv4
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?")  # RFC 6874: with its zone


class Origin(NamedTuple):
    """Scheme, host and port (RFC 6454).

    :param host: in lower case, without brackets.
    """

    tls: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port`, as CONNECT has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target(NamedTuple):
    """A URL taken apart.

    :param host: for the Host header: with a port only if it is not the scheme's.
    :param path: for the request line: path and query, "/" at least.
    :param user: user and password, None if the URL has none.
    :param url: the URL as it is used, without user, password and fragment.
    """

    origin: Origin
    host: str
    path: str
    user: tuple[str, str] | None
    url: str


@lru_cache(512)
def parse_url(url: str) -> Target:
    """Take a URL apart.

    :raises ValueError: it is none of http or https, has no host, or holds what no URL may.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, got {url!r}")
    if found := _REFUSED.search(url):
        raise ValueError(f"a URL holds no spaces and no control characters: quote {found[0]!r} in {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
        name = parts.hostname or ""
    except ValueError as error:
        raise ValueError(f"invalid URL {url!r}: {error}") from None
    scheme = parts.scheme
    if scheme not in ("http", "https"):
        raise ValueError(f"Unsupported url scheme: expected http or https, got {url!r}")
    tls = scheme == "https"
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError as error:
            raise ValueError(f"invalid host name in URL {url!r}: {error}") from None
    bracketed = ":" in name
    if not (_IPV6 if bracketed else _HOST).fullmatch(name):
        raise ValueError(f"invalid or missing host in URL {url!r}")
    usual = 443 if tls else 80
    origin = Origin(tls, name, usual if port is None else port)
    host = f"[{name.partition('%')[0]}]" if bracketed else name
    if origin.port != usual:
        host = f"{host}:{origin.port}"
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    if not path.isascii():
        path = quote(path, safe=_AS_IT_IS)
    user = None
    if parts.username is not None:
        user = unquote(parts.username), unquote(parts.password or "")
    return Target(origin, host, path, user, f"{scheme}://{host}{path}")
