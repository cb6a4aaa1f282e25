"""The transport of TCP and Unix stream sockets: asyncio's, with the two steps that every message takes made short.

What the outside world fixes
----------------------------
* asyncio's socket transport is a few hundred lines of edge cases (half-close, watermarks, sendfile, start_tls, errors
  in every callback) that programs rely on. What a message costs is in two of its methods: the one that reads and
  `write`.
* recv(2) of 256 KiB, which asyncio asks for, has malloc(3) map memory and unmap it for each read.
* Python 3.13 looks up attributes of an object in the slow way if a class of it has `__slots__` and its instances have a
  dict nevertheless, as asyncio's transports do.

What was decided
----------------
* A subclass: it reads in one call, and sends in one call what can be sent at once. All else is handed to asyncio's
  code, whose state it shares. (Rejected: a transport from scratch. A message would cost the same, and asyncio's
  `Server`, `sendfile` and TLS reach into a transport by private names anyway.)
* The loop never calls a reader that was removed, so reading need not ask whether the connection is lost.
* Each name of that state gets a slot, which also takes what asyncio's own methods assign. The dict stays empty.
* TLS from the start (`ssl=`) has asyncio's transport beneath it: its cost is not here.

asyncio's private names that this file stands on are in `ASYNCIO_PRIVATE_NAMES` and `STATE`; a test fails loudly when a
Python release moves one.
"""
# typeshed does not know asyncio's private names, as in heart.py.
# mypy: disable-error-code="attr-defined, no-untyped-call"

from __future__ import annotations

import sys
from asyncio import BufferedProtocol
from asyncio.selector_events import _SelectorSocketTransport
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop, AbstractServer, BaseProtocol, Future

READ_SIZE = 64 * 1024  # bytes: as IOStream's; what is beyond comes with the next event

ASYNCIO_PRIVATE_NAMES: dict[type, frozenset[str]] = {
    _SelectorSocketTransport: frozenset({"_fatal_error", "_read_ready", "_read_ready__on_eof"}),
}
# All that a live transport keeps in its dict. A name that a newer Python adds goes there, which is right, but slower.
STATE = (
    "_buffer", "_closing", "_conn_lost", "_empty_waiter", "_eof", "_paused", "_protocol", "_protocol_connected",
    "_read_ready_cb", "_server", "_sock", "_sock_fd",
)  # fmt: skip
if sys.version_info >= (3, 12):
    STATE += ("_write_ready",)  # a method before


class SocketTransport(_SelectorSocketTransport):  # type: ignore[misc]  # of a class that typeshed does not know
    """See `asyncio.Transport`. The loop makes one for each socket of `create_connection`, `create_server` and so on."""

    __slots__ = (*STATE, "_buffered")

    _sock: Any

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        protocol: BaseProtocol,
        waiter: Future[None] | None,
        extra: dict[str, Any] | None,
        server: AbstractServer | None,
    ) -> None:
        self._sock = None  # for __del__, if what follows fails
        super().__init__(loop, sock, protocol, waiter, extra, server)

    def set_protocol(self, protocol: BaseProtocol) -> None:
        """See `asyncio.BaseTransport.set_protocol`."""
        super().set_protocol(protocol)
        self._buffered = isinstance(protocol, BufferedProtocol)

    def _read_ready(self) -> None:
        if self._buffered:
            super()._read_ready()
            return
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal read error on socket transport")
            return
        if not data:
            self._read_ready__on_eof()
            return
        try:
            self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: protocol.data_received() call failed.")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport.write`."""
        if (
            self._buffer
            or self._conn_lost
            or self._eof
            or self._empty_waiter is not None
            or type(data) is not bytes
            or not data
        ):
            super().write(data)
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal write error on socket transport")
            return
        if sent != len(data):
            super().write(memoryview(data)[sent:])  # tries once more, and waits for readiness to write
