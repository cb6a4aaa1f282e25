"""WebSocket: server and client, by Tornado's names."""

from pollux_websocket.broadcast import broadcast
from pollux_websocket.client import WebSocketClientConnection, websocket_connect
from pollux_websocket.errors import HandshakeError, WebSocketClosedError, WebSocketError
from pollux_websocket.handler import WebSocketHandler

__all__ = [
    "HandshakeError",
    "WebSocketClientConnection",
    "WebSocketClosedError",
    "WebSocketError",
    "WebSocketHandler",
    "broadcast",
    "websocket_connect",
]
