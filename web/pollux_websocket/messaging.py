"""`Messaging`: what handlers and clients do with an open connection, by Tornado's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pollux_web.escape import json_encode
from pollux_websocket.errors import WebSocketClosedError

if TYPE_CHECKING:
    from asyncio import Future
    from typing import Self

    from pollux_websocket.connection import Connection
    from pollux_websocket.protocol import Message


class Messaging:
    """Sends and receives messages, and is an async iterator over those that come.

    :ivar close_code: with which the other side has closed; None if it has not said.
    :ivar close_reason: why; None if it has not said.
    """

    close_code: int | None = None
    close_reason: str | None = None
    _connection: Connection | None = None
    _subprotocol: str | None = None

    @property
    def selected_subprotocol(self) -> str | None:
        """The subprotocol that is spoken, None for none."""
        return self._subprotocol

    def write_message(self, message: Message | dict[str, Any], binary: bool = False) -> Future[None]:
        """Send a message.

        :param message: a dict is sent as JSON. Bytes are sent as text, too, unless `binary`.
        :returns: done when the kernel has taken it: await it, so that a peer that reads slowly slows this down. It may
            be shared.
        :raises WebSocketClosedError: the connection is closed or closing; also from the Future.
        :raises ValueError: bytes that are to be text are not UTF-8.
        """
        connection = self._connection
        if connection is None or connection.is_closing:
            raise WebSocketClosedError("the WebSocket connection is not open, or no more")
        if type(message) is str:
            payload = message.encode()
        else:
            payload = message if binary and type(message) is bytes else payload_of(message, binary)
        heads = connection.short_heads
        if heads is None or len(payload) > 125:
            return connection.write(payload, binary)
        # Short messages of a server, with no calls in between: each costs as much as all the framing.
        if connection.stream.send(heads[1 if binary else 0][len(payload)] + payload):
            return connection.done or connection.make_done()
        return connection.wait_for_drain(len(payload) + 2)

    def read_message(self) -> Future[Message | None]:
        """Return a Future of the next message; None: the connection is closed, and there are no more.

        :raises RuntimeError: somebody waits for one already.
        """
        return self._open_connection().read_message()

    def __aiter__(self) -> Self:
        """Return the messages, to the end of the connection."""
        return self

    async def __anext__(self) -> Message:
        """Return the next message."""
        message = await self._open_connection().read_message()
        if message is None:
            raise StopAsyncIteration
        return message

    def ping(self, data: str | bytes = b"") -> None:
        """Send a Ping.

        :param data: up to 125 bytes.
        :raises WebSocketClosedError: the connection is closed or closing.
        """
        self._open_connection().ping(data.encode() if isinstance(data, str) else bytes(data))

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close the connection, if it is not closed; what happens then comes later.

        :param code: 1000 if there is a reason only.
        :param reason: for people; what does not fit into 123 bytes is cut off.
        :raises ValueError: the code may not be sent (RFC 6455 7.4).
        """
        if self._connection is not None:
            self._connection.close_with(1000 if code is None and reason else code, reason or "")

    def on_ping(self, data: bytes) -> None:
        """Called when a Ping has come; it is answered already."""

    def on_pong(self, data: bytes) -> None:
        """Called when a Pong has come."""

    def set_nodelay(self, value: bool) -> None:
        """Switch Nagle's algorithm off (True, as it is to begin with) or on."""
        self._open_connection().stream.set_nodelay(value)

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise WebSocketClosedError("the WebSocket connection is not open")
        return self._connection


def payload_of(message: Any, binary: bool) -> bytes:
    """Return what is sent for `message`.

    :raises TypeError: it is no str, bytes or dict.
    :raises ValueError: it is bytes that are to be text, and not UTF-8.
    """
    if isinstance(message, dict):
        return json_encode(message).encode()
    if isinstance(message, str):
        return message.encode()
    if not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"a message is a str, bytes or a dict, got {message!r}")
    payload = bytes(message)
    if not binary:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"a text message is UTF-8, got {payload[:60]!r}: give binary=True ({error})") from None
    return payload
