"""`Answer`: the Deferred that a query returns, to be awaited in tasks of asyncio as well as in coroutines of Twisted.

What the outside world fixes
----------------------------
* `await deferred` gives the Deferred itself to whoever drives the coroutine. Twisted's `inlineCallbacks` adds a
  callback to it. A task of asyncio only takes what it believes to be a future: `_asyncio_future_blocking` is true,
  `get_loop()` is the task's loop, and it has `add_done_callback` and `cancel`; what it hands to the callback must have
  `result()`.
* One cannot know who drives: a task may start a Twisted coroutine in the middle of its own step.

So what is given is `_Waiting`, which is both. pollux_twisted does the same for every Deferred; here it is done with
what little a query needs, as it is in the path of each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Answer(Deferred[T]):
    """A Deferred that may also be awaited in a task. Cancelling it, or the task, stops the query on the server.

    As with every Deferred, a failure that nobody takes is logged when the Answer is dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, canceller: Callable[[Deferred[T]], None]) -> None:
        super().__init__(canceller)
        self._loop = loop
        self._tasks: list[tuple[Callable[[Any], object], _Waiting, Context | None]] | None = None

    def callback(self, result: Any) -> None:
        """Fire with a result."""
        super().callback(result)
        if self._tasks is not None:
            self._wake()

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """Fire with a failure."""
        super().errback(fail)
        if self._tasks is not None:
            self._wake()

    def _wake(self) -> None:
        """Let the tasks that wait go on. They are no callbacks: one in the chain costs as much as all the rest here."""
        tasks, self._tasks = self._tasks, None
        for callback, waiting, context in tasks or ():
            self._loop.call_soon(callback, waiting, context=context)

    def __await__(self) -> Generator[Any, None, T]:
        while not self.called or self.paused:
            waiting = _Waiting(self)
            yield waiting
            if waiting.cancelled:
                raise asyncio.CancelledError
        result = self.result
        if isinstance(result, Failure):
            if self._debugInfo is not None:
                self._debugInfo.failResult = None  # it is handled: somebody gets it raised
            error: BaseException = result.value  # type: ignore[assignment]
            raise error
        return cast(T, result)

    __iter__ = __await__


class _Waiting(Deferred[Any]):
    """One wait for an Answer: a Deferred for Twisted's coroutines, a future for a task. Only one of them uses it."""

    _asyncio_future_blocking = True

    def __init__(self, answer: Answer[Any]) -> None:  # Deferred's own is not called: nothing of it is used
        self._answer = answer
        self.cancelled = False

    def __repr__(self) -> str:
        return f"<_Waiting for {self._answer!r}>"

    __str__ = __repr__  # Deferred's would show `result`, which is a method here, and whose it is, and so on

    # For Twisted

    def addBoth(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        """The coroutine waits. The Answer keeps its result, for the coroutine to take when it goes on."""
        answer = self._answer

        def go_on(result: Any) -> Any:
            callback(None, *args, **kwargs)
            return result

        answer.addBoth(go_on)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]
        """Whoever waits is cancelled, and so is the query."""
        answer = self._answer
        if answer.called:
            return False
        self.cancelled = True
        answer.cancel()
        return True

    # For a task

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop whose tasks may wait."""
        return self._answer._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """The task waits: it goes on in an iteration of its loop."""
        answer = self._answer
        if not answer.called:
            if answer._tasks is None:
                answer._tasks = []
            answer._tasks.append((callback, self, context))
            return

        def go_on(result: Any) -> Any:  # it has fired, and waits for a Deferred that one of its callbacks returned
            answer._loop.call_soon(callback, self, context=context)
            return result

        answer.addBoth(go_on)

    def result(self) -> None:  # type: ignore[override]
        """What a task asks before it goes on. The result itself is taken from the Answer."""
