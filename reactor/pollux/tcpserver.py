"""`TCPServer`: listen, accept, and hand each connection over as an `IOStream`."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pollux.errors import FdLimitError
from pollux.ioloop import IOLoop
from pollux.iostream import IOStream
from pollux.log import app_log, gen_log
from pollux.netutil import BACKLOG, add_accept_handler, bind_sockets


class TCPServer:
    """Subclass it and override `handle_stream`.

    .. code-block:: python

        class Echo(TCPServer):
            def handle_stream(self, stream, address):
                stream.deliver_to(lambda data: stream.send(data) if data else stream.close())

        Echo().listen(8888)
        IOLoop.current().start()
    """

    def __init__(self) -> None:
        self._listeners: dict[socket.socket, Callable[[], None]] = {}

    def listen(
        self,
        port: int,
        address: str | None = None,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        backlog: int = BACKLOG,
        reuse_port: bool = False,
    ) -> None:
        """Listen on `port` of the current loop; may be called more than once. Parameters: see
        `netutil.bind_sockets`."""
        self.add_sockets(bind_sockets(port, address, family, backlog, reuse_port))

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on listening sockets; they are closed by `stop`."""
        for sock in sockets:
            self._listeners[sock] = add_accept_handler(sock, self._handle_connection)

    def add_socket(self, sock: socket.socket) -> None:
        """Accept connections on one listening socket."""
        self.add_sockets([sock])

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that are listened on; their `getsockname()` tells the port chosen for port 0."""
        return tuple(self._listeners)

    def stop(self) -> None:
        """Stop listening. Connections that are open go on."""
        for sock, remove in self._listeners.items():
            remove()
            sock.close()
        self._listeners.clear()

    def handle_stream(self, stream: IOStream, address: Any) -> Awaitable[None] | None:
        """Serve a new connection. Override this; it may be a coroutine.

        :param address: as `socket.accept` gives it: (host, port, ...) for TCP, "" for a Unix socket.
        """
        raise NotImplementedError("override TCPServer.handle_stream(stream, address)")

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        try:
            stream = IOStream(connection)
        except BaseException:
            connection.close()
            raise
        try:
            result = self.handle_stream(stream, address)
        except FdLimitError as error:  # the poller cannot watch so high a number
            gen_log.error("turned %s away: %s", address or "a client", error)
            stream.close()
        except Exception as error:
            app_log.error("Error in connection callback", exc_info=True)
            stream.close(error)
        else:
            if result is not None:
                IOLoop.current().start_task(self._finish(result, stream))

    async def _finish(self, result: Awaitable[None], stream: IOStream) -> None:
        """Await what `handle_stream` returned; the stream does not outlive an error."""
        try:
            await result
        except Exception as error:
            app_log.error("Error in connection callback", exc_info=True)
            stream.close(error)
