"""`ClientConnection`: a stream to a server or its proxy, with one exchange at a time or none.

It keeps nothing between two exchanges but the stream itself. While it has no exchange, whatever comes on it (the end of
the server's side, or bytes that nobody asked for) closes it.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from pollux.iostream import IOStream
from pollux_http.route import Route

if TYPE_CHECKING:
    from pollux_http.exchange import Exchange
    from pollux_http.pool import Pool

_PEEK = socket.MSG_PEEK | getattr(socket, "MSG_DONTWAIT", 0)


class ClientConnection:
    """One connection. `exchange` is what it is busy with; whoever sets it to None puts it into `pool` or closes it.

    :ivar reused: it has carried an exchange before the present one.
    """

    __slots__ = ("exchange", "pool", "reused", "route", "stream")

    def __init__(self, stream: IOStream, route: Route, pool: Pool) -> None:
        self.stream = stream
        self.route = route
        self.pool = pool
        self.reused = False
        self.exchange: Exchange | None = None
        stream.set_close_callback(self._closed)
        stream.deliver_to(self._received)

    def _received(self, data: bytes) -> None:
        if self.exchange is None:
            self.close()
        else:
            self.exchange.received(data)

    def _closed(self) -> None:
        exchange, self.exchange = self.exchange, None
        self.pool.discard(self)
        if exchange is not None:
            exchange.lost(self.stream.error)

    def alive(self) -> bool:
        """Ask the kernel whether the server has closed, or sent something, since the loop has polled last."""
        if self.stream.closed():
            return False
        sock = self.stream.socket
        try:
            data = socket.socket.recv(sock, 1, _PEEK)  # the plain socket's: TLS has none
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data) and isinstance(sock, ssl.SSLSocket)  # which may send session tickets at any time

    def release(self) -> None:
        """The exchange is over, and left the connection as it was before it."""
        self.exchange = None
        self.reused = True
        self.pool.put(self)

    def close(self) -> None:
        """Close; the exchange is not told."""
        self.exchange = None
        self.pool.discard(self)
        self.stream.close()
