"""`RawStream`: writing and delivery over a non-blocking descriptor, and a close that happens once.

It knows no sockets and no reads: what is above it says how bytes go in and out, and what to do with them.

What the outside world fixes
----------------------------
* A non-blocking write takes what fits into the kernel's buffer: often all, sometimes a part, sometimes nothing
  (EAGAIN). A read returns b"" once the peer has shut down its side; ours may still write (a half-closed peer wants its
  answer).
* A peer that resets turns both into an error, and the poller reports ERROR. A peer that hangs up (pipes, Unix sockets)
  is reported as ERROR, too, for as long as the descriptor is watched, while what it sent can still be read.
* A change of interest is a system call of its own with epoll and kqueue.

What was decided
----------------
* A write tries the descriptor first. Only what the kernel refuses is kept and waits for WRITE readiness, so a write
  that fits costs one system call and no registration.
* Reading here is *delivery*: each chunk goes to one consumer as it comes, with nothing kept back. A protocol that
  parses incrementally (HTTP) needs no more, and its request travels from `recv` to the parser without being copied.
* READ interest is registered once and stays, except while delivery is paused. `BaseIOStream` adds reads, and treats
  interest in its own way.
* A stream without a consumer that wants nothing is not registered at all: with empty interest ERROR would still be
  reported, and closing for it would lose what can still be read. With a consumer it is, and ERROR closes: nothing is
  kept back, and a server that works on an answer learns that nobody waits for it.
"""

from __future__ import annotations

import errno
import sys
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from pollux.ioloop import IOLoop
from pollux.log import app_log, gen_log
from pollux.poller import ERROR, READ, WRITE
from pollux.stack_context import NullContext, entered, wrap
from pollux.waiters import Waiter, fail
from pollux.writebuffer import FilePart, WriteBuffer

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_RESET = (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT)  # the connection is gone: nobody's fault

Consumer = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


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


def _ended(data: bytes) -> None:
    """Stands for a consumer that was told of the end."""


class _Hooks:
    """`recv` and `send` of a stream that has its own way to read and write."""

    __slots__ = ("recv", "send")

    def __init__(self, stream: RawStream) -> None:
        self.recv = stream._recv
        self.send = stream._send


class RawStream:
    """What HTTP needs of a stream.

    :param read_chunk_size: bytes: the most that one delivery brings.
    :param io_loop: where it lives; None means the current loop.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_close_callback", "_closed", "_connecting", "_consumer", "_drain_callback",
        "_drained", "_events", "_io", "_progress", "_registered", "_write_buffer", "_write_waiters",
        "callbacks_waiting", "error", "io_loop", "read_chunk_size",
    )  # fmt: skip

    def __init_subclass__(cls) -> None:
        """Let a subclass that says `read_from_fd` or `write_to_fd` anew (a stream that counts, say) be heard."""
        for name, shortcut in (("read_from_fd", "_recv"), ("write_to_fd", "_send")):
            owner = next(each for each in cls.__mro__ if name in vars(each) or shortcut in vars(each))
            if shortcut not in vars(owner):
                setattr(cls, shortcut, getattr(RawStream, shortcut))

    def __init__(self, read_chunk_size: int, io_loop: IOLoop | None = None) -> None:
        self.io_loop = io_loop or IOLoop.current()
        self.read_chunk_size = read_chunk_size
        self.error: BaseException | None = None
        self.callbacks_waiting = 0  # scheduled by `pollux.waiters`, and not yet called
        self._closed = False
        self._connecting = False  # connect or handshake is under way: writes are kept, reads wait
        self._io: Any = _Hooks(self)  # has `recv` and `send`; a plain socket is its own
        self._events = 0
        self._registered = False
        self._consumer: Consumer | None = None
        self._write_buffer: WriteBuffer | None = None  # None: all has left
        self._write_waiters: deque[tuple[int, Waiter]] | None = None  # each with what `WriteBuffer.taken` will be
        self._progress = False
        self._close_callback: Callable[[], object] | None = None
        self._drain_callback: Callable[[], object] | None = None
        self._drained: Future[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"fd={IOLoop.split_fd(self.fileno())[0]}"
        return f"<{type(self).__name__} {state} unsent={self.unsent}>"

    # What a subclass says

    def fileno(self) -> FileDescriptorLike:
        """Return the descriptor, or an object that has one."""
        raise NotImplementedError(f"{type(self).__name__} does not say fileno()")

    def close_fd(self) -> None:
        """Close the descriptor. Only the stream itself calls this: others call `close`."""
        raise NotImplementedError(f"{type(self).__name__} does not say close_fd()")

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read up to `len(buf)` bytes into `buf`; return how many, None if there are none now, 0 at the end."""
        raise NotImplementedError(f"{type(self).__name__} does not say read_from_fd()")

    def write_to_fd(self, data: memoryview) -> int:
        """Write some of `data`; return how much, 0 if nothing can be written now."""
        raise NotImplementedError(f"{type(self).__name__} does not say write_to_fd()")

    def get_fd_error(self) -> Exception | None:
        """Return the error that is pending on the descriptor, None if there is none to know of."""
        return None

    def _recv(self, size: int) -> bytes:
        """Read as `socket.recv` does: `BlockingIOError` if there is nothing now."""
        buffer = bytearray(size)
        count = self.read_from_fd(buffer)
        if count is None:
            raise BlockingIOError
        return bytes(memoryview(buffer)[:count])

    def _send(self, data: bytes | memoryview) -> int:
        """Write as `socket.send` does: `BlockingIOError` if nothing can be written now."""
        sent = self.write_to_fd(memoryview(data))
        if not sent and data:
            raise BlockingIOError
        return sent

    def _is_connreset(self, error: BaseException) -> bool:
        """Return whether `error` only says that the connection has gone."""
        return isinstance(error, OSError) and error.errno in _RESET

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
        if not self._closed:
            self._want(self._events & ~READ)

    def resume_reading(self) -> None:
        """Go on with delivery after `pause_reading`."""
        if not self._closed and self._consumer not in (None, _ended):
            self._want(self._events | READ)

    def deliver_arrived(self) -> None:
        """Deliver what has arrived and the poller has not told of yet: for who is about to close."""
        if self._events & READ and self._consumer is not None and not self._connecting:
            self._handle_events(self.fileno(), READ)

    def _consumer_failed(self, error: BaseException) -> None:
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self.close()
            raise error
        app_log.error("Exception in the consumer of %r, closing it", self, exc_info=error)
        self.close(error)

    # Writing

    def send(self, data: bytes) -> bool:
        """Write `data`; return True if the kernel took all of it, False if a rest is buffered (see `on_drain`).

        On a closed stream nothing happens: the close callback has told, or is about to.
        """
        if self._write_buffer is None:
            if self._closed:
                return True
            try:
                sent = self._io.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._write_failed(error)
                return True
            if sent == len(data):
                return True
            self._write_buffer = WriteBuffer()
            self._write_buffer.append(memoryview(data)[sent:])
            self._want(self._events | WRITE)
        else:
            self._write_buffer.append(data)
        return False

    def send_file(self, file: BinaryIO, offset: int, count: int) -> Awaitable[None]:
        """Write a part of a file, behind what was written before; it never is in memory as a whole.

        Where the system can, the kernel copies it to the socket (sendfile(2)). The disk is read on the loop, 256 KiB at
        a time.

        :param file: a regular file, opened for reading; it belongs to the stream from now on, which closes it.
        :param offset: of the first byte.
        :param count: bytes. If the file ends before, the stream is closed: the peer must not take what it has for all.
        :returns: as `drained`.
        """
        if self._closed or count <= 0:
            file.close()
            return self.drained()
        buffer = self._write_buffer
        if buffer is not None:
            buffer.append_file(file, offset, count)
        else:
            self._write_buffer = buffer = WriteBuffer()
            buffer.append_file(file, offset, count)
            self._flush()
            if self._write_buffer is not None:
                self._want(self._events | WRITE)
        return self.drained()

    def writing(self) -> bool:
        """Return whether some of what was written has not left yet."""
        return bool(self._write_buffer)

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
        if buffer:
            try:
                file = buffer.file()
                sent = None if file is None else self._send_part_of(file)
                if sent is None:
                    if file is not None:
                        buffer.read_file()
                    with buffer.head() as part:
                        sent = self._io.send(part)
            except BlockingIOError:
                return
            except OSError as error:
                self._write_failed(error)
                return
            self._progress = True
            buffer.advance(sent)
        waiters = self._write_waiters
        while waiters and waiters[0][0] <= buffer.taken:
            waiter: Any = waiters.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        if not buffer:
            self._write_buffer = None
            self._want(self._events & ~WRITE)
            callback, self._drain_callback = self._drain_callback, None
            drained, self._drained = self._drained, None
            if drained is not None and not drained.done():
                drained.set_result(None)
            if callback is not None:
                callback()

    def _send_part_of(self, file: FilePart) -> int | None:
        """Send some of a file; return how many bytes, or None if the way out is no plain socket."""
        return None

    def _write_failed(self, error: OSError) -> None:
        if not self._is_connreset(error):
            gen_log.warning("Write error on %r: %s", self, error)
        self.close(error)

    # Closing

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` once, in a later iteration, when the stream is closed, by whichever side.

        It comes after the callbacks of reads and writes that were answered before.
        """
        self._close_callback = wrap(callback)

    def close(self, exc_info: bool | BaseException | ExcInfo | None = False) -> None:
        """Close the stream; what is still in the write buffer is dropped. A second close does nothing.

        :param exc_info: why, for `self.error`: an exception, what `sys.exc_info()` returns, or True for the one that is
            being handled. False: an orderly close.
        """
        if self._closed:
            return
        if exc_info:
            self.error = _error_of(exc_info)
        self._closed = True
        self._connecting = False
        if self._registered:
            self._registered = False
            self.io_loop.remove_handler(self.fileno())
        self._events = 0
        self.close_fd()
        if self._write_buffer:
            self._write_buffer.close()
        self._io = self._consumer = self._write_buffer = self._drain_callback = None
        self._fail_waiters()
        callback, self._close_callback = self._close_callback, None
        if callback is not None:
            self.io_loop.add_callback(self._tell_closed, callback)

    def _fail_waiters(self) -> None:
        """Tell those who wait that the stream is closed."""
        waiters, self._write_waiters = self._write_waiters, None
        for _, waiter in waiters or ():
            fail(waiter, StreamClosedError(self.error))
        drained, self._drained = self._drained, None
        if drained is not None:
            fail(drained, StreamClosedError(self.error))

    def _tell_closed(self, callback: Callable[[], object]) -> object:
        if self.callbacks_waiting:
            self.io_loop.add_callback(self._tell_closed, callback)
            return None
        return callback()

    def closed(self) -> bool:
        """Return whether the stream is closed."""
        return self._closed

    def set_nodelay(self, value: bool) -> None:
        """Switch Nagle's algorithm off (True) or on, where there is one."""

    # Events

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosedError(self.error)

    def _want(self, events: int) -> None:
        """Bring the registration in line with `events`."""
        if self._connecting:
            return
        if not events and self._consumer is None:
            self._unregister()
        elif not self._registered:
            self._register(self._handle_events, events)
        elif events != self._events:
            self.io_loop.update_handler(self.fileno(), events)
        self._events = events

    def _register(self, handler: Callable[[Any, int], None], events: int) -> None:
        """Let the loop call `handler`, outside the stack contexts of whoever happens to make the first read.

        If the poller cannot watch the descriptor, the stream is of no use and is closed.
        """
        try:
            if entered.get() is None:
                self.io_loop.add_handler(self.fileno(), handler, events)
            else:
                with NullContext():
                    self.io_loop.add_handler(self.fileno(), handler, events)
        except (OSError, ValueError) as error:
            self.close(error)
            raise
        self._registered = True

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            self.io_loop.remove_handler(self.fileno())

    def _begin_connecting(self) -> None:
        """From now on reads wait, and what is written is kept, until `_connected`."""
        self._connecting = True
        self._events = 0
        self._write_buffer = WriteBuffer()

    def _connected(self) -> None:
        """Go on with what has waited."""
        self._connecting = False
        self._unregister()
        self._events = 0
        self._flush()
        if self._write_buffer is not None:
            self._want(self._events | WRITE)
        self.resume_reading()

    def _handle_read(self) -> None:
        """READ was reported, and there is no consumer."""
        self._want(self._events & ~READ)

    def _handle_events(self, fd: Any, events: int) -> None:
        if events & ~WRITE and self._events & READ:
            consumer = self._consumer
            if consumer is None:
                self._handle_read()
            else:
                try:
                    data = self._io.recv(self.read_chunk_size)
                except BlockingIOError:
                    return
                except OSError as error:
                    self.close(error)
                    return
                if not data:
                    self._want(self._events & ~READ)
                    self._consumer = _ended
                try:
                    consumer(data)
                except BaseException as error:
                    self._consumer_failed(error)
        elif events & ERROR:
            # Nobody reads, and the connection is gone: without closing, a level-triggered poller would report it for
            # ever.
            self.close(self.get_fd_error() or OSError(errno.EPIPE, "the peer has hung up"))
            return
        if events & WRITE and not self._closed:
            self._flush()


def _error_of(exc_info: bool | BaseException | ExcInfo) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    return exc_info[1] if isinstance(exc_info, tuple) else sys.exception()
