"""Deferreds and Futures: each made of the other, and Deferreds awaited in tasks.

What the outside world fixes
----------------------------
* A task may only wait for objects that asyncio takes for a future: `_asyncio_future_blocking` is true, `get_loop()` is
  the task's loop, `add_done_callback(callback, context=)`, `cancel(msg=)`, and `result()` of what is handed to the
  callback. `await deferred` gives the Deferred itself to whoever drives the coroutine, which is right for Twisted's
  `inlineCallbacks` and an error for a task.
* `Deferred.cancel` fails the Deferred by itself if its canceller does not. A Future fails later, from the loop.

What was decided
----------------
* `Deferred.__await__` is replaced by one that asks who drives: outside a task of our loop it does what it did. Inside,
  a Future could be given to the task, but Twisted's own coroutines may be started by a task and run in its step, too.
  So what is given is `_Waiting`, which is a Deferred for Twisted and a future for the task. (Rejected: a wrapper around
  each coroutine, or a task class of our own: both are in the path of every task, with or without Twisted.)
* Nothing is replaced until `teach` is called: by `install`, `attach`, the first loop on the backend `twisted`, and the
  conversions here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pollux import gen
from pollux.ioloop import IOLoop

T = TypeVar("T")

_twisteds_await: Callable[[Any], Generator[Deferred[Any], None, Any]] = vars(Deferred)["__await__"]


def teach() -> None:
    """Let Deferreds be yielded and awaited in coroutines on our loops. May be called again."""
    if vars(Deferred)["__await__"] is _twisteds_await:
        gen.convert_yielded.register(Deferred, as_future)
        type.__setattr__(Deferred, "__await__", _await)


def exception_of(failure: Failure) -> BaseException:
    """Return the exception with the traceback that the failure has kept, which may be the only one."""
    error = failure.value
    if error is None:
        return RuntimeError(f"a Failure without an exception: {failure!r}")
    if error.__traceback__ is None and isinstance(traceback := failure.getTracebackObject(), TracebackType):
        return error.with_traceback(traceback)
    return error


def as_future(deferred: Deferred[T], loop: IOLoop | None = None) -> asyncio.Future[T]:
    """See `pollux_twisted.as_future`."""
    teach()
    future: asyncio.Future[T] = asyncio.Future(loop=IOLoop.current() if loop is None else loop)

    def succeed(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def fail(failure: Failure) -> None:
        if not future.done():
            _fail(future, exception_of(failure))

    def cancel(_future: asyncio.Future[T]) -> None:
        if future.cancelled():
            deferred.cancel()

    deferred.addCallbacks(succeed, fail)
    future.add_done_callback(cancel)
    return future


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
        return
    if isinstance(error, StopIteration):  # which asyncio refuses: nobody could await it
        wrapper = RuntimeError(f"a Deferred failed with {error!r}")
        wrapper.__cause__ = error
        error = wrapper
    future.set_exception(error)


def ensure_deferred(awaitable: Awaitable[T], loop: IOLoop | None = None) -> Deferred[T]:
    """See `pollux_twisted.ensure_deferred`."""
    teach()
    if isinstance(awaitable, Deferred):
        return awaitable
    if loop is None:
        loop = IOLoop.current()
    if isinstance(awaitable, asyncio.Future):
        future = awaitable
    else:
        future = loop.create_task(awaitable if asyncio.iscoroutine(awaitable) else _wait_for(awaitable))
        loop.hold(future)

    def cancel(_deferred: Deferred[T]) -> None:
        future.cancel()

    deferred: Deferred[T] = Deferred(cancel)

    def done(_future: asyncio.Future[T]) -> None:
        error = defer.CancelledError() if future.cancelled() else future.exception()
        if not deferred.called:
            if error is None:
                deferred.callback(future.result())
            else:
                deferred.errback(Failure(error, type(error), error.__traceback__))
        elif error is not None and not future.cancelled():
            message = "a coroutine failed after its Deferred was cancelled"
            loop.call_exception_handler({"message": message, "exception": error, "future": future})

    future.add_done_callback(done)
    return deferred


async def _wait_for(yieldable: Any) -> Any:
    return await gen.convert_yielded(yieldable)


def _await(self: Deferred[Any]) -> Generator[Deferred[Any], None, Any]:
    """In place of `Deferred.__await__`."""
    loop = asyncio._get_running_loop()
    if not isinstance(loop, IOLoop) or asyncio.current_task(loop) is None or (self.called and not self.paused):
        return _twisteds_await(self)
    return _await_in_task(self, loop)


def _await_in_task(deferred: Deferred[Any], loop: IOLoop) -> Generator[Deferred[Any], None, Any]:
    waiting = _Waiting(deferred, loop)
    yield waiting
    outcome = waiting.outcome
    del waiting
    if isinstance(outcome, Failure):
        try:
            raise exception_of(outcome)
        finally:
            del outcome  # the traceback keeps this frame, which must not keep the exception
    return outcome


class _Waiting(Deferred[Any]):
    """What `await deferred` gives to whoever drives the coroutine: a Deferred that fires with None when the awaited one
    has fired, and a future for one task. It is one of the two: who calls `add_done_callback` is a task.

    :ivar outcome: the result or Failure of the awaited one, which is taken from it, as Twisted does.
    """

    outcome: Any = None

    def __init__(self, deferred: Deferred[Any], loop: IOLoop) -> None:
        super().__init__()
        self._asyncio_future_blocking = True
        self._awaited = deferred
        self._loop = loop
        self._cancelled = False
        self._wake: Callable[[], object] | None = None  # the task
        deferred.addBoth(self._fired)

    def __repr__(self) -> str:
        return f"<waiting for {self._awaited!r}>"

    def _fired(self, outcome: Any) -> None:
        self.outcome = outcome
        if self._wake is not None:
            self._wake()
        else:
            self.callback(None)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]  # asyncio asks whether it helped
        """Cancel what is awaited. A task then gets asyncio's CancelledError, whatever the canceller made of it."""
        self._cancelled = self._wake is not None
        self._awaited.cancel()
        return True

    def get_loop(self) -> IOLoop:
        """Return the task's loop."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """A task waits."""
        wake = partial(self._loop.call_soon, callback, self, context=context)
        if self.called:
            wake()
        else:
            self._wake = wake

    def result(self) -> None:  # type: ignore[override]  # a Deferred's attribute; it is set where no task waits
        """Let the task go on."""
        if self._cancelled:
            raise asyncio.CancelledError
