"""Waiting for time, for something within a time, and for one thing after the other.

Deadlines are the loop's: seconds of `IOLoop.time()`, or a timedelta from now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from pollux.concurrent import chain_future, future_add_done_callback, future_set_result_unless_cancelled
from pollux.gen.convert import Exceptions, convert_yielded, current_loop, new_future
from pollux.ioloop import IOLoop
from pollux.log import app_log


def sleep(duration: float) -> asyncio.Future[None]:
    """Return a Future that is done after `duration` seconds. By itself this does not wait: yield or await it."""
    future = new_future()
    current_loop().call_later(duration, future_set_result_unless_cancelled, future, None)
    return future


def with_timeout(
    timeout: float | timedelta,
    future: Any,
    quiet_exceptions: Exceptions = (),
    *,
    message: str | Callable[[], str] | None = None,
    io_loop: IOLoop | None = None,
) -> asyncio.Future[Any]:
    """Return a Future that is done when `future` is, or fails with `TimeoutError` at `timeout`.

    `future` itself is not cancelled, others may want it. If it fails after the time, its exception is logged, unless it
    is of a type in `quiet_exceptions` or a cancellation. (`asyncio.wait_for` cancels.)

    :param timeout: a time of `IOLoop.time()`, or a timedelta from now, as for `IOLoop.add_timeout`.
    :param future: anything that may be yielded.
    :param message: what the `TimeoutError` says, or a function that makes it when needed; "Timeout" if None.
    :param io_loop: whose clock (up to Tornado 4); None means the current loop's.
    """
    waited = convert_yielded(future)
    result = new_future()
    loop = io_loop or current_loop()

    def log_failure(late: asyncio.Future[Any]) -> None:
        if late.cancelled():
            return
        error = late.exception()
        if error is not None and not isinstance(error, quiet_exceptions):
            app_log.error("Exception in Future %r after timeout", late, exc_info=error)

    def give_up() -> None:
        if waited.done():
            return  # in time, if only just: the result is on its way
        if not result.done():
            text = message() if callable(message) else message
            result.set_exception(TimeoutError("Timeout" if text is None else text))
        future_add_done_callback(waited, log_failure)

    chain_future(waited, result)
    if not result.done():
        timer = loop.add_timeout(timeout, give_up)
        future_add_done_callback(waited, lambda _done: loop.remove_timeout(timer))
    return result


class WaitIterator:
    """Gives results in the order in which they come.

        waiting = gen.WaitIterator(first, second)       # or by name: WaitIterator(a=first, b=second)
        while not waiting.done():
            try:
                result = yield waiting.next()
            except Exception as error:
                print(waiting.current_index, "failed", error)
            else:
                print(waiting.current_index, "gave", result)

    In `async def`, also `async for result in gen.WaitIterator(first, second)`, which ends with the first failure.

    `current_future` is the argument whose result `next` gave last, `current_index` its position or name.

    :param args: anything that may be yielded.
    :raises ValueError: there are arguments of both kinds.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError(f"WaitIterator: expected positions or names, got {len(args)} and {len(kwargs)} of them")
        self.current_index: int | str | None = None
        self.current_future: Any = None
        self._finished: deque[tuple[int | str, Any, Any]] = deque()  # index, argument, its future
        self._running: asyncio.Future[Any] | None = None
        children: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        self._unfinished = len(children)  # that next() has not given
        for index, child in children:
            future = convert_yielded(child)
            future_add_done_callback(future, partial(self._done, index, child))

    def done(self) -> bool:
        """Return whether `next` has given all."""
        if self._unfinished:
            return False
        self.current_index = self.current_future = None
        return True

    def next(self) -> asyncio.Future[Any]:
        """Return a Future of the result that comes next, a new one for each call."""
        self._running = running = new_future()
        if self._finished:
            self._give(*self._finished.popleft())
        return running

    def _done(self, index: int | str, child: Any, future: Any) -> None:
        if self._running is not None and not self._running.done():
            self._give(index, child, future)
        else:
            self._finished.append((index, child, future))

    def _give(self, index: int | str, child: Any, future: Any) -> None:
        running, self._running = self._running, None
        self._unfinished -= 1
        self.current_index, self.current_future = index, child
        if running is not None:
            chain_future(future, running)

    def __aiter__(self) -> WaitIterator:
        return self

    def __anext__(self) -> asyncio.Future[Any]:
        if self.done():
            raise StopAsyncIteration
        return self.next()
