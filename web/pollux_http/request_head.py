"""The head of a request to bytes (RFC 9112 3). This module knows no sockets.

* Nothing that a caller gives reaches the wire unchecked: a method is a token, a target was checked in `target.py`, and
  `HTTPHeaders` takes no control characters.
* The framing is said here only: Content-Length and Transfer-Encoding of a caller are replaced by what is true.
* The head of a request without headers of its own is remembered: programs fetch the same URLs again and again.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import NamedTuple

from pollux_http.client_request import HTTPRequest, Settings
from pollux_http.decoding import accepted
from pollux_http.headers import HTTPHeaders
from pollux_http.response import SERVER_NAME
from pollux_http.target import Target

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2


class RequestHead(NamedTuple):
    """A head, and what it says about the body that follows.

    :param data: the bytes.
    :param length: of the body; None if it is not known.
    :param chunked: the body goes out in chunks.
    :param close: the connection ends with the response, as the caller wants it.
    """

    data: bytes
    length: int | None
    chunked: bool = False
    close: bool = False


@lru_cache(512)
def plain_head(method: str, target: Target, agent: str | None, compressed: bool) -> RequestHead:
    """Return the head of a request that has no headers of its own, and no body."""
    lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.host}", f"User-Agent: {agent or SERVER_NAME}"]
    if compressed:
        lines.append(f"Accept-Encoding: {accepted()}")
    return RequestHead("\r\n".join([*lines, "", ""]).encode("latin-1"), 0)


def check_method(request: HTTPRequest, settings: Settings) -> None:
    """Check the method, and that a body is there where one is usual.

    :raises KeyError: the method is unusual.
    :raises ValueError: it is none at all, or there should be a body and is none, or the other way round.
    """
    method = request.method
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"a method is made of token characters, got {method!r}")
    if settings.allow_nonstandard_methods:
        return
    if method not in METHODS:
        raise KeyError(f"unknown method {method}: expected one of {', '.join(sorted(METHODS))}, "
                       "or allow_nonstandard_methods=True")  # fmt: skip
    has_body = request.body is not None or settings.body_producer is not None
    if has_body != (method in WITH_BODY):
        must = "must be None" if has_body else "must not be None"
        raise ValueError(f"Body {must} for method {method} (unless allow_nonstandard_methods is true)")


def request_head(request: HTTPRequest, settings: Settings, target: Target, proxy: str | None = None) -> RequestHead:
    """Make a head.

    :param proxy: None if the request goes to the origin, else the value of Proxy-Authorization ("" for none): it goes
        to a proxy then, which wants the whole URL (RFC 9112 3.2.2).
    :raises HTTPInputError: a header is malformed.
    :raises ValueError: see `check_method`; or Content-Length of a body that is produced is no number.
    """
    check_method(request, settings)
    agent = settings.user_agent
    given = request.given_headers
    user = target.user
    if user is None and settings.auth_username is not None:
        user = settings.auth_username, settings.auth_password or ""
    producer = settings.body_producer
    nothing = not given and request.body is None and producer is None and user is None and proxy is None
    if nothing and request.method not in WITH_BODY and (agent is None or (agent.isascii() and agent.isprintable())):
        return plain_head(request.method, target, agent, settings.decompress_response)

    headers = HTTPHeaders(given)
    headers.setdefault("Host", target.host)
    if agent is not None:
        headers["User-Agent"] = agent
    headers.setdefault("User-Agent", SERVER_NAME)
    if settings.decompress_response:
        headers.setdefault("Accept-Encoding", accepted())
    if user is not None:
        if settings.auth_mode not in (None, "basic"):
            raise ValueError(f"unsupported auth_mode {settings.auth_mode!r}: expected 'basic'")
        headers["Authorization"] = basic(*user)
    if proxy is not None:
        headers.pop("Proxy-Connection", None)
        if proxy:
            headers["Proxy-Authorization"] = proxy
    length, chunked = _frame(headers, request, producer is not None)
    if settings.expect_100_continue and (length or chunked):
        headers["Expect"] = "100-continue"
    close = "close" in [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    path = target.path if proxy is None else target.url
    lines = [f"{request.method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.get_all()]
    return RequestHead("\r\n".join([*lines, "", ""]).encode("latin-1"), length, chunked, close)


def _frame(headers: HTTPHeaders, request: HTTPRequest, produced: bool) -> tuple[int | None, bool]:
    """Say in `headers` how long the body is; return the length, and whether it is chunked."""
    declared = headers.pop("Content-Length", None)
    headers.pop("Transfer-Encoding", None)
    if produced:
        if declared is None:
            headers["Transfer-Encoding"] = "chunked"
            length = None
        elif not (declared.isascii() and declared.isdigit()):
            raise ValueError(f"Content-Length is a number, got {declared!r}")
        else:
            length = int(declared)
    else:
        length = len(request.body) if request.body is not None else 0
    if length is not None and (length or request.body is not None or produced or request.method in WITH_BODY):
        headers["Content-Length"] = str(length)
    if request.method == "POST" and (request.body is not None or produced):
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return length, length is None


def basic(user: str, password: str) -> str:
    """Return credentials for Authorization or Proxy-Authorization (RFC 7617), in UTF-8.

    :raises ValueError: the user contains a colon, which would begin the password.
    """
    if ":" in user:
        raise ValueError(f"a user name of basic authentication holds no colon, got {user!r}")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def proxy_authorization(settings: Settings) -> str:
    """Return the value of Proxy-Authorization, "" for none.

    :raises ValueError: the mode is not "basic".
    """
    if settings.proxy_username is None:
        return ""
    if settings.proxy_auth_mode not in (None, "basic"):
        raise ValueError(f"unsupported proxy_auth_mode {settings.proxy_auth_mode!r}: expected 'basic'")
    return basic(settings.proxy_username, settings.proxy_password or "")
