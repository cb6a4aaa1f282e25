"""What one sends goes to all. python pollux_broadcast.py PORT [BACKEND]"""

import sys

from pollux import IOLoop
from pollux_http import HTTPServer
from pollux_web import Application
from pollux_websocket import WebSocketHandler, broadcast

everybody: set["Room"] = set()


class Room(WebSocketHandler):
    """Sends each message to all."""

    def open(self) -> None:
        """Come in."""
        everybody.add(self)

    def on_message(self, message: str | bytes) -> None:
        """Pass it on."""
        broadcast(everybody, message, binary=True)

    def on_close(self) -> None:
        """Leave."""
        everybody.discard(self)


if len(sys.argv) > 2:
    IOLoop.configure(sys.argv[2])
HTTPServer(Application([("/", Room)])).listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
IOLoop.current().start()
