"""Errors of the HTTP client, by Tornado's names (docs: tornado.httpclient, tornado.simple_httpclient)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pollux_http.response import reason_phrase

if TYPE_CHECKING:
    from pollux_http.client_response import HTTPResponse

NO_RESPONSE = 599  # the code where there was no response: Tornado's, no server's


class HTTPClientError(Exception):
    """A fetch did not succeed: the status is no 2xx, or there was no response.

    :param code: the status; 599 if there was no response.
    :param message: default: the usual reason phrase of `code`.
    :param response: the `HTTPResponse`, if there was one.
    """

    def __init__(self, code: int, message: str | None = None, response: HTTPResponse | None = None) -> None:
        self.code = code
        self.message = message or reason_phrase(code)
        self.response = response
        super().__init__(code, message, response)

    def __str__(self) -> str:
        return f"HTTP {self.code}: {self.message}"

    __repr__ = __str__  # not by `args`: the response refers to its error, too


HTTPError = HTTPClientError  # the name before Tornado 5.1


class HTTPTimeoutError(HTTPClientError):
    """The time is over; the words tell the phase: in the queue, resolving, connecting, TLS, the request."""

    def __init__(self, message: str) -> None:
        super().__init__(NO_RESPONSE, message)

    def __str__(self) -> str:
        return self.message

    __repr__ = __str__


class HTTPStreamClosedError(HTTPClientError):
    """The connection was closed before the response was complete."""

    def __init__(self, message: str) -> None:
        super().__init__(NO_RESPONSE, message)

    def __str__(self) -> str:
        return self.message

    __repr__ = __str__


class HTTPResponseError(HTTPStreamClosedError):
    """What the server sent is malformed or past a limit, so the connection was closed."""


class HTTPProxyError(HTTPStreamClosedError):
    """The proxy refused the tunnel (CONNECT), or did not answer in HTTP.

    :ivar status: what the proxy answered, None if that was no HTTP.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
