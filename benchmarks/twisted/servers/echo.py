"""Twisted's echo on a reactor: the same protocol on each.

python echo.py PORT pollux|epoll|poll|asyncio [BACKEND]
"""

import importlib
import sys
from typing import Any

if sys.argv[2] == "pollux":
    import pollux_twisted

    pollux_twisted.install(sys.argv[3] or None)
else:
    importlib.import_module(f"twisted.internet.{sys.argv[2]}reactor").install()

from twisted.internet.protocol import Factory, Protocol

reactor: Any = importlib.import_module("twisted.internet.reactor")


class Echo(Protocol):
    """Sends back what comes."""

    transport: Any

    def connectionMade(self) -> None:  # noqa: N802
        """As other servers have it."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Send it back."""
        self.transport.write(data)


reactor.listenTCP(int(sys.argv[1]), Factory.forProtocol(Echo), backlog=4096, interface="127.0.0.1")
reactor.run()
