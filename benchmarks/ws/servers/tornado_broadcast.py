"""What one sends goes to all, by Tornado. python tornado_broadcast.py PORT"""

import sys

from tornado.ioloop import IOLoop
from tornado.web import Application
from tornado.websocket import WebSocketHandler

everybody: set["Room"] = set()


class Room(WebSocketHandler):
    """Sends each message to all."""

    def open(self) -> None:
        """Come in."""
        everybody.add(self)

    def on_message(self, message: str | bytes) -> None:
        """Pass it on."""
        for each in everybody:
            each.write_message(message, binary=True)

    def on_close(self) -> None:
        """Leave."""
        everybody.discard(self)


Application([("/", Room)]).listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
IOLoop.current().start()
