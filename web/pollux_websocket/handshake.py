"""The opening handshake (RFC 6455 4), without I/O.

A version is an entry of `VERSIONS`: what tells it from the others. Both are HTTP/1.1's way, an Upgrade of a GET
(4.1); HTTP/2's (RFC 8441) would be another one. Version 8 is draft-ietf-hybi-thewebsocketprotocol-08 to 12, whose
frames are those of the RFC; others are answered 426 with the versions there are (4.4).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pollux_http import HTTPHeaders
from pollux_websocket import deflate
from pollux_websocket.errors import HandshakeError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2


class Version(NamedTuple):
    """What differs from version to version.

    :param origin: the field in which a browser says whose page asks.
    """

    origin: str


VERSIONS = {13: Version("Origin"), 8: Version("Sec-WebSocket-Origin")}
SUPPORTED = ", ".join(map(str, VERSIONS))


class Offer(NamedTuple):
    """What a client asks for.

    :param key: to be answered by `accept_key`.
    :param origin: the origin of the page that asks; None from what is no browser.
    :param subprotocols: in the order of preference.
    """

    version: Version
    key: str
    origin: str | None
    subprotocols: list[str]
    extensions: list[tuple[str, deflate.Parameters]]


def accept_key(key: str) -> str:
    """Return what a server answers to a key (4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def _elements(headers: HTTPHeaders, name: str) -> list[str]:
    """Return the elements of a field that is a list, in lower case. Elements, not substrings: `notupgrade` is none."""
    return [each.strip(" \t").lower() for value in headers.get_list(name) for each in value.split(",")]


def _tokens(headers: HTTPHeaders, name: str) -> list[str]:
    found = [each.strip(" \t") for value in headers.get_list(name) for each in value.split(",")]
    found = [each for each in found if each]  # RFC 9110 5.6.1: empty ones are nothing
    if not all(map(_TOKEN.fullmatch, found)) or len(set(found)) != len(found):
        raise HandshakeError(f"{name} is a list of different tokens, got {headers.get(name)!r}")
    return found


def read_offer(method: str, http11: bool, headers: HTTPHeaders) -> Offer:
    """Return what a client's request asks for.

    :raises HandshakeError: it does not ask for a WebSocket (400), not by GET (405), or for one of a version that there
        is not (426).
    """
    if method != "GET":
        raise HandshakeError(f"a WebSocket handshake is a GET, got {method}", 405)
    if "websocket" not in _elements(headers, "Upgrade") or not http11:
        raise HandshakeError('Can "Upgrade" only to "WebSocket".')
    if "upgrade" not in _elements(headers, "Connection"):
        raise HandshakeError('"Connection" must be "Upgrade".')
    number = headers.get("Sec-WebSocket-Version", "")
    version = VERSIONS.get(int(number)) if re.fullmatch("[1-9][0-9]?", number) else None
    if version is None:
        raise HandshakeError(f"WebSocket versions {SUPPORTED} are supported, not {number[:20]!r}", 426)
    keys = headers.get_list("Sec-WebSocket-Key")
    try:
        right = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except (binascii.Error, ValueError):
        right = False
    if not right:
        raise HandshakeError("Sec-WebSocket-Key is 16 bytes in base64, once")
    return Offer(
        version,
        keys[0],
        headers.get(version.origin),
        _tokens(headers, "Sec-WebSocket-Protocol"),
        deflate.parse_extensions(",".join(headers.get_list("Sec-WebSocket-Extensions"))),
    )


def answer_head(offer: Offer, headers: HTTPHeaders, subprotocol: str | None, extensions: str | None) -> bytes:
    """Return the response that opens the connection.

    :param headers: further ones.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(offer.key)}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    lines += [f"{name}: {value}" for name, value in headers.get_all()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ClientHandshake:
    """A client's side of one handshake.

    :param subprotocols: in the order of preference.
    :param compression: options as in `deflate.check_options`; None for none.
    :raises ValueError: a subprotocol is no token, or one is there twice.
    """

    def __init__(self, subprotocols: Sequence[str] = (), compression: Mapping[str, Any] | None = None) -> None:
        if not all(map(_TOKEN.fullmatch, subprotocols)) or len(set(subprotocols)) != len(subprotocols):
            raise ValueError(f"subprotocols are different tokens, got {subprotocols!r}")
        if compression is not None:
            deflate.check_options(compression)
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._subprotocols = subprotocols
        self._compression = compression

    def fields(self) -> dict[str, str]:
        """Return the header fields that ask for the connection."""
        fields = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self._key,
            "Sec-WebSocket-Version": str(next(iter(VERSIONS))),
        }
        if self._subprotocols:
            fields["Sec-WebSocket-Protocol"] = ", ".join(self._subprotocols)
        if self._compression is not None:
            fields["Sec-WebSocket-Extensions"] = deflate.offer(self._compression)
        return fields

    def check(self, headers: HTTPHeaders) -> tuple[str | None, deflate.Agreement | None]:
        """Check the fields of a response with status 101 (4.1); return the subprotocol and what was agreed on
        compression.

        :raises HandshakeError: the server has not understood, or wants what was not offered.
        """
        if _elements(headers, "Upgrade") != ["websocket"] or "upgrade" not in _elements(headers, "Connection"):
            raise HandshakeError("the server changed to another protocol than WebSocket")
        expected = accept_key(self._key)
        if headers.get_list("Sec-WebSocket-Accept") != [expected]:
            got = headers.get("Sec-WebSocket-Accept")
            raise HandshakeError(f"the server has answered another handshake: expected {expected}, got {got!r}")
        chosen = headers.get_list("Sec-WebSocket-Protocol")
        if chosen and (len(chosen) > 1 or chosen[0] not in self._subprotocols):
            raise HandshakeError(f"the server speaks {chosen!r}, but was offered {list(self._subprotocols)!r}")
        extensions = deflate.parse_extensions(",".join(headers.get_list("Sec-WebSocket-Extensions")))
        return chosen[0] if chosen else None, deflate.agree(extensions, self._compression)
