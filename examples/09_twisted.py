"""A Twisted program, a web site and a line server, that gets a Pollux Application and a WebSocket in three lines.

python examples/09_twisted.py [WEB_PORT LINE_PORT POLLUX_PORT]

Then open http://127.0.0.1:8890/ and talk to the lines: nc 127.0.0.1 8891. What one says there, the page shows.
"""
# Twisted's names, and the types that it has not yet.
# ruff: noqa: N802, N815
# mypy: disable-error-code="arg-type, misc, no-untyped-call, type-arg"

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from pollux_twisted import attach
from pollux_web import Application, RequestHandler
from pollux_websocket import WebSocketHandler

PAGE = """<!doctype html><title>Lines</title><pre id="lines"></pre><script>
new WebSocket(`ws://${location.host}/lines`).onmessage = (message) => lines.append(message.data + "\\n")
</script>"""

# The program as it was: Twisted, and nothing of Pollux.


class Chat(LineReceiver):
    """Says each line to everybody."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        """Somebody is there."""
        CLIENTS.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Somebody has left."""
        CLIENTS.discard(self)

    def lineReceived(self, line: bytes) -> None:
        """Somebody has spoken."""
        for client in CLIENTS:
            client.sendLine(b"said: " + line.strip())
        for listener in LISTENERS:
            listener(line.strip().decode(errors="replace"))


class Count(Resource):
    """How many are there."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        return b"%d in the chat\n" % len(CLIENTS)


CLIENTS: set[Chat] = set()
LISTENERS: set = set()  # of functions

# What is new, in Pollux's words.


class Page(RequestHandler):
    """Shows the chat; Twisted's Deferreds are awaited."""

    async def get(self) -> None:
        """Answer when Twisted's clock says so."""
        await deferLater(reactor, 0.01, lambda: None)
        self.write(PAGE)


class Lines(WebSocketHandler):
    """What is said, for browsers."""

    def open(self) -> None:
        """Listen."""
        LISTENERS.add(self.write_message)

    def on_close(self) -> None:
        """Listen no more."""
        LISTENERS.discard(self.write_message)


def main(web: int = 8889, lines: int = 8891, pollux: int = 8890) -> None:
    """Serve until SIGINT or SIGTERM."""
    site = reactor.listenTCP(web, Site(Count()), interface="127.0.0.1")
    chat = reactor.listenTCP(lines, Factory.forProtocol(Chat), interface="127.0.0.1")

    attach()
    application = Application([("/", Page), ("/lines", Lines)])
    server = application.listen(pollux, "127.0.0.1")

    ports = site.getHost().port, chat.getHost().port, server.sockets[0].getsockname()[1]
    print("Twisted at {} and {}, Pollux at {}".format(*ports), flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
