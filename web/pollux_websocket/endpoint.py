"""What a connection asks of whoever uses it, and how patient it is."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Protocol

from pollux_websocket.protocol import Message


class Options(NamedTuple):
    """How patient a connection is.

    :param ping_interval: seconds between two Pings; None or 0 for none.
    :param ping_timeout: seconds in which a Pong must come; None: `ping_interval`.
    :param close_timeout: seconds to wait for the end of a connection that is being closed.
    :param max_unsent: bytes that may wait for a peer that does not read them.
    """

    ping_interval: float | None = None
    ping_timeout: float | None = None
    close_timeout: float = 5.0
    max_unsent: int = 16 * 1024 * 1024


class Endpoint(Protocol):
    """What a connection is for."""

    def on_message(self, message: Message) -> Any:
        """Take a message; what it returns, if not None, is awaited before the next one."""

    def on_ping(self, data: bytes) -> object:
        """A Ping has come, and was answered."""

    def on_pong(self, data: bytes) -> object:
        """A Pong has come."""

    def connection_closed(self, code: int | None, reason: str | None) -> object:
        """The connection is closed. Called once."""

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> object:
        """Log what one of the above has raised."""
