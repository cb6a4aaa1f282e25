"""`IOStream`: a stream over a socket, how it connects, and how it changes to TLS.

What the outside world fixes
----------------------------
* connect(2) on a non-blocking socket says EINPROGRESS; the socket becomes writable when it is decided, and SO_ERROR
  says how. A Unix socket whose listener is full says EAGAIN instead, and then nothing is in progress.
* TLS over an open connection (STARTTLS) begins where the plain text ends. What an attacker in between has sent in plain
  text behind that must not be taken for the protected answer (CVE-2011-0411), so nothing may be left in the buffer.
"""

from __future__ import annotations

import errno
import os
import socket
from asyncio import Future
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pollux.basestream import BaseIOStream, promised
from pollux.poller import WRITE
from pollux.rawstream import StreamClosedError
from pollux.waiters import Waiter, fail
from pollux.writebuffer import FilePart

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from pollux.ioloop import IOLoop
    from pollux.sslstream import SSLIOStream

T = TypeVar("T")

HANDSHAKE_TIMEOUT = 60.0  # seconds, as asyncio has it: enough for the slowest line, and an end for who says nothing


class IOStream(BaseIOStream):
    """A stream over a non-blocking socket; it owns the socket from now on.

    :param socket: connected, or to be connected by `connect`; made non-blocking here.
    :param max_buffer_size: these four: see `BaseIOStream`.
    """

    __slots__ = ("_connect_waiter", "socket")

    _direct: ClassVar[bool] = True  # nobody has overridden how it reads and writes: no call between us and the socket

    def __init__(
        self,
        socket: socket.socket,
        max_buffer_size: int | None = None,
        read_chunk_size: int | None = None,
        max_write_buffer_size: int | None = None,
        io_loop: IOLoop | None = None,
    ) -> None:
        self.socket: Any = socket  # None once closed. Any: checked by `closed()`, not on every access
        self._connect_waiter: Waiter | None = None
        super().__init__(max_buffer_size, read_chunk_size, max_write_buffer_size, io_loop)
        if self._direct:
            self._io = socket
        socket.setblocking(False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._direct = cls.read_from_fd is IOStream.read_from_fd and cls.write_to_fd is IOStream.write_to_fd

    def fileno(self) -> Any:
        """Return the socket, as Tornado does; None once closed."""
        return self.socket

    def close_fd(self) -> None:
        """See `BaseIOStream.close_fd`."""
        self.socket.close()
        self.socket = None

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """See `BaseIOStream.read_from_fd`."""
        try:
            return self.socket.recv_into(buf)  # type: ignore[no-any-return]
        except BlockingIOError:
            return None

    def write_to_fd(self, data: memoryview) -> int:
        """See `BaseIOStream.write_to_fd`."""
        try:
            return self.socket.send(data)  # type: ignore[no-any-return]
        except BlockingIOError:
            return 0

    def _send_part_of(self, file: FilePart) -> int | None:
        return file.send(self.socket.fileno()) if self._direct else None

    def get_fd_error(self) -> Exception | None:
        """Return and clear the socket's pending error (socket(7), SO_ERROR)."""
        try:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:  # somebody else has closed it
            return error
        return OSError(number, os.strerror(number)) if number else None

    def set_nodelay(self, value: bool) -> None:
        """Switch Nagle's algorithm off (True) or on, where the socket is a TCP one (tcp(7), TCP_NODELAY)."""
        if self.socket is not None and self.socket.family in (socket.AF_INET, socket.AF_INET6):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, value)

    # Connecting

    def connect(
        self, address: Any, server_hostname: str | None = None, callback: Callable[[], Any] | None = None
    ) -> Future[Self]:
        """Connect to `address`; the result is the stream itself. What is written before goes out then.

        :param address: as `socket.connect` takes it. A host name is resolved here and now, which blocks the loop: see
            `TCPClient`.
        :param server_hostname: for `SSLIOStream`; ignored without TLS.
        :param callback: called without arguments when connected, and not at all if that fails.
        :raises StreamClosedError: from the Future: it failed; `real_error` says why. The stream is closed.
        :raises RuntimeError: `connect` was called before.
        """
        if callable(server_hostname):
            server_hostname, callback = callback, server_hostname  # type: ignore[unreachable]
        self._check_open()
        if self._connecting:
            raise RuntimeError("connect() was called already: wait for what it returned")
        waiter = self._connect_waiter = self._waiter_for(callback, with_result=False)
        try:
            self.socket.connect(address)
        except OSError as error:
            if not isinstance(error, BlockingIOError) or error.errno == errno.EAGAIN:
                self.close(error)
                return promised(waiter)
        except BaseException:  # the address is none
            self._connect_waiter = None
            raise
        self._unregister()  # a close callback may have had it watched
        self._begin_connecting()
        self._register(self._handle_connect, WRITE)
        return promised(waiter)

    def _handle_connect(self, fd: Any, events: int) -> None:
        if error := self.get_fd_error():
            self.close(error)
        else:
            self._unregister()
            waiter: Any = self._connect_waiter
            self._connect_waiter = None
            if not waiter.done():
                waiter.set_result(self)
            self._established()

    def _established(self) -> None:
        self._connected()

    def _fail_waiters(self) -> None:
        waiter, self._connect_waiter = self._connect_waiter, None
        if waiter is not None:
            fail(waiter, StreamClosedError(self.error))
        super()._fail_waiters()

    def start_tls(
        self,
        server_side: bool,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ) -> Future[SSLIOStream]:
        """Begin TLS on the open connection; the result is the stream to go on with. This one is closed now.

        The close callback goes over to the new stream. To cancel the Future closes that.

        :param ssl_options: as `pollux.netutil.ssl_options_to_context` takes them. Default: a client verifies with the
            system's authorities; a server needs its own.
        :param server_hostname: the name that the server's certificate must bear.
        :param handshake_timeout: seconds.
        :raises ValueError: a read or write is pending, something is buffered, or the stream is closed: what was sent in
            plain text must not be taken for protected.
        :raises ssl.SSLError, StreamClosedError: from the Future: the handshake failed.
        """
        from pollux.netutil import ssl_options_to_context
        from pollux.sslstream import SSLIOStream, default_context

        if self._waiter or self._consumer or self._buffer or self._write_buffer or self._connecting or self._closed:
            raise ValueError(
                "IOStream is not idle; cannot convert to SSL: "
                "let reads and writes end, and take all that was sent before the handshake"
            )
        if ssl_options is None:
            context = default_context(server_side)
        else:
            context = ssl_options_to_context(ssl_options, server_side)
        try:
            self.socket.getpeername()  # of a reset connection, wrap_socket would leave its socket open
        except OSError as error:
            self.close(error)
            failed: Future[SSLIOStream] = self._waiter_for(None)
            fail(failed, StreamClosedError(error))
            return failed
        self._unregister()
        plain, self.socket = self.socket, None
        self._closed = True
        self._events = 0
        callback, self._close_callback = self._close_callback, None
        try:
            wrapped = context.wrap_socket(
                plain, server_side=server_side, do_handshake_on_connect=False, server_hostname=server_hostname
            )
        except BaseException:
            plain.close()
            raise
        stream = SSLIOStream(
            wrapped,
            self.max_buffer_size,
            self.read_chunk_size,
            self.max_write_buffer_size,
            handshake_timeout=handshake_timeout,
            io_loop=self.io_loop,
        )
        stream.set_close_callback(callback)
        future = stream.wait_for_handshake()
        future.add_done_callback(stream.close_if_cancelled)
        return future
