"""`HTTPServer`: listens, and makes a `ServerConnection` of each stream.

Deadlines are kept by one coarse sweep over the connections, not by a timer for each: a timeout is a guard against the
stuck and the hostile, a second more or less is nothing to it, and what it would cost per request is. The same sweep
moves `Date` on. It runs only while there are connections.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from pollux.ioloop import IOLoop
from pollux.iostream import IOStream
from pollux.tcpserver import TCPServer
from pollux_http.connection import ServerConnection
from pollux_http.parsing import MAX_BODY_SIZE, MAX_HEADER_SIZE, HeadParser, Limits
from pollux_http.request import HTTPServerRequest
from pollux_http.response import ResponseHeads

SWEEP_INTERVAL = 1.0  # seconds: the resolution of `Date`, and so of everything else


class HTTPServer(TCPServer):
    """An HTTP/1.1 server.

    :param request_callback: called with each complete `HTTPServerRequest`; answers through `request.connection`, at
        once or later. A `pollux_web.Application` is one.
    :param no_keep_alive: close each connection after its first response.
    :param idle_connection_timeout: seconds a kept-alive connection may be silent between two requests (Tornado's
        default).
    :param header_timeout: seconds from the first byte of a request to the end of its head.
    :param body_timeout: seconds that a request body may make no progress.
    :param send_timeout: seconds that a client may read nothing of what it is being sent.
    :param max_header_size: bytes of request line and header fields; more is answered 431.
    :param max_body_size: bytes of a request body; more is answered 413.
    """

    linger_timeout = 2.0  # seconds: enough for a round trip around the world, after which a client has seen the answer

    def __init__(
        self,
        request_callback: Callable[[HTTPServerRequest], object],
        *,
        no_keep_alive: bool = False,
        idle_connection_timeout: float = 3600.0,
        header_timeout: float = 60.0,
        body_timeout: float = 60.0,
        send_timeout: float = 60.0,
        max_header_size: int = MAX_HEADER_SIZE,
        max_body_size: int = MAX_BODY_SIZE,
    ) -> None:
        super().__init__()
        self.io_loop = IOLoop.current()
        self.request_callback = request_callback
        self.closing = self.no_keep_alive = no_keep_alive  # each response is its connection's last
        self.idle_connection_timeout = idle_connection_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.send_timeout = send_timeout
        self.limits = Limits(max_header_size, max_body_size)
        self.heads = ResponseHeads()
        self.parse_head = HeadParser(self.limits).parse
        self.timed = False  # requests note when they came
        self.now = self.io_loop.time()  # as of the last sweep
        self._sweep_interval = min(
            SWEEP_INTERVAL, *(t / 4 for t in (idle_connection_timeout, header_timeout, body_timeout, send_timeout))
        )
        self._sweep: asyncio.TimerHandle | None = None
        self._connections: set[ServerConnection] = set()
        self._all_closed: asyncio.Future[None] | None = None

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection; use this to feed one that was accepted elsewhere."""
        stream.set_nodelay(True)  # a response is one write: Nagle would hold back the last piece of a large one
        self.timed = getattr(self.request_callback, "log_function", None) is not None
        if self._sweep is None:
            self._sweep_now()
        self._connections.add(ServerConnection(self, stream, address))

    def forget(self, connection: ServerConnection) -> None:
        """Called by a connection that has closed."""
        self._connections.discard(connection)
        if not self._connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    def _sweep_now(self) -> None:
        self.now = now = self.io_loop.time()
        self.heads.refresh()
        if self._connections or self._sweep is None:
            self._sweep = self.io_loop.call_later(self._sweep_interval, self._sweep_now)
        else:
            self._sweep = None
        for connection in list(self._connections):
            connection.check_deadline(now)

    async def shutdown(self, timeout: float | None = 30.0) -> int:
        """Stop gracefully: listen no more, close idle connections, let running requests finish.

        :param timeout: seconds after which what still runs is cut off; None waits without limit.
        :returns: the number of connections that were cut off.
        """
        self.stop()
        self.closing = True
        for connection in list(self._connections):
            if not connection.busy:
                connection.stream.close()
        if self._connections:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=timeout)
        left = list(self._connections)
        for connection in left:
            connection.stream.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        return len(left)

    @property
    def busy(self) -> int:
        """The number of connections with a request on its way in, being answered, or its answer on its way out."""
        return sum(connection.busy for connection in self._connections)

    def __repr__(self) -> str:
        where = ", ".join(str(sock.getsockname()) for sock in self.sockets) or "nowhere"
        return f"<{type(self).__name__} on {where}, {len(self._connections)} connections>"


def url_of(sock: socket.socket) -> str:
    """Return the URL that a listening socket answers on."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"http+unix://{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
