"""Echo by Tornado. python tornado_echo.py PORT"""

import sys

from tornado.ioloop import IOLoop
from tornado.web import Application
from tornado.websocket import WebSocketHandler


class Echo(WebSocketHandler):
    """Sends back each message."""

    def on_message(self, message: str | bytes) -> None:
        """Send it back."""
        self.write_message(message, isinstance(message, bytes))


Application([("/", Echo)]).listen(int(sys.argv[1]), "127.0.0.1")
IOLoop.current().start()
