"""`IOStream`: a non-blocking socket with a write buffer, and a close that happens once.

What the outside world fixes
----------------------------
* send(2) on a non-blocking socket takes what fits into the kernel's buffer: often all, sometimes a part, sometimes
  nothing (EAGAIN). recv(2) returns b"" once the peer has shut down its side; ours may still write (a half-closed peer
  wants its answer).
* A peer that resets turns both into an error, and the poller reports ERROR.

What was decided
----------------
* A write tries the socket first. Only what the kernel refuses is copied into the buffer and waits for WRITE
  readiness, so a response that fits costs one system call and no registration.
* Reading here is *delivery*: each chunk goes to one consumer as it comes, with nothing kept back. A protocol that
  parses incrementally (HTTP) needs no more, and its request travels from `recv` to the parser without being copied.
* READ interest is registered once and stays, except while delivery is paused.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from pollux.ioloop import IOLoop
from pollux.log import app_log
from pollux.poller import ERROR, READ, WRITE

READ_CHUNK_SIZE = 64 * 1024  # bytes: what one recv asks for. Tornado's value; larger ones make malloc go to mmap.
SEND_SIZE = 256 * 1024  # bytes offered to one send: more than a socket buffer takes, so offering more is wasted

_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)

Consumer = Callable[[bytes], object]


class StreamClosedError(OSError):
    """The stream is closed. `real_error` is the error that closed it, None if it was closed in an orderly way."""

    def __init__(self, real_error: BaseException | None = None) -> None:
        super().__init__("Stream is closed" if real_error is None else f"Stream is closed: {real_error}")
        self.real_error = real_error


class _Done:
    """An awaitable that has nothing to wait for; cheaper than a Future, and one is enough."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


DONE = _Done()


class IOStream:
    """A stream over a connected, non-blocking socket; it owns the socket from now on.

    :param socket: made non-blocking here.
    :param read_chunk_size: the most bytes one delivery brings.
    """

    __slots__ = (
        "__weakref__",
        "_close_callback",
        "_consumer",
        "_drain_callback",
        "_drained",
        "_events",
        "_progress",
        "_registered",
        "_write_buffer",
        "error",
        "io_loop",
        "read_chunk_size",
        "socket",
    )

    def __init__(self, socket: socket.socket, read_chunk_size: int = READ_CHUNK_SIZE) -> None:
        self.socket: Any = socket  # None once closed. Any: checked by `closed()`, not on every access
        self.io_loop = IOLoop.current()
        self.read_chunk_size = read_chunk_size
        self.error: BaseException | None = None
        self._events = 0
        self._registered = False
        self._progress = False
        self._consumer: Consumer | None = None
        self._write_buffer: bytearray | None = None
        self._close_callback: Callable[[], object] | None = None
        self._drain_callback: Callable[[], object] | None = None
        self._drained: asyncio.Future[None] | None = None
        socket.setblocking(False)

    def __repr__(self) -> str:
        state = "closed" if self.socket is None else f"fd={self.socket.fileno()}"
        return f"<{type(self).__name__} {state} unsent={self.unsent}>"

    # Reading

    def deliver_to(self, consumer: Consumer) -> None:
        """Call `consumer(chunk)` with every chunk as it arrives, and with b"" when the peer has finished sending.

        After b"" delivery is paused for good, the stream stays open for writing: the consumer decides when to close. A
        consumer that raises is logged, and the stream closed.

        :raises StreamClosedError: the stream is closed.
        """
        self._check_open()
        self._consumer = consumer
        self._want(self._events | READ)

    def pause_reading(self) -> None:
        """Stop delivery; what the peer sends waits in the kernel, which then slows the peer down."""
        if self.socket is not None:
            self._want(self._events & ~READ)

    def resume_reading(self) -> None:
        """Go on with delivery after `pause_reading`."""
        if self.socket is not None and self._consumer is not None:
            self._want(self._events | READ)

    # Writing

    def send(self, data: bytes) -> bool:
        """Write `data`; return True if the kernel took all of it, False if a rest is buffered (see `on_drain`).

        On a closed stream nothing happens: the close callback has told, or is about to.
        """
        if self.socket is None:
            return True
        if self._write_buffer is None:
            try:
                sent = self.socket.send(data)
            except OSError as error:
                if error.errno not in _WOULD_BLOCK:
                    self.close(error)
                    return True
                sent = 0
            if sent == len(data):
                return True
            self._write_buffer = bytearray(memoryview(data)[sent:])
            self._want(self._events | WRITE)
        else:
            self._write_buffer += data
        return False

    @property
    def unsent(self) -> int:
        """Bytes that wait in the write buffer."""
        return 0 if self._write_buffer is None else len(self._write_buffer)

    def take_progress(self) -> bool:
        """Return whether the kernel has taken any of the write buffer since this was last asked."""
        progress, self._progress = self._progress, False
        return progress

    def on_drain(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` once, when the write buffer has become empty. Not called if the stream closes first."""
        self._drain_callback = callback

    def drained(self) -> Awaitable[None]:
        """Wait until the write buffer is empty: backpressure for whoever sends a lot.

        :raises StreamClosedError: from the awaitable, if the stream closes first.
        """
        if self._write_buffer is None:
            return DONE
        if self._drained is None:
            self._drained = self.io_loop.create_future()
        return self._drained

    def _flush(self) -> None:
        buffer = self._write_buffer
        if buffer is None:
            return
        try:
            with memoryview(buffer) as view, view[:SEND_SIZE] as part:
                sent = self.socket.send(part)
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                self.close(error)
            return
        self._progress = True
        del buffer[:sent]  # bytearray forgets its head without moving the rest
        if not buffer:
            self._write_buffer = None
            self._want(self._events & ~WRITE)
            callback, self._drain_callback = self._drain_callback, None
            waiter, self._drained = self._drained, None
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            if callback is not None:
                callback()

    # Closing

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` once, in a later iteration, when the stream is closed, by whichever side."""
        self._close_callback = callback

    def close(self, error: BaseException | None = None) -> None:
        """Close the stream; what is still in the write buffer is dropped. A second close does nothing.

        :param error: why, for `self.error`; None for an orderly close.
        """
        sock = self.socket
        if sock is None:
            return
        self.socket = None
        self.error = error
        if self._registered:
            self.io_loop.remove_handler(sock)
        self._events = 0
        sock.close()
        self._consumer = self._write_buffer = self._drain_callback = None
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(StreamClosedError(error))
            waiter.exception()  # who sent need not have waited: nothing to complain about
        callback, self._close_callback = self._close_callback, None
        if callback is not None:
            self.io_loop.add_callback(callback)

    def closed(self) -> bool:
        """Return whether the stream is closed."""
        return self.socket is None

    def set_nodelay(self, value: bool) -> None:
        """Switch Nagle's algorithm off (True) or on, where the socket is a TCP one (tcp(7), TCP_NODELAY)."""
        if self.socket is not None and self.socket.family in (socket.AF_INET, socket.AF_INET6):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, value)

    # Events

    def _check_open(self) -> None:
        if self.socket is None:
            raise StreamClosedError(self.error)

    def _want(self, events: int) -> None:
        """Bring the registration in line with `events`. With none, an error is still reported (and closes the
        stream)."""
        if not self._registered:
            self.io_loop.add_handler(self.socket, self._handle_events, events)
            self._registered = True
        elif events != self._events:
            self.io_loop.update_handler(self.socket, events)
        self._events = events

    def _handle_events(self, sock: Any, events: int) -> None:
        if events & ~WRITE and self._events & READ:
            try:
                data = sock.recv(self.read_chunk_size)
            except OSError as error:
                if error.errno not in _WOULD_BLOCK:
                    self.close(error)
                return
            consumer = self._consumer
            if not data:
                self._want(self._events & ~READ)
                self._consumer = None
            try:
                consumer(data)  # type: ignore[misc]  # READ is only wanted with a consumer
            except (SystemExit, KeyboardInterrupt):
                self.close()
                raise
            except BaseException as error:
                app_log.error("Exception in the consumer of %r, closing it", self, exc_info=True)
                self.close(error)
        elif events & ERROR:
            # Nobody reads, and the connection is gone: without closing, a level-triggered poller would report it for
            # ever.
            self.close(self._socket_error(sock))
            return
        if events & WRITE and self.socket is not None:
            self._flush()

    @staticmethod
    def _socket_error(sock: socket.socket) -> OSError:
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EPIPE
        return OSError(number, errno.errorcode.get(number, str(number)))
