"""A line of those who wait for a lock or a queue: first come, first served.

Facts: a task that is cancelled just after the future it awaits got its result sees the cancellation, never the result
(`asyncio.Task.cancel`). What it was given, a lock or an item, would then be held by nobody.

Decisions:

* Who waits gets a `Turn`, a Future that can be held, awaited or yielded; the line knows only those that still wait. A
  turn that is cancelled or times out leaves the line at once. (Rejected: to leave that to whoever is served next, as
  Tornado does it, which has to sweep.)
* A turn that is awaited notices that its result was not delivered, and gives it back. One that is held rather than
  awaited cannot: who holds it has the result.
* An OrderedDict, as turns leave from anywhere in the line: a deque would search for them.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from pollux.ioloop import IOLoop
from pollux.stack_context import NullContext

T = TypeVar("T")
Timeout = float | datetime.timedelta | None
"""A deadline by the loop's clock (`IOLoop.time`), a timedelta from now, or None: without limit."""


class Turn(asyncio.Future[T]):
    """A place in the line, and later what was waited for.

    :ivar brought: what came along with it: the item that waits to be put.
    """

    def __init__(self, line: WaitLine[T], brought: Any) -> None:
        super().__init__(loop=IOLoop.current())
        self.brought = brought
        self._line = line
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """See `asyncio.Future.cancel`. Leaves the line."""
        self._line.leave(self)
        return super().cancel(msg)

    def __await__(self) -> Generator[Any, None, T]:
        try:
            return (yield from super().__await__())
        except BaseException:  # of a task that is cancelled, or a coroutine that is dropped
            self._line.leave(self)
            if self.done() and not self.cancelled() and self.exception() is None:
                self._line.not_delivered(self.result())
            raise

    __iter__ = __await__


class WaitLine(Generic[T]):
    """The turns that wait.

    :param expire: called with a turn whose time is over, which has left the line.
    :param not_delivered: called with the result of a turn whose task was cancelled before it saw it.
    """

    def __init__(self, expire: Callable[[Turn[T]], object], not_delivered: Callable[[T], object]) -> None:
        self.not_delivered = not_delivered
        self._expire = expire
        self._turns: OrderedDict[Turn[T], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    def join(self, timeout: Timeout, brought: Any = None) -> Turn[T]:
        """Return a new turn at the end of the line.

        :raises TypeError: `timeout` is neither a number nor a timedelta.
        """
        turn = Turn(self, brought)
        if timeout is not None:
            with NullContext():  # a stack context that cannot be entered must not keep the turn waiting
                turn._timer = IOLoop.current().add_timeout(timeout, self._time_is_over, turn)
        self._turns[turn] = None
        return turn

    def serve(self, give: Callable[[Turn[T]], T]) -> bool:
        """Take the first turn out of the line and answer it with `give(turn)`, or what that raises.

        :returns: whether it got a result. A turn that its owner has answered gets none.
        """
        turn, _ = self._turns.popitem(last=False)
        self._stop_timer(turn)
        if turn.done():
            return False
        try:
            turn.set_result(give(turn))
        except Exception as error:
            turn.set_exception(error)
            return False
        return True

    def leave(self, turn: Turn[T]) -> None:
        """Take a turn out of the line; one that is not in it is ignored."""
        if turn in self._turns:
            del self._turns[turn]
            self._stop_timer(turn)

    def _time_is_over(self, turn: Turn[T]) -> None:
        self.leave(turn)
        if not turn.done():
            self._expire(turn)

    @staticmethod
    def _stop_timer(turn: Turn[T]) -> None:
        if turn._timer is not None:
            turn._timer.cancel()
            turn._timer = None


def out_of_time(turn: Turn[Any]) -> None:
    """Fail a turn: what most lines do with one whose time is over."""
    turn.set_exception(TimeoutError("the time to wait was over before it was this one's turn"))


def ready(result: T) -> asyncio.Future[T]:
    """Return a Future that is done."""
    future = IOLoop.current().create_future()
    future.set_result(result)
    return future
