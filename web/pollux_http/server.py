"""`HTTPServer`: listens, and makes a `ServerConnection` of each stream.

Deadlines are kept by one coarse sweep over the connections, not by a timer for each: a timeout is a guard against the
stuck and the hostile, a second more or less is nothing to it, and what it would cost per request is. The same sweep
moves `Date` on. It runs only while there are connections.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from pollux.errors import PolluxError
from pollux.ioloop import IOLoop
from pollux.iostream import IOStream
from pollux.log import app_log, gen_log
from pollux.socketstream import HANDSHAKE_TIMEOUT
from pollux.tcpserver import TCPServer
from pollux_http.asgi import ASGIAdapter
from pollux_http.connection import ServerConnection
from pollux_http.delegates import HTTPServerConnectionDelegate
from pollux_http.forwarded import EVERYBODY, Forwarded
from pollux_http.headers import HTTPHeaders
from pollux_http.hosting import hosted
from pollux_http.parsing import MAX_BODY_SIZE, MAX_HEADER_SIZE, HeadParser, Limits
from pollux_http.preface import ProxyPreface
from pollux_http.request import HTTPServerRequest
from pollux_http.response import ResponseHeads, error_response
from pollux_http.wsgi import WSGIContainer

SWEEP_INTERVAL = 1.0  # seconds: the resolution of `Date`, and so of everything else


class HTTPServer(TCPServer):
    """An HTTP/1.1 server.

    :param request_callback: a `pollux_web.Application` or another callable that takes an `HTTPServerRequest` and
        answers through `request.connection`, at once or later; an ASGI 3 application; or a WSGI application.
    :param interface: "pollux", "asgi" or "wsgi" if the signature does not tell ("auto").
    :param no_keep_alive: close each connection after its first response.
    :param idle_connection_timeout: seconds a kept-alive connection may be silent between two requests (Tornado's
        default).
    :param header_timeout: seconds from the first byte of a request to the end of its head.
    :param body_timeout: seconds that a request body may make no progress.
    :param send_timeout: seconds that a client may read nothing of what it is being sent.
    :param max_header_size: bytes of request line and header fields; more is answered 431.
    :param max_body_size: bytes of a request body; more is answered 413.
    :param decompress_request: undo gzip and deflate of request bodies; `max_body_size` holds for what comes out.
    :param protocol: "https" where TLS ends before us and nothing says so; None for that of the connection.
    :param xheaders: believe every peer's X-Forwarded-For, X-Real-Ip, X-Forwarded-Proto and X-Scheme.
    :param trusted_downstream: addresses of further proxies, which X-Forwarded-For may name behind the client's.
    :param proxies: addresses or networks of the only peers that are believed so; given, it replaces `xheaders`.
    :param proxy_protocol: each connection begins with a header of the PROXY protocol, version 1 or 2.
    :param max_connections: when so many are open, a new one takes the place of the longest idle one; if none is idle it
        is answered 503. None: no limit.
    :param limit_concurrency: requests being answered at once; more are answered 503. None: no limit.
    :param ssl_options: serve TLS, see `TCPServer`.
    :param max_buffer_size: as in `TCPServer`; also the default of `max_body_size`, as in Tornado.
    :param chunk_size: bytes that are read at once, default 64 KiB; see `read_chunk_size` of `TCPServer`.
    :param handshake_timeout: seconds that a client has for the TLS handshake.
    :param app_options: for the adapter of an ASGI or WSGI application, see `pollux_http.hosting.hosted`.
    :raises pollux_http.interface.InterfaceError: it is no application.
    """

    linger_timeout = 2.0  # seconds: enough for a round trip around the world, after which a client has seen the answer

    def __init__(
        self,
        request_callback: Callable[..., Any],
        *,
        interface: str = "auto",
        no_keep_alive: bool = False,
        idle_connection_timeout: float = 3600.0,
        header_timeout: float = 60.0,
        body_timeout: float = 60.0,
        send_timeout: float = 60.0,
        max_header_size: int = MAX_HEADER_SIZE,
        max_body_size: int | None = None,
        decompress_request: bool = False,
        protocol: str | None = None,
        xheaders: bool = False,
        trusted_downstream: Iterable[str] = (),
        proxies: Iterable[str] | None = None,
        proxy_protocol: bool = False,
        max_connections: int | None = None,
        limit_concurrency: int | None = None,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
        max_buffer_size: int | None = None,
        chunk_size: int | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        **app_options: Any,
    ) -> None:
        super().__init__(ssl_options, max_buffer_size, chunk_size, handshake_timeout=handshake_timeout)
        self.io_loop = IOLoop.current()
        self.application = hosted(request_callback, interface, **app_options)
        self.request_callback: Callable[[HTTPServerRequest], object] = self.application
        self.streams_body: Callable[[HTTPServerRequest], bool] | None = getattr(self.application, "streams_body", None)
        # What has a life of its own. By type, not by name: an application of the user's may call anything `shutdown`.
        self._startup = self.application.startup if isinstance(self.application, ASGIAdapter) else None
        self._shutdown: Callable[[float | None], Awaitable[None]] | None = None
        if isinstance(self.application, ASGIAdapter | WSGIContainer):
            self._shutdown = self.application.shutdown
        self._tell_close: Callable[[object], None] | None = None
        if isinstance(self.application, HTTPServerConnectionDelegate):
            self._tell_close = self.application.on_close
        self.keep_alive = not no_keep_alive  # False: each response is its connection's last
        self.idle_connection_timeout = idle_connection_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.send_timeout = send_timeout
        self.limits = Limits(max_header_size, max_body_size or max_buffer_size or MAX_BODY_SIZE)
        self.decompress_request = decompress_request
        self.protocol = protocol or ("http" if ssl_options is None else "https")
        self.forwarded: Forwarded | None = None  # None: nobody is believed
        if proxies is not None:
            self.forwarded = Forwarded(proxies, trusted_downstream)
        elif xheaders:
            self.forwarded = Forwarded([EVERYBODY], trusted_downstream)
        self.max_connections = max_connections
        self.limit_concurrency = limit_concurrency
        self.live = 0  # requests being answered, if there is a limit on them
        if limit_concurrency is not None:
            self.request_callback = self._admit
        self._proxy_protocol = proxy_protocol
        self.heads = ResponseHeads()
        self.parse_head = HeadParser(self.limits).parse
        self.attend: Callable[[HTTPServerRequest], object] | None = (
            None  # called with each request, before it is served
        )
        self.now = self.io_loop.time()  # as of the last sweep
        self._sweep_interval = min(
            SWEEP_INTERVAL, *(t / 4 for t in (idle_connection_timeout, header_timeout, body_timeout, send_timeout))
        )
        self._sweep: asyncio.TimerHandle | None = None
        self._connections: set[ServerConnection | ProxyPreface] = set()
        self._all_closed: asyncio.Future[None] | None = None

    # Connections

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection; use this to feed one that was accepted elsewhere."""
        stream.set_nodelay(True)  # a response is one write: Nagle would hold back the last piece of a large one
        # Only where it is needed, as it is called for each request.
        timed = getattr(self.application, "log_function", None) is not None
        self.attend = self._attend if timed or self.forwarded or self.protocol != "http" else None
        if self._sweep is None:
            self._sweep_now()
        if self.max_connections is not None and len(self._connections) >= self.max_connections:
            idle = [connection for connection in self._connections if not connection.busy]
            if not idle:
                gen_log.warning("turned %s away: %d connections are busy", address or "a client", self.max_connections)
                stream.send(error_response(503, "too many connections"))
                stream.close()
                return
            min(idle, key=lambda connection: connection.since).close()
        if self._proxy_protocol:
            self._connections.add(ProxyPreface(self, stream, address))
        else:
            self._connections.add(ServerConnection(self, stream, address))

    def replace(self, preface: ProxyPreface, address: Any) -> ServerConnection:
        """Make a connection of one whose PROXY protocol header has come."""
        self._connections.discard(preface)
        connection = ServerConnection(self, preface.stream, address)
        self._connections.add(connection)
        return connection

    def forget(self, connection: ServerConnection | ProxyPreface) -> None:
        """Called by a connection that has closed, or was taken over."""
        self._connections.discard(connection)
        if self._tell_close is not None and isinstance(connection, ServerConnection):
            self._tell_close(connection)
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

    def _attend(self, request: HTTPServerRequest) -> None:
        request.started = monotonic()
        request.protocol = self.protocol
        if self.forwarded is not None:
            address = request.connection.address
            peer = address[0] if isinstance(address, tuple) else None
            client, request.protocol = self.forwarded.origin(request.headers, peer, request.protocol)
            if client is not None:
                request.remote_ip = client

    def _admit(self, request: HTTPServerRequest) -> None:
        """In place of the application where `limit_concurrency` is set: count what is being answered."""
        connection = request.connection
        if self.limit_concurrency is not None and self.live >= self.limit_concurrency:
            headers = HTTPHeaders({"Content-Type": "text/plain; charset=UTF-8", "Retry-After": "1"})
            connection.respond(503, headers=headers, body=b"503 Service Unavailable: too many requests at once\n")
            return
        self.live += 1
        connection.live = True
        self.application(request)

    # Life

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """See `TCPServer.add_sockets`. An application that has a start-up of its own (ASGI's lifespan) is started in
        the background, unless `startup` was awaited before; requests wait for it."""
        super().add_sockets(sockets)
        if self._startup is not None:
            self.io_loop.add_callback(self._start_up_later)

    async def _start_up_later(self) -> None:
        try:
            await self.startup()
        except PolluxError as error:
            app_log.error("%s; every request is answered 500", error)

    async def startup(self) -> None:
        """Start the application, if it has a start-up of its own (ASGI's lifespan): once, and before listening.

        :raises pollux_http.lifespan.LifespanError: it cannot start.
        """
        if self._startup is not None:
            await self._startup()

    async def shutdown(self, timeout: float | None = 30.0, drain: float = 0.0) -> int:
        """Stop gracefully: listen no more, close idle connections, let running requests finish, end the application.

        Who has connected, or has sent a request, by now is answered, even if nobody has looked yet.

        :param timeout: seconds after which what still runs is cut off; None waits without limit.
        :param drain: seconds that idle connections stay open, within `timeout`. Each may bring one more request, whose
            answer says `Connection: close`: clients that go to a successor of this server then notice nothing.
        :returns: the number of connections that were cut off.
        """
        self.accept_arrived()
        self.stop()
        self.keep_alive = False
        until = None if timeout is None else self.io_loop.time() + timeout
        if drain:
            await self._wait_until_closed(drain if timeout is None else min(drain, timeout))
        for connection in list(self._connections):
            connection.close_if_idle()
        await self._wait_until_closed(None if until is None else max(0.0, until - self.io_loop.time()))
        cut_off = self.busy
        for connection in list(self._connections):
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._shutdown is not None:
            await self._shutdown(None if until is None else max(0.0, until - self.io_loop.time()))
        return cut_off

    async def _wait_until_closed(self, timeout: float | None) -> None:
        if self._connections:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=timeout)

    async def close_all_connections(self, timeout: float | None = None) -> None:
        """Let running requests finish, and close every connection. Tornado's name: call `stop` first.

        :param timeout: as of `shutdown`; None, as in Tornado, closes at once what no request runs on, and waits for the
            rest.
        """
        await self.shutdown(timeout)

    @property
    def busy(self) -> int:
        """The number of connections with a request on its way in, being answered, or its answer on its way out."""
        return sum(connection.busy for connection in self._connections)

    def __repr__(self) -> str:
        where = ", ".join(str(sock.getsockname()) for sock in self.sockets) or "nowhere"
        return f"<{type(self).__name__} on {where}, {len(self._connections)} connections>"


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return the URL that a listening socket answers on."""
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"{scheme}+unix://{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
