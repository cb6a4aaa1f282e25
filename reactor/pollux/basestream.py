"""`BaseIOStream`: Tornado's reads and writes over a `RawStream`.

What was decided
----------------
* There is one read at a time; a `ReadBuffer` answers it.
* READ interest begins with the first read that needs it, is *kept* when that is answered, for the next one most likely
  follows, and is dropped by the first event that nobody reads. A protocol of requests and answers therefore changes no
  registration per message; and at most one chunk is ever read beyond what was asked for, and only together with it
  (`start_tls` depends on that).
* A read while interest is on leaves the descriptor to the poller; while it is off it tries at once, and registers only
  if that brought too little. One that the buffer can answer touches neither.
* With a close callback and no read, the descriptor is watched while the buffer is empty, as in Tornado: what comes is
  read, one chunk at most, and the end closes the stream. Without, a close is noticed by the next read or write.
  (Tornado also notices it then by the way, and so may never answer a peer that has shut down its side early.)
* All writes that leave at once share one Future, which is done.
* A read whose Future was cancelled has taken nothing: what has come for it is the next one's.
"""

from __future__ import annotations

import errno
import sys
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pollux.ioloop import IOLoop
from pollux.log import gen_log
from pollux.poller import READ, WRITE
from pollux.rawstream import Consumer, RawStream, StreamClosedError
from pollux.readbuffer import Answer, ReadBuffer, StreamBufferFullError, UnsatisfiableReadError
from pollux.waiters import CallbackWaiter, StreamingWaiter, Waiter, fail
from pollux.writebuffer import WriteBuffer

if TYPE_CHECKING:
    import re

    from _typeshed import WriteableBuffer

READ_CHUNK_SIZE = 64 * 1024  # bytes: what one recv asks for. Tornado's value; larger ones make malloc go to mmap.
_NOT_CONNECTED = (errno.ENOTCONN, errno.EINVAL)  # what a socket says that is yet to be connected; a Unix one the latter
MAX_BUFFER_SIZE = 100 * 1024 * 1024  # bytes: Tornado's value


class BaseIOStream(RawStream):
    """Tornado's `BaseIOStream`: a subclass says `fileno`, `close_fd`, `read_from_fd`, `write_to_fd`, `get_fd_error`.

    Every read and write returns a Future, or takes a `callback` and returns None; the callback is called on the loop
    with the result, and not at all if the stream closes first. All errors that end a read or write reach it as
    `StreamClosedError`, whose `real_error` is also the stream's `error`.

    Tornado 2 to 5 have the callback as the second argument of reads and of `connect`, where Tornado 6 has others. It is
    taken there, too.

    :param max_buffer_size: the most bytes that are held unread; default `MAX_BUFFER_SIZE`, 100 MiB.
    :param read_chunk_size: the most bytes that are read at a time; default `READ_CHUNK_SIZE`, 64 KiB, and never more
        than half of `max_buffer_size`.
    :param max_write_buffer_size: the most bytes that are held unsent, for `write`; default None, without limit.
    :param io_loop: where it lives (up to Tornado 4, also in the place of `max_buffer_size`); None: the current loop.
    """

    __slots__ = ("_buffer", "_until_close", "_waiter", "_written", "max_buffer_size", "max_write_buffer_size")

    def __init__(
        self,
        max_buffer_size: int | None = None,
        read_chunk_size: int | None = None,
        max_write_buffer_size: int | None = None,
        io_loop: IOLoop | None = None,
    ) -> None:
        if isinstance(max_buffer_size, IOLoop):
            max_buffer_size, io_loop = None, max_buffer_size  # type: ignore[unreachable]
        self.max_buffer_size = max_buffer_size or MAX_BUFFER_SIZE
        self.max_write_buffer_size = max_write_buffer_size
        self._buffer: ReadBuffer | None = None  # made by the first read
        self._waiter: Waiter | None = None  # who waits for the pending read
        self._until_close = False  # that read ends when the stream closes
        self._written: Future[None] | None = None  # done: of all writes that left at once
        super().__init__(max(1, min(read_chunk_size or READ_CHUNK_SIZE, self.max_buffer_size // 2)), io_loop)

    # Reading by Tornado's names

    def read_until(
        self, delimiter: bytes, max_bytes: int | None = None, callback: Callable[[bytes], Any] | None = None
    ) -> Awaitable[bytes]:
        """Read up to and with `delimiter`.

        :param max_bytes: if it takes more, the stream is closed with an `UnsatisfiableReadError`.
        :raises StreamClosedError: at once if the stream is closed and the buffer does not hold the answer, else from
            the Future.
        :raises AssertionError: another read is pending.
        :raises ValueError, TypeError: a bad argument. The stream goes on.
        """
        buffer = self._buffer
        if buffer is None or self._waiter is not None:
            buffer = self._idle_buffer()
        if max_bytes is not None and callable(max_bytes):
            max_bytes, callback = callback, max_bytes  # type: ignore[assignment]
        try:
            answer = buffer.until(delimiter, max_bytes)
        except UnsatisfiableReadError as error:
            return self._unsatisfiable(error, callback)
        if answer is None and callback is None and self._events & READ and self._consumer is None:
            future: Future[bytes] = Future(loop=self.io_loop)  # as `_begin` does, without the call: lines are many
            self._waiter = future
            return future
        return self._begin(answer, callback)

    def read_until_regex(
        self,
        regex: bytes | re.Pattern[bytes],
        max_bytes: int | None = None,
        callback: Callable[[bytes], Any] | None = None,
    ) -> Awaitable[bytes]:
        """Read up to the end of the first match of `regex`. Else as `read_until`.

        Give `max_bytes` if the expression is unbounded or looks ahead: see `pollux.readbuffer`.
        """
        buffer = self._idle_buffer()
        if max_bytes is not None and callable(max_bytes):
            max_bytes, callback = callback, max_bytes  # type: ignore[assignment]
        try:
            answer = buffer.until_regex(regex, max_bytes)
        except UnsatisfiableReadError as error:
            return self._unsatisfiable(error, callback)
        return self._begin(answer, callback)

    def read_bytes(
        self,
        num_bytes: int,
        partial: bool = False,
        callback: Callable[[bytes], Any] | None = None,
        streaming_callback: Callable[[bytes], Any] | None = None,
    ) -> Awaitable[bytes]:
        """Read `num_bytes` bytes; with `partial` as many as there are, but at least one.

        :param streaming_callback: called with each piece as it comes, until there were `num_bytes` in all; the result
            is b"" then.
        :raises ValueError, TypeError: `num_bytes` is negative, or no integer. Other errors: see `read_until`.
        """
        buffer = self._buffer
        if buffer is None or self._waiter is not None:
            buffer = self._idle_buffer()
        if partial and callable(partial):
            partial, callback, streaming_callback = False, partial, streaming_callback or callback  # type: ignore[assignment]
        if streaming_callback is None:
            return self._begin(buffer.count(num_bytes, partial), callback)
        answer = buffer.count(num_bytes, partial=True)
        whole = self._waiter_for(callback)
        self._begin_with(answer, StreamingWaiter(self, streaming_callback, whole, num_bytes))
        return promised(whole)

    def read_into(
        self, buf: WriteableBuffer, partial: bool = False, callback: Callable[[int], Any] | None = None
    ) -> Awaitable[int]:
        """Fill `buf`, or with `partial` put there what has come; the result is how many bytes. Else as `read_bytes`.

        `buf` is written to when all is here, not before.
        """
        buffer = self._idle_buffer()
        if callable(partial):
            partial, callback = bool(callback), partial  # type: ignore[assignment]
        view = memoryview(buf).cast("B")
        if view.readonly:
            raise TypeError(f"read_into: expected a buffer that can be written to, got {type(buf).__name__}")
        return self._begin(buffer.into(view, partial), callback)

    def read_until_close(
        self,
        callback: Callable[[bytes], Any] | None = None,
        streaming_callback: Callable[[bytes], Any] | None = None,
    ) -> Awaitable[bytes]:
        """Read all that comes until the stream is closed.

        A reset ends it as an orderly close does. On a closed stream the result is what the buffer still holds.

        :param streaming_callback: called with each piece as it comes; the result is b"" then.
        """
        buffer = self._idle_buffer()
        waiter = whole = self._waiter_for(callback)
        if streaming_callback is not None:
            waiter = StreamingWaiter(self, streaming_callback, whole, None)
        if self._closed:
            waiter.set_result(buffer.everything())
        elif streaming_callback is not None:
            self._until_close = True
            self._begin_with(buffer.count(sys.maxsize, partial=True), waiter)
        else:
            self._until_close = True
            self._read_now(waiter)
        return promised(whole)

    def reading(self) -> bool:
        """Return whether a read is pending."""
        return self._waiter is not None and not self._waiter.done()

    def deliver_to(self, consumer: Consumer) -> None:
        """See `RawStream.deliver_to`. What the last read has left in the buffer is delivered at once.

        :raises AssertionError: a read is pending.
        """
        if self.reading():
            raise AssertionError("Already reading: await the read that is pending before deliver_to()")
        super().deliver_to(consumer)
        if self._buffer:
            try:
                consumer(self._buffer.everything())
            except BaseException as error:
                self._consumer_failed(error)

    def stop_delivery(self, rest: bytes = b"") -> None:
        """End what `deliver_to` began: from now on the stream is read again.

        :param rest: what was delivered and not used: the first to be read, before what comes.
        """
        self._consumer = None
        self.pause_reading()  # reads begin with what is in the buffer
        if rest:
            self._idle_buffer().feed(rest)
        self._watch_for_close()

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """See `RawStream.set_close_callback`. While nobody reads and nothing is buffered, the peer's end is watched
        for."""
        super().set_close_callback(callback)
        self._watch_for_close()

    def _idle_buffer(self) -> ReadBuffer:
        """Return the buffer, for a new read."""
        waiter = self._waiter
        buffer = self._buffer
        if waiter is not None:
            if not waiter.done():
                raise AssertionError("Already reading: await the read that is pending before the next one")
            self._forget_read()
        if buffer is None:
            buffer = self._buffer = ReadBuffer(self.max_buffer_size)
        return buffer

    def _waiter_for(self, callback: Callable[..., Any] | None, with_result: bool = True) -> Any:
        return Future(loop=self.io_loop) if callback is None else CallbackWaiter(self, callback, with_result)

    def _begin(self, answer: Answer | None, callback: Callable[..., Any] | None) -> Future[Any]:
        """Answer a new read from the buffer, or begin to wait."""
        if answer is None and callback is None and self._events & READ and self._consumer is None:
            future: Future[Any] = Future(loop=self.io_loop)  # the usual case: the poller looks already
            self._waiter = future
            return future
        waiter = self._waiter_for(callback)
        self._begin_with(answer, waiter)
        return promised(waiter)

    def _begin_with(self, answer: Answer | None, waiter: Waiter) -> None:
        if answer is None:
            self._read_now(waiter)
        else:
            waiter.set_result(answer)
            self._watch_for_close()

    def _read_now(self, waiter: Waiter) -> None:
        """Read for `waiter`: leave it to the poller if that looks already, else try at once."""
        if self._closed or self._consumer is not None:
            self._forget_read()
            self._check_open()
            raise AssertionError("Already reading: deliver_to() takes all that comes")
        self._waiter = waiter
        if self._events & READ or self._connecting:
            return
        self._handle_read(at_once=True)
        if self.reading():
            self._want(self._events | READ)
        else:
            self._watch_for_close()

    def read_piece(self, waiter: Waiter, size: int | None) -> None:
        """Go on with a read that is passed on in pieces. Called by `pollux.waiters`.

        :param size: bytes still to come; None: until the stream is closed.
        """
        if not self._closed:
            self._buffer.count(sys.maxsize if size is None else size, partial=True)  # type: ignore[union-attr]
            self._waiter = waiter  # the buffer is empty now: a piece is all there was
            self._want(self._events | READ)
        elif size is None:
            waiter.set_result(b"")
        else:
            fail(waiter, StreamClosedError(self.error))

    def _handle_read(self, at_once: bool = False) -> None:
        """Read a chunk for the read that is pending; without one, only to learn whether the peer closes.

        :param at_once: called by the read itself, which raises what would otherwise be logged.
        """
        waiter = self._waiter
        if waiter is None or waiter.done():
            if waiter is not None:
                self._forget_read()
                waiter = None
            if self._close_callback is None or self._buffer:
                self._want(self._events & ~READ)
                return
        try:
            data = self._io.recv(self.read_chunk_size)
        except BlockingIOError:
            return
        except OSError as error:
            self._read_failed(error, at_once)
            return
        if not data:
            self.close()
            return
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = ReadBuffer(self.max_buffer_size)
        try:
            answer = buffer.feed(data)
        except UnsatisfiableReadError as error:
            gen_log.info("Unsatisfiable read, closing connection: %s", error)
            self.close(error)
        except StreamBufferFullError as error:
            gen_log.error("%s", error)
            self.close(error)
        else:
            if answer is not None:
                self._waiter = None
                waiter.set_result(answer)  # type: ignore[union-attr]  # there is no answer without a read

    def _read_failed(self, error: OSError, at_once: bool) -> None:
        if self._waiter is None and error.errno in _NOT_CONNECTED:
            self._want(self._events & ~READ)
            return
        reset = self._is_connreset(error)
        if not reset and not at_once:
            gen_log.warning("error on read: %s", error)
        self.close(error)
        if not reset and at_once:
            raise error

    def _unsatisfiable(self, error: UnsatisfiableReadError, callback: Callable[..., Any] | None) -> Future[Any]:
        """The buffer already holds more than a new read allows."""
        gen_log.info("Unsatisfiable read, closing connection: %s", error)
        waiter = self._waiter = self._waiter_for(callback)
        self.close(error)
        return promised(waiter)

    def _fail_waiters(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            if self._until_close and (self.error is None or self._is_connreset(self.error)) and not waiter.done():
                waiter.set_result(self._buffer.everything())  # type: ignore[union-attr]  # made by the read
            self._forget_read()
            fail(waiter, StreamClosedError(self.error))
        super()._fail_waiters()

    def _connected(self) -> None:
        super()._connected()
        if self.reading():
            self._want(self._events | READ)
        else:
            self._watch_for_close()

    def _forget_read(self) -> None:
        self._waiter = None
        self._until_close = False
        if self._buffer is not None:
            self._buffer.forget()

    def _watch_for_close(self) -> None:
        """With a close callback, notice that the peer closes while nobody reads and nothing is left to be read."""
        if (
            self._close_callback is not None
            and not self._events & READ
            and not self._buffer
            and not self._closed
            and self._consumer is None
        ):
            self._want(self._events | READ)

    # Writing

    def write(self, data: bytes | memoryview, callback: Callable[[], Any] | None = None) -> Future[None]:
        """Write `data`; the Future is done when the kernel has taken all of it, and may be shared if that is now.

        :param data: must not be changed before that.
        :raises StreamClosedError: at once if the stream is closed already, else from the Future.
        :raises StreamBufferFullError: it does not fit into `max_write_buffer_size`. Nothing was written.
        :raises TypeError: it is not bytes. The stream goes on.
        """
        if self._closed:
            raise StreamClosedError(self.error)
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self.max_write_buffer_size is not None and self.unsent + len(data) > self.max_write_buffer_size:
            raise StreamBufferFullError(
                f"Reached maximum write buffer size: {self.unsent} bytes are unsent, {len(data)} more do not fit into "
                f"max_write_buffer_size, {self.max_write_buffer_size}: await what was written before"
            )
        if self._write_buffer is None:
            try:
                sent = self._io.send(data) if data else 0
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._write_failed(error)
                waiter = self._waiter_for(callback, with_result=False)
                fail(waiter, StreamClosedError(error))
                return promised(waiter)
            if sent == len(data):
                if callback is not None:
                    waiter = CallbackWaiter(self, callback, with_result=False)
                    waiter.set_result(None)
                    return promised(waiter)
                if self._written is None:
                    self._written = Future(loop=self.io_loop)
                    self._written.set_result(None)
                return self._written
            if sent:
                data = memoryview(data)[sent:]
            self._write_buffer = WriteBuffer()
        waiter = self._waiter_for(callback, with_result=False)
        if self._write_waiters is None:
            self._write_waiters = deque()
        self._write_waiters.append((self._write_buffer.append(data), waiter))
        self._want(self._events | WRITE)
        return promised(waiter)


def promised(waiter: Waiter) -> Future[Any]:
    """Return what a read or write returns: None if there is a callback."""
    return waiter if isinstance(waiter, Future) else None  # type: ignore[return-value]


def _as_bytes(data: object) -> bytes | memoryview:
    if isinstance(data, memoryview):
        return data.cast("B")
    if isinstance(data, bytes | bytearray):
        return bytes(data)  # a bytearray is the caller's to change
    raise TypeError(f"write: expected bytes or memoryview, got {type(data).__name__}")
