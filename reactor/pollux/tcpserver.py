"""`TCPServer`: listen, accept, and hand each connection over as an `IOStream` or `SSLIOStream`.

What the outside world fixes
----------------------------
* SO_REUSEPORT (socket(7)) gives each listening socket of a port a queue of its own. A connection belongs to the queue
  that the kernel chose, so a socket that listens and that nobody accepts from loses connections: workers must listen
  on sockets of their own, and the process that forked them on none.
* Workers that share one socket bound before the fork need nothing of the kernel, but all wake for each connection.

What was decided
----------------
* `bind` binds at once, so that a port that is taken is an error there and port 0 is the same for all workers. With
  `reuse_port` its sockets do not listen: they keep the number, and each worker binds its own to the same address.
* One TLS context serves all connections. Reading the certificate's files for each, as Tornado does with a dict, costs
  more than the handshake saves; who renews a certificate calls `load_cert_chain` on the context.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from pollux.errors import FdLimitError
from pollux.ioloop import IOLoop
from pollux.iostream import IOStream, SSLIOStream
from pollux.log import app_log, gen_log
from pollux.netutil import (
    BACKLOG,
    Acceptor,
    bind_sockets,
    bound_socket,
    listen_on,
    reserve_sockets,
    ssl_options_to_context,
)
from pollux.process import fork_processes
from pollux.socketstream import HANDSHAKE_TIMEOUT


class TCPServer:
    """Subclass it and override `handle_stream`.

    .. code-block:: python

        class Echo(TCPServer):
            async def handle_stream(self, stream, address):
                try:
                    while True:
                        await stream.write(await stream.read_until(b"\\n"))
                except StreamClosedError:
                    pass

        Echo().listen(8888)
        IOLoop.current().start()

    :param ssl_options: serve TLS with this `ssl.SSLContext`, or the dict that `netutil.ssl_options_to_context` takes.
        `handle_stream` gets the stream before the handshake is done, as in Tornado: reads and writes wait for it.
    :param max_buffer_size: bytes that a stream keeps for its reader at most; None means the stream's default.
    :param read_chunk_size: bytes that a stream asks the kernel for at once; None means the stream's default.
    :param handshake_timeout: seconds that a client has for the TLS handshake, default 60.
    :param io_loop: where to accept (up to Tornado 4); None means the loop that is current when sockets are added.
    :raises KeyError: the dict has no `certfile`.
    :raises ValueError: there is no such file, an option is unknown, or the context is a client's.
    """

    io_loop: IOLoop

    def __init__(
        self,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
        max_buffer_size: int | None = None,
        read_chunk_size: int | None = None,
        *,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        io_loop: IOLoop | None = None,
    ) -> None:
        self._listeners: dict[socket.socket, Acceptor] = {}
        self._bound: list[tuple[list[socket.socket], int, bool]] = []  # sockets, backlog, reuse_port
        self._started = False
        self.ssl_options = ssl_options
        self.max_buffer_size = max_buffer_size
        self.read_chunk_size = read_chunk_size
        self.handshake_timeout = handshake_timeout
        self._given_loop = io_loop
        if ssl_options is not None and not isinstance(ssl_options, ssl.SSLContext):
            if "certfile" not in ssl_options:
                raise KeyError(
                    f"ssl_options: a server needs a 'certfile', got only {', '.join(ssl_options) or 'nothing'}"
                )
            for name in ("certfile", "keyfile"):
                path = ssl_options.get(name)
                if path is not None and not os.path.exists(path):
                    raise ValueError(f"ssl_options: the {name} {path!r} does not exist")
        self._context = None if ssl_options is None else ssl_options_to_context(ssl_options, server_side=True)
        if self._context is not None and self._context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError(
                f"ssl_options: {self._context!r} is a client's: "
                "use ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"
            )

    def listen(
        self,
        port: int,
        address: str | None = None,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        backlog: int = BACKLOG,
        flags: int | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Listen on `port` in the current loop; may be called more than once. Parameters: see
        `netutil.bind_sockets`."""
        self.add_sockets(bind_sockets(port, address, family, backlog, flags, reuse_port))

    def bind(
        self,
        port: int,
        address: str | None = None,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        backlog: int = BACKLOG,
        flags: int | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Take `port`, to be served after `start`; may be called more than once. Parameters: see
        `netutil.bind_sockets`.

        :param reuse_port: each process of `start` listens on a socket of its own, and the kernel shares connections out
            among them. Before `start` nobody listens.
        """
        if reuse_port:
            sockets = reserve_sockets(port, address, family, flags, reuse_port=True)
        else:
            sockets = bind_sockets(port, address, family, backlog, flags)
        if self._started:
            self._serve(sockets, backlog, reuse_port, forked=False)
        else:
            self._bound.append((sockets, backlog, reuse_port))

    def start(self, num_processes: int | None = 1, max_restarts: int | None = None) -> None:
        """Serve what was bound, in this process or in several.

        :param num_processes: 1 serves in this process. Else `process.fork_processes` is called, and this returns in
            each worker, which then runs a loop of its own; None or a number below 1 means one for each processor.
        :param max_restarts: of workers in all; see `process.fork_processes`.
        :raises RuntimeError: it was started already, or must fork and a loop is running.
        """
        if self._started:
            raise RuntimeError("TCPServer.start: it was started already; later bind() and listen() serve at once")
        self._started = True
        forked = num_processes != 1
        if forked:
            try:
                fork_processes(num_processes, max_restarts)
            except BaseException:  # also the SystemExit by which the process that forked ends
                self.stop()
                raise
        for sockets, backlog, reuse_port in self._bound:
            self._serve(sockets, backlog, reuse_port, forked)
        self._bound.clear()

    def _serve(self, sockets: list[socket.socket], backlog: int, reuse_port: bool, forked: bool) -> None:
        if reuse_port and forked:
            held, sockets = sockets, []
            for sock in held:
                sockets.append(bound_socket(sock.family, sock.getsockname(), reuse_port=True))
                sock.close()
        if reuse_port:
            listen_on(sockets, backlog)
        self.add_sockets(sockets)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on listening sockets, in the current loop; they are closed by `stop`.

        If the poller cannot watch one of them (`pollux.errors.FdLimitError`: `select`), all are closed.
        """
        self.io_loop = self._given_loop or IOLoop.current()
        sockets = list(sockets)
        try:
            for sock in sockets:
                self._listeners[sock] = Acceptor(sock, self._handle_connection, self.io_loop)
        except BaseException:
            for sock in sockets:
                if acceptor := self._listeners.pop(sock, None):
                    acceptor.remove()
                sock.close()
            raise

    def add_socket(self, socket: socket.socket) -> None:
        """Accept connections on one listening socket."""
        self.add_sockets([socket])

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that are listened on, or bound for `start`; `getsockname()` tells the port chosen for port 0."""
        return (*self._listeners, *(sock for sockets, _, _ in self._bound for sock in sockets))

    def accept_arrived(self) -> None:
        """Accept the connections that the kernel has made and the poller has not told of yet.

        To close a listening socket resets those (tcp(7)): a client that was let in should be served.
        """
        for acceptor in list(self._listeners.values()):
            acceptor.accept_arrived()

    def stop(self) -> None:
        """Stop listening, and give up what was bound. Connections that are open go on."""
        for sockets, _, _ in self._bound:
            for sock in sockets:
                sock.close()
        self._bound.clear()
        for sock, acceptor in self._listeners.items():
            acceptor.remove()
            sock.close()
        self._listeners.clear()

    def handle_stream(self, stream: IOStream, address: Any) -> Awaitable[None] | None:
        """Serve a new connection. Override this; it may be a coroutine.

        What it raises is logged, and closes the stream; so does cancellation, which is not logged.

        :param address: as `socket.accept` gives it: (host, port, ...) for TCP, "" for a Unix socket.
        """
        raise NotImplementedError("override TCPServer.handle_stream(stream, address)")

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        try:
            if self._context is None:
                stream = IOStream(connection, self.max_buffer_size, self.read_chunk_size)
            else:
                try:
                    connection.getpeername()  # of a reset connection, wrap_socket would leave its socket open
                    connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                except OSError as error:  # the client has gone already
                    gen_log.debug("no TLS with %s: %s", address or "a client", error)
                    connection.close()
                    return
                stream = SSLIOStream(
                    connection, self.max_buffer_size, self.read_chunk_size, handshake_timeout=self.handshake_timeout
                )
        except BaseException:
            connection.close()
            raise
        try:
            result = self.handle_stream(stream, address)
        except FdLimitError as error:  # the poller cannot watch so high a number
            gen_log.error("turned %s away: %s", address or "a client", error)
            stream.close()
        except (Exception, asyncio.CancelledError) as error:  # the latter by the result of a future, say
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
            IOLoop.current().handle_callback_exception(self.handle_stream)
            stream.close(error)
        except BaseException:
            stream.close()
            raise
