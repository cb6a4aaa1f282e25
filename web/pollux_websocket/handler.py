"""`WebSocketHandler`: subclass it and define `on_message`. Names and meanings are Tornado 6's.

Two styles: callbacks (`open`, `on_message`, `on_close`), the first two plain or coroutines; or one coroutine, `open`,
that takes the messages itself by `async for message in self`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from urllib.parse import urlsplit

from pollux_http import HTTPHeaders
from pollux_web import RequestHandler
from pollux_websocket.connection import Connection
from pollux_websocket.errors import HandshakeError
from pollux_websocket.handshake import SUPPORTED, read_offer
from pollux_websocket.messaging import Messaging
from pollux_websocket.opening import accept, options_of
from pollux_websocket.protocol import MAX_MESSAGE_SIZE, Message


class WebSocketHandler(Messaging, RequestHandler):
    """Serves one WebSocket connection.

    Settings of the application: `websocket_ping_interval` and `websocket_ping_timeout` (seconds; none, and the
    interval), `websocket_max_message_size` (bytes; 10 MiB), `websocket_max_unsent` (bytes that may wait for a client
    that does not read; 16 MiB), `websocket_close_timeout` (seconds; 5).

    Origins, subprotocols and compression are asked for in the opening handshake.
    """

    # To override

    def open(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Called when the connection is open, with the arguments found in the path. May be a coroutine: `on_message` is
        not called before it is done."""

    def on_message(self, message: Message) -> Awaitable[None] | None:
        """Take a message: a str is text, bytes are binary. May be a coroutine: the next message waits for it."""
        raise NotImplementedError(f"{type(self).__name__} got a message and has no on_message()")

    def on_close(self) -> None:
        """Called once, when the connection is closed; `close_code` and `close_reason` say why, if the client has."""

    def check_origin(self, origin: str) -> bool:
        """Return whether a page of `origin` may connect. Asked of browsers only; others send no origin.

        By default only pages of this very host and port may: a page of any site can make its visitors' browsers connect
        here, with their cookies.
        """
        return urlsplit(origin).netloc.lower() == self.request.host.lower()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Return which of the client's subprotocols is spoken, None for none.

        :param subprotocols: in the client's order; empty if it has named none.
        """

    def get_compression_options(self) -> dict[str, Any] | None:
        """Return options for permessage-deflate, {} for the usual ones; None (the default): no compression.

        `compression_level` (0 to 9; 6), `mem_level` (1 to 9; 8), `server_no_context_takeover` and
        `client_no_context_takeover` (False), `server_max_window_bits` and `client_max_window_bits` (9 to 15; 15).
        """

    @property
    def ping_interval(self) -> float | None:
        """Seconds between two Pings, None or 0 for none."""
        return self.settings.get("websocket_ping_interval")

    @property
    def ping_timeout(self) -> float | None:
        """Seconds in which a Ping must be answered, None for `ping_interval`."""
        return self.settings.get("websocket_ping_timeout")

    @property
    def max_message_size(self) -> int:
        """Bytes of a message; the connection is closed for more, with code 1009."""
        return int(self.settings.get("websocket_max_message_size") or MAX_MESSAGE_SIZE)

    @property
    def ws_connection(self) -> Connection | None:
        """The connection; None before it is open, and once it is closing."""
        connection = self._connection
        return None if connection is None or connection.is_closing else connection

    # The handshake

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Do the opening handshake, and open the connection."""
        request = self.request
        try:
            offer = read_offer(request.method, request.http11, request.headers)
        except HandshakeError as error:
            if error.status == 426:
                self.set_header("Sec-WebSocket-Version", SUPPORTED)
                self.set_header("Upgrade", "websocket")
                self.set_header("Connection", "Upgrade")
            self._refuse(error.status, str(error))
            return
        if offer.origin is not None and not self.check_origin(offer.origin):
            self._refuse(403, "Cross origin websockets not allowed")
            return
        self._subprotocol = self.select_subprotocol(offer.subprotocols)
        options = options_of(self.settings, self.ping_interval, self.ping_timeout)
        compression, fields = self.get_compression_options(), self._fields()
        connection, rest = accept(
            request, offer, self, options, self.max_message_size, compression, self._subprotocol, fields
        )
        self._finished = True
        self._connection = connection
        self._status_code = 101
        self._done()
        self._headers = None  # most of what an idle connection would keep; made anew if asked for
        opening = None
        try:
            opening = self.open(*args, **kwargs)
        except Exception as error:
            self.log_exception(type(error), error, error.__traceback__)
            connection.close_with(1011, "")
        connection.start(opening, rest)

    def _refuse(self, status: int, message: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(message)

    def _fields(self) -> HTTPHeaders:
        """Return the fields that the program has set, cookies included."""
        fields = self._own_headers().copy()
        if self._new_cookies is not None:
            for cookie in self._new_cookies.values():
                fields.add("Set-Cookie", cookie.OutputString())
        return fields

    # What answers HTTP requests is over once the connection is open. (`write` and `finish` say so by themselves.)

    def _own_headers(self) -> HTTPHeaders:
        self._check_http()
        return super()._own_headers()

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        """See `RequestHandler.set_status`.

        :raises RuntimeError: the connection is open.
        """
        self._check_http()
        super().set_status(status_code, reason)

    def flush(self, include_footers: bool = False) -> Awaitable[None]:
        """See `RequestHandler.flush`.

        :raises RuntimeError: the connection is open.
        """
        self._check_http()
        return super().flush(include_footers)

    def _check_http(self) -> None:
        if self._connection is not None:
            raise RuntimeError("the WebSocket is open: use write_message() and close(), HTTP's methods came before")

    def connection_closed(self, code: int | None, reason: str | None) -> None:
        """Called by the connection, once it is closed."""
        self.close_code, self.close_reason = code, reason
        self.on_close()
