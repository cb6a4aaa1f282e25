"""Tornado's interfaces beneath handlers: `HTTPConnection`, which a request is answered through, and the delegates that
a router or a server of one's own hands requests to.

Here a router may just as well return a function that takes the request, and a delegate is such a function: called with
a request, it gives itself head, body and end. A body is whole by then and comes in one piece; who wants it as it comes
uses `stream_request_body`, or `take_body` of the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from pollux.ioloop import IOLoop
from pollux.log import app_log
from pollux_http.headers import HTTPHeaders
from pollux_http.start_line import RequestStartLine, ResponseStartLine

if TYPE_CHECKING:
    from pollux_http.request import HTTPServerRequest


class HTTPConnection:
    """Where a request is answered: `request.connection`. What answers implements `start`, `write` and `finish`."""

    __slots__ = ()

    def start(self, status: int, reason: str | None, headers: HTTPHeaders) -> None:
        """Send the head of a response."""
        raise NotImplementedError(f"{type(self).__name__} does not say start()")

    def write(self, chunk: bytes) -> Awaitable[None]:
        """Send a part of its body.

        :returns: an awaitable that is done when the kernel has taken all that was sent.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say write()")

    def write_file(self, file: BinaryIO, offset: int, count: int) -> Awaitable[None]:
        """Send a part of a file as a part of the body, and close the file.

        :param offset: of the first byte.
        :param count: bytes.
        """
        with file:
            file.seek(offset)
            return self.write(file.read(count))

    def finish(self) -> None:
        """End the response."""
        raise NotImplementedError(f"{type(self).__name__} does not say finish()")

    def write_headers(
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> Awaitable[None]:
        """Send the head of a response and, with `chunk`, the first part of its body. Tornado's name for `start`.

        :param start_line: its version does not matter: it is that of the server.
        :returns: see `write`.
        """
        self.start(start_line.code, start_line.reason, headers)
        return self.write(chunk or b"")


class HTTPMessageDelegate:
    """Takes a request in parts. Override what you need."""

    def headers_received(self, start_line: RequestStartLine, headers: HTTPHeaders) -> Awaitable[None] | None:
        """Take the head; may be a coroutine, as may `data_received`."""
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take the body; not called if there is none."""
        return None

    def finish(self) -> None:
        """The request is complete: answer it, through the connection that you were made with."""

    def on_connection_close(self) -> None:
        """The client has gone before it was answered."""

    def __call__(self, request: HTTPServerRequest) -> None:
        """Take a request from its head to its end."""
        request.connection.on_close = self.on_connection_close
        IOLoop.current().start_task(self._take(request))

    async def _take(self, request: HTTPServerRequest) -> None:
        try:
            start_line = RequestStartLine(request.method, request.uri, request.version)
            result = self.headers_received(start_line, request.headers)
            if result is not None:
                await result
            if request.body:
                result = self.data_received(request.body)
                if result is not None:
                    await result
            self.finish()
        except Exception:
            app_log.error("Uncaught exception in %s %r", request.method, request.uri, exc_info=True)
            request.connection.abandon(request)


class HTTPServerConnectionDelegate:
    """What a server of one's own is made of: `HTTPServer(delegate)`."""

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Return what takes a request.

        :param server_conn: the same for all requests of a connection.
        :param request_conn: where it is answered.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say start_request()")

    def on_close(self, server_conn: object) -> None:
        """A connection has closed."""

    def __call__(self, request: HTTPServerRequest) -> None:
        """Have a request taken."""
        connection = request.connection
        self.start_request(connection, connection)(request)


class Answer(Protocol):
    """What answers a request when it is called with it: a function, or a delegate."""

    def __call__(self, request: HTTPServerRequest, /) -> object: ...
