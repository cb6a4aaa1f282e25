"""Echo by a coroutine for each connection. python pollux_async_echo.py PORT [BACKEND]"""

import sys

from pollux import IOLoop
from pollux_http import HTTPServer
from pollux_web import Application
from pollux_websocket import WebSocketHandler


class Echo(WebSocketHandler):
    """Sends back each message."""

    async def open(self) -> None:
        """Send back each."""
        async for message in self:
            await self.write_message(message, type(message) is bytes)


if len(sys.argv) > 2:
    IOLoop.configure(sys.argv[2])
HTTPServer(Application([("/", Echo)])).listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
IOLoop.current().start()
