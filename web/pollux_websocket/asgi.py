"""WebSockets of ASGI 3 applications (https://asgi.readthedocs.io/en/stable/specs/www.html#websocket).

`pollux_http.asgi` finds `serve` by an entry point. A handshake waits for the application, which accepts, or refuses by
`websocket.close` (403) or by a response of its own (`websocket.http.response`). What the client sends meanwhile waits.

What the specification leaves open
----------------------------------
* `send` waits until the kernel has taken the message. On a connection that is closed, or closing, it raises an
  `OSError`, whether or not the application has received the disconnect.
* What is not received is bounded as for any connection: then the client is read no further.
* A disconnect has the code of the client's Close; 1005 if that has none, 1006 if there was no Close; where the client
  broke the protocol, the code that it was told.
* An application that returns without `websocket.close` has said all it wanted to: 1000. One that raises: 1011, or 500
  if it had not accepted. One that is cancelled, as the server ends: 1001, or 503.
* To cancel a `receive` loses no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pollux.log import app_log
from pollux_http import HTTPHeaders
from pollux_http.asgi import ClientDisconnectedError, Exchange, is_disconnect
from pollux_http.asgi_heads import checked, fields_of
from pollux_websocket.connection import Connection
from pollux_websocket.errors import HandshakeError, WebSocketClosedError
from pollux_websocket.frames import GOING_AWAY, INTERNAL_ERROR, NO_CLOSE, NO_STATUS, NORMAL
from pollux_websocket.handshake import SUPPORTED, Offer, read_offer
from pollux_websocket.opening import accept, options_of
from pollux_websocket.protocol import MAX_MESSAGE_SIZE, Message

if TYPE_CHECKING:
    from pollux_http import HTTPServerRequest
    from pollux_http.asgi import ASGIAdapter

VERSIONS = {"version": "3.0", "spec_version": "2.5"}  # 2.4: `send` raises OSError; 2.5: a disconnect has a reason
RESPONSE = "websocket.http.response"
PING_INTERVAL = 20.0  # seconds: an application of ASGI cannot ping, so the server does, as often as uvicorn

# Where a session is.
_ASKED, _RESPONDING, _OPEN, _OVER = range(4)
_EXPECTED = (
    f"'websocket.accept', 'websocket.close' or '{RESPONSE}.start'",
    f"'{RESPONSE}.body'",
    "'websocket.send' or 'websocket.close'",
    "nothing: the WebSocket was closed or refused",
)


def serve(adapter: ASGIAdapter, request: HTTPServerRequest) -> Coroutine[Any, Any, None] | None:
    """Return what serves a request for a WebSocket; None if it is no right one, and was answered.

    `adapter.settings` may have the settings of `WebSocketHandler`, with 20 seconds for `websocket_ping_interval`, and
    `websocket_compression`: options of compression, or None, the default, for none.
    """
    try:
        offer = read_offer(request.method, request.http11, request.headers)
    except HandshakeError as error:
        headers = HTTPHeaders({"Content-Type": "text/plain; charset=UTF-8"})
        if error.status == 426:
            headers["Sec-WebSocket-Version"] = SUPPORTED
        request.connection.respond(error.status, headers=headers, body=f"{error}\n".encode())
        adapter.log(request, error.status)
        return None
    session = _Session(adapter, request, offer)
    request.connection.on_close = session.gone
    return session.run()


class _Session:
    """One WebSocket: the application's `receive` and `send`, and the endpoint of the connection."""

    def __init__(self, adapter: ASGIAdapter, request: HTTPServerRequest, offer: Offer) -> None:
        self._adapter = adapter
        self._request = request
        self._offer = offer
        self._exchange = Exchange(adapter, request)  # answers what is refused
        self._phase = _ASKED
        self._asked = False  # `websocket.connect` was received
        self._gone = False  # the client has, before it was answered
        self._answer: asyncio.Event | None = None  # there is one, or nobody to give it to
        self._connection: Connection | None = None  # once it is accepted
        self._reading: asyncio.Future[Message | None] | None = None  # what a cancelled `receive` has waited for
        self._ending = {"type": "websocket.disconnect", "code": NO_CLOSE, "reason": ""}

    async def run(self) -> None:
        """Call the application, and end what it has left open."""
        adapter, where = self._adapter, self._request.uri
        try:
            if not adapter.started:
                await adapter.startup()
            await adapter.application(self._scope(), self.receive, self.send)
        except Exception as error:
            if not is_disconnect(error):
                app_log.error("Exception in the application: WebSocket %r", where, exc_info=True)
            self._end(500, INTERNAL_ERROR)
        except BaseException:  # cancelled, or the end of the process
            self._end(503, GOING_AWAY)
            raise
        else:
            if self._phase in (_ASKED, _RESPONDING) and not self._gone:
                app_log.error("the application has neither accepted nor refused the WebSocket %r", where)
            self._end(500, NORMAL)

    def _scope(self) -> dict[str, Any]:
        request = self._request
        scope = self._adapter.scope(request, request.connection)
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"] = VERSIONS.copy()
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = self._offer.subprotocols.copy()
        scope["extensions"] = {RESPONSE: {}}
        return scope

    def _end(self, status: int, code: int) -> None:
        """The application is done."""
        connection = self._connection
        if connection is None:
            if self._phase != _OVER:
                self._exchange.give_up(status)
        else:
            connection.close_with(code, "")
            connection.push()  # to `on_message`: nobody receives any more
        self._phase = _OVER

    # Receiving

    async def receive(self) -> dict[str, Any]:
        """Return the next event: the client's wish to connect, its messages, its disconnect."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        if self._phase in (_ASKED, _RESPONDING) and not self._gone:
            if self._answer is None:
                self._answer = asyncio.Event()
            await self._answer.wait()
        connection = self._connection
        if connection is None:
            return self._ending
        reading = self._reading
        if reading is None:
            reading = self._reading = connection.read_message()
        try:
            message = await reading
        except asyncio.CancelledError:
            if reading.cancelled():  # else it has brought a message, for the next one who asks
                self._reading = None
            raise
        self._reading = None
        if message is None:
            return self._ending
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message, "bytes": None}
        return {"type": "websocket.receive", "bytes": message, "text": None}

    def gone(self) -> None:
        """The client has gone away, or has ended its side, before it was answered."""
        self._gone = True
        self._exchange.closed()
        self._settle()

    def _settle(self) -> None:
        if self._answer is not None:
            self._answer.set()

    # Sending

    async def send(self, message: dict[str, Any]) -> None:
        """Take an event of the application.

        :raises ClientDisconnectedError: there is nobody to send it to.
        :raises RuntimeError: it does not come at its place.
        :raises ValueError: what it holds cannot be sent.
        """
        kind = message["type"]
        phase = self._phase
        if kind == "websocket.send" and phase == _OPEN:
            await self._send(message)
        elif kind == "websocket.close" and phase == _OPEN:
            self._opened().close_with(message.get("code") or NORMAL, message.get("reason") or "")
            self._phase = _OVER
        elif phase == _ASKED and kind == "websocket.accept":
            self._accept(message)
        elif phase == _ASKED and kind == "websocket.close":
            self._phase = _OVER
            self._exchange.give_up(403)
            self._settle()
        elif kind == f"{RESPONSE}.start" and phase == _ASKED:
            await self._exchange.send(message | {"type": "http.response.start"})
            self._phase = _RESPONDING
        elif kind == f"{RESPONSE}.body" and phase == _RESPONDING:
            await self._exchange.send(message | {"type": "http.response.body"})
            if not message.get("more_body", False):
                self._phase = _OVER
                self._settle()
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}, expected {_EXPECTED[phase]}")

    def _accept(self, message: dict[str, Any]) -> None:
        request, settings = self._request, self._adapter.settings
        if self._gone:
            raise ClientDisconnectedError
        interval = settings.get("websocket_ping_interval", PING_INTERVAL)
        connection, rest = accept(
            request,
            self._offer,
            self,
            options_of(settings, interval, settings.get("websocket_ping_timeout")),
            settings.get("websocket_max_message_size", MAX_MESSAGE_SIZE),
            settings.get("websocket_compression"),
            message.get("subprotocol"),
            fields_of(checked(message.get("headers") or ())),
            pull_only=True,
        )
        self._connection = connection
        self._phase = _OPEN
        self._adapter.log(request, 101)
        connection.start(rest=rest)
        self._settle()

    def _opened(self) -> Connection:
        """Return the connection that is open.

        :raises ClientDisconnectedError: it is not, any more.
        """
        connection = self._connection
        if connection is None or connection.is_closing:
            raise ClientDisconnectedError
        return connection

    async def _send(self, message: dict[str, Any]) -> None:
        payload, text = message.get("bytes"), message.get("text")
        binary = payload is not None
        if payload is None:
            if not isinstance(text, str):
                raise ValueError(f"'websocket.send' has bytes or text, got {message!r}")
            payload = text.encode()
        taken = self._opened().write(bytes(payload), binary)
        if not taken.done():
            try:
                await taken
            except WebSocketClosedError:
                raise ClientDisconnectedError from None

    # For the connection

    def on_message(self, message: Message) -> None:
        """A message that has come when the application was done: nobody wants it."""

    def on_ping(self, data: bytes) -> None:
        """Applications do not learn of Pings."""

    on_pong = on_ping

    def connection_closed(self, code: int | None, reason: str | None) -> None:
        """The connection is closed: `receive` tells it."""
        connection = self._connection
        if code is None and connection is not None and connection.ending is not None:
            code = NO_STATUS
        self._ending |= {"code": code or NO_CLOSE, "reason": reason or ""}

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Never called, as nothing of the above raises."""
