"""Errors of WebSocket connections, the first two by Tornado's names."""

from __future__ import annotations

from pollux.errors import PolluxError


class WebSocketError(PolluxError):
    """Something is wrong with a WebSocket connection."""


class WebSocketClosedError(WebSocketError):
    """The connection is closed, or closing: nothing can be sent on it any more."""


class HandshakeError(WebSocketError):
    """The other side does not do the opening handshake as RFC 6455 4 has it.

    :ivar status: for a server, what to answer the client with.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ViolationError(WebSocketError):
    """What the peer sent is against the protocol or past a limit; the connection is to be closed with `code`.

    :ivar code: RFC 6455 7.4.1: 1002, 1007 or 1009.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
