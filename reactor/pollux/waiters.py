"""Who waits for a stream: a Future, or a callback that looks like one.

A stream answers a read by `set_result` and fails it by `set_exception`, and asks by `done` whether anybody still waits.
A plain `asyncio.Future` has these three; the classes here have them too, so that a stream need not know which of
Tornado's dialects it is spoken to in:

* `callback=` (Tornado 1 to 5): called on the loop, in a later iteration, with what a Future's result would be, in the
  contexts of where it was given. If the stream closes first it is not called: the close callback tells.
* `streaming_callback=`: called with each piece, before the read as a whole is answered by an empty result.

A callback that raises, also later in a coroutine, closes its stream unless a stack context handles that: nobody else
would, and the descriptor would be lost. The loop logs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

from pollux.stack_context import wrap

if TYPE_CHECKING:
    from pollux.basestream import BaseIOStream

Callback = Callable[..., Any]


class Waiter(Protocol):
    """What a stream wants of those who wait."""

    def done(self) -> bool:
        """Return whether nobody waits any more: it was answered, or given up."""

    def set_result(self, result: Any, /) -> object:
        """Answer."""

    def set_exception(self, error: BaseException, /) -> object:
        """Fail."""


def fail(waiter: Waiter, error: BaseException) -> None:
    """Fail `waiter` if it still waits; asyncio is not to complain if nobody looks at it."""
    if not waiter.done():
        waiter.set_exception(error)
        if isinstance(waiter, asyncio.Future):
            waiter.exception()


class Scheduler:
    """Calls a stream's callback on the loop, as often as there is something to tell, in the context of where it was
    made.
    """

    __slots__ = ("_callback", "_context", "_stream")

    def __init__(self, stream: BaseIOStream, callback: Callback) -> None:
        self._stream = stream
        self._callback = wrap(callback)
        self._context = copy_context()

    def schedule(self, *args: Any) -> None:
        """Call the callback with `args` in the next iteration."""
        self._stream.callbacks_waiting += 1
        self._stream.io_loop.call_soon(self._run, args, context=self._context)

    def _run(self, args: tuple[Any, ...]) -> None:
        self._stream.callbacks_waiting -= 1
        try:
            result = self._callback(*args)
        except BaseException as error:
            self._failed(error)
        else:
            if isawaitable(result):
                self._stream.io_loop.start_task(self._finish(result))

    async def _finish(self, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception as error:
            if not self._stream.io_loop.callback_failed(self._callback, error):
                self._stream.close(error)

    def _failed(self, error: BaseException) -> None:
        self._stream.close(error)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise error
        self._stream.io_loop.handle_callback_exception(self._callback)


class CallbackWaiter:
    """A callback in place of a Future.

    :param with_result: whether it is given the result; that of a write has none worth giving.
    """

    __slots__ = ("_done", "_scheduler", "_with_result")

    def __init__(self, stream: BaseIOStream, callback: Callback, with_result: bool) -> None:
        self._scheduler = Scheduler(stream, callback)
        self._with_result = with_result
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any) -> None:
        self._done = True
        if self._with_result:
            self._scheduler.schedule(result)
        else:
            self._scheduler.schedule()

    def set_exception(self, error: BaseException) -> None:
        self._done = True


class StreamingWaiter:
    """A read that is passed on in pieces: it starts itself anew until all have come.

    :param whole: who waits for the end; the answer is b"".
    :param size: bytes in all; None: until the stream is closed.
    """

    __slots__ = ("_left", "_scheduler", "_stream", "_whole")

    def __init__(self, stream: BaseIOStream, callback: Callback, whole: Waiter, size: int | None) -> None:
        self._stream = stream
        self._scheduler = Scheduler(stream, callback)
        self._whole = whole
        self._left = size

    def done(self) -> bool:
        return self._whole.done()

    def set_result(self, piece: bytes) -> None:
        if piece:
            self._scheduler.schedule(piece)
        if self._left is not None:
            self._left -= len(piece)
        if self._left == 0 or not piece:
            self._whole.set_result(b"")
        else:
            self._stream.read_piece(self, self._left)

    def set_exception(self, error: BaseException) -> None:
        fail(self._whole, error)
