"""`websocket_connect`: the client, by Tornado's names.

The way to the server, its TLS options and redirects are those of the HTTP client, with the same classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from pollux.ioloop import IOLoop
from pollux.iostream import IOStream, StreamClosedError
from pollux.log import app_log
from pollux.resolver import Resolver
from pollux_http import HTTPHeaders
from pollux_http.client_errors import HTTPClientError, HTTPTimeoutError
from pollux_http.client_request import HTTPRequest, Settings, chosen, merged, settings_of
from pollux_http.connecting import Phases, connect, tunnel
from pollux_http.errors import HTTPInputError
from pollux_http.redirects import is_redirect, redirected
from pollux_http.request_head import request_head
from pollux_http.response_parsing import MAX_HEADER_SIZE, Head, parse_head
from pollux_http.route import route_of
from pollux_http.target import parse_url
from pollux_websocket.connection import Connection
from pollux_websocket.endpoint import Options
from pollux_websocket.errors import HandshakeError, WebSocketError
from pollux_websocket.handshake import ClientHandshake
from pollux_websocket.messaging import Messaging
from pollux_websocket.protocol import MAX_MESSAGE_SIZE, Message, make_protocol

READ_SIZE = 128 * 1024  # bytes of the stream's buffer: it holds a head at most, twice `read_chunk_size` is the least

OnMessage = Callable[[Message | None], Any]


class WebSocketClientConnection(Messaging):
    """An open connection, made by `websocket_connect`.

    Messages are taken by `read_message` or `async for`, or given to the callback, if there is one.

    :ivar headers: the fields of the server's answer.
    """

    def __init__(self, headers: HTTPHeaders, subprotocol: str | None, on_message_callback: OnMessage | None) -> None:
        self.headers = headers
        self._subprotocol = subprotocol
        self._callback = on_message_callback

    def on_message(self, message: Message) -> Any:
        """Give a message to the callback; if that returns an awaitable, the next message waits for it."""
        return self._callback and self._callback(message)

    def connection_closed(self, code: int | None, reason: str | None) -> None:
        """Called by the connection, once it is closed. The callback is told by None."""
        self.close_code, self.close_reason = code, reason
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(None)

    def read_message(  # Tornado's has a callback
        self, callback: Callable[[asyncio.Future[Message | None]], Any] | None = None
    ) -> asyncio.Future[Message | None]:
        """See `Messaging.read_message`.

        :param callback: called with the Future when it is done.
        """
        future = super().read_message()
        if callback is not None:
            IOLoop.current().add_future(future, callback)
        return future

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log what a callback has raised; the connection is closed for it."""
        app_log.error("Uncaught exception in a WebSocket client", exc_info=(typ, value, tb))  # type: ignore[arg-type]


def websocket_connect(
    url: str | HTTPRequest,
    callback: Callable[[asyncio.Future[WebSocketClientConnection]], Any] | None = None,
    connect_timeout: float | None = None,
    on_message_callback: OnMessage | None = None,
    compression_options: Mapping[str, Any] | None = None,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    subprotocols: Sequence[str] | None = None,
    resolver: Resolver | None = None,
) -> asyncio.Future[WebSocketClientConnection]:
    """Connect to a server.

    :param url: ws or wss; or an `HTTPRequest`, whose headers, credentials, TLS options, proxy and limits on redirects
        hold.
    :param callback: called with the Future when it is done.
    :param connect_timeout: seconds for all of it, redirects and handshake included; default 20.
    :param on_message_callback: called with each message, and with None at the end; without one `read_message` takes
        them.
    :param compression_options: see `WebSocketHandler.get_compression_options`; None for no compression.
    :param ping_interval: seconds between two Pings; None or 0 for none.
    :param ping_timeout: seconds in which a Ping must be answered, None for `ping_interval`.
    :param max_message_size: bytes of a message; for more the connection is closed with 1009.
    :param subprotocols: that may be spoken, in the order of preference.
    :param resolver: for the host's name.
    :returns: a task; to cancel it leaves nothing open.
    :raises ValueError: the URL, a compression option or a subprotocol is malformed.
    :raises HTTPClientError: from the Future: the server has answered otherwise; `code` is its status, or 599 for a
        timeout (`HTTPTimeoutError`).
    :raises HTTPProxyError: from the Future: the proxy refuses; a kind of `HTTPClientError`.
    :raises HandshakeError: from the Future: the server's answer is not right.
    :raises OSError: from the Future: no connection.
    """
    request = HTTPRequest(url) if isinstance(url, str) else url
    settings = merged(chosen(request), settings_of({}))._replace(decompress_response=False)
    if connect_timeout is not None:
        settings = settings._replace(connect_timeout=connect_timeout)
    connecting = _Connecting(
        settings,
        ClientHandshake(subprotocols or (), compression_options),
        on_message_callback,
        Options(ping_interval, ping_timeout),
        max_message_size,
        compression_options or {},
    )
    first = connecting.prepare(request)
    io_loop = IOLoop.current()
    task = io_loop.create_task(connecting.run(first, resolver))
    if callback is not None:
        io_loop.add_future(task, callback)
    return task


class _Connecting:
    """One call of `websocket_connect`."""

    def __init__(
        self,
        settings: Settings,
        handshake: ClientHandshake,
        callback: OnMessage | None,
        options: Options,
        max_size: int,
        compression: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._handshake = handshake
        self._callback = callback
        self._options = options
        self._max_size = max_size
        self._compression = compression

    def prepare(self, request: HTTPRequest) -> HTTPRequest:
        """Return the request of the handshake: by http or https, with the fields of RFC 6455 4.1.

        :raises ValueError: the scheme is not ws or wss.
        """
        scheme, colon, rest = request.url.partition(":")
        scheme = scheme.lower()
        if scheme not in ("ws", "wss", "http", "https"):
            raise ValueError(f"a WebSocket has a URL of ws or wss, got {request.url!r}")
        made = HTTPRequest.__new__(HTTPRequest)
        made.__dict__.update(vars(request))
        made.url = scheme.replace("ws", "http") + colon + rest
        made.headers = headers = HTTPHeaders(request.headers)
        for name, value in self._handshake.fields().items():
            headers[name] = value
        parse_url(made.url)
        return made

    async def run(self, request: HTTPRequest, resolver: Resolver | None) -> WebSocketClientConnection:
        """Connect, and follow redirects as far as they may go."""
        settings = self._settings
        hops = settings.max_redirects if settings.follow_redirects else 0
        own = Resolver() if resolver is None else None
        try:
            async with asyncio.timeout(settings.connect_timeout or None):
                while True:
                    stream, head = await self._ask(request, own or resolver)
                    if head.code == 101:
                        return self._open(stream, head)
                    stream.close()
                    if not (hops and is_redirect(head, "GET", False)):
                        break
                    hops -= 1
                    request = self._redirect(request, head)
        except TimeoutError as error:
            raise HTTPTimeoutError(
                str(error) or f"Timeout during the WebSocket handshake with {request.url}"
            ) from error
        finally:
            if own is not None:
                own.close()
        if 200 <= head.code < 300:
            raise WebSocketError(f"the server does not speak WebSocket: it answered {head.code} {head.reason}")
        raise HTTPClientError(head.code, head.reason)

    async def _ask(self, request: HTTPRequest, resolver: Any) -> tuple[IOStream, Head]:
        """Make a connection and the request on it; return the head of the response."""
        settings = self._settings._replace(
            auth_username=request.auth_username, auth_password=request.auth_password, connect_timeout=0.0
        )
        target = parse_url(request.url)
        route = route_of(target.origin, settings)
        head = request_head(request, settings, target)
        stream = await connect(route, resolver, Phases(), None, READ_SIZE, MAX_HEADER_SIZE)
        try:
            if route.proxy is not None and route.context is None:
                # RFC 6455 4.1: a WebSocket goes through a proxy by CONNECT, with TLS or without. The HTTP client
                # asks for a tunnel only with TLS.
                await tunnel(stream, route, MAX_HEADER_SIZE)
            stream.send(head.data)
            while True:
                answer = parse_head(await stream.read_until(b"\r\n\r\n", max_bytes=MAX_HEADER_SIZE))
                if answer.code >= 200 or answer.code == 101:
                    return stream, answer
        except HTTPInputError as error:
            stream.close()
            raise HandshakeError(f"the server's answer is malformed: {error}") from None
        except StreamClosedError as error:
            raise HandshakeError("the server has closed the connection during the handshake") from error
        except BaseException:
            stream.close()
            raise

    def _redirect(self, request: HTTPRequest, head: Head) -> HTTPRequest:
        """Return the next request. Never from wss to ws: what was to be secret would not be."""
        fields = tuple(
            (name, b"http" + value[2:] if name == b"location" and value[:2].lower() == b"ws" else value)
            for name, value in head.fields
        )
        try:
            following = redirected(request, head._replace(fields=fields))
        except ValueError as error:
            raise HandshakeError(f"the server redirects to where no WebSocket is: {error}") from None
        if parse_url(request.url).origin.tls and not parse_url(following.url).origin.tls:
            raise HandshakeError(f"the server redirects from wss to an unprotected URL: {following.url}")
        return following

    def _open(self, stream: IOStream, head: Head) -> WebSocketClientConnection:
        headers = HTTPHeaders.from_raw(head.fields)
        try:
            subprotocol, agreement = self._handshake.check(headers)
        except HandshakeError:
            stream.close()
            raise
        level, memory = self._compression.get("compression_level", 6), self._compression.get("mem_level", 8)
        protocol = make_protocol(True, self._max_size, agreement, level, memory)
        client = WebSocketClientConnection(headers, subprotocol, self._callback)
        client._connection = Connection(stream, protocol, client, self._options, pull_only=self._callback is None)
        client._connection.start()
        return client
