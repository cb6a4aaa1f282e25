"""Futures and what is done with them: Tornado's names (docs: tornado.concurrent, of Tornado 2 to 6).

There are two kinds of futures. asyncio's belongs to a loop: its callbacks run in that loop's next iteration, and only
the loop's thread may touch it. `concurrent.futures`'s belongs to nobody: its callbacks run at once, in whichever thread
finishes it. Every function here takes both, and brings what another thread has finished into the loop.

`return_future` and the argument `callback=` of `run_on_executor` went with Tornado 6; here they stay.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, overload

from pollux.ioloop import IOLoop
from pollux.log import app_log
from pollux.stack_context import ExceptionStackContext

__all__ = [
    "FUTURES",
    "DummyExecutor",
    "Future",
    "ReturnValueIgnoredError",
    "TracebackFuture",
    "chain_future",
    "dummy_executor",
    "future_add_done_callback",
    "future_set_exc_info",
    "future_set_exception_unless_cancelled",
    "future_set_result_unless_cancelled",
    "is_future",
    "return_future",
    "run_on_executor",
]

T = TypeVar("T")

Future = asyncio.Future
TracebackFuture = Future  # Tornado 3 to 5: a Future that kept tracebacks, which all do now
FUTURES = (concurrent.futures.Future, Future)

AnyFuture = asyncio.Future[T] | concurrent.futures.Future[T]


class ReturnValueIgnoredError(Exception):
    """A function that answers through its callback, or an engine, returned a value, which nobody would get."""


def is_future(x: object) -> bool:
    """Return whether `x` is a Future, asyncio's or concurrent.futures'."""
    return isinstance(x, FUTURES)


# Between futures


def future_set_result_unless_cancelled(future: AnyFuture[T], value: T) -> None:
    """Set the result, unless the future was cancelled: then nobody wants it."""
    if not future.cancelled():
        future.set_result(value)


def future_set_exception_unless_cancelled(future: AnyFuture[Any], exc: BaseException) -> None:
    """Set the exception. If the future was cancelled, log the exception instead: somebody should know."""
    if not future.cancelled():
        future.set_exception(exc)
    else:
        app_log.error("Exception after Future was cancelled", exc_info=exc)


def future_set_exc_info(
    future: AnyFuture[Any],
    exc_info: tuple[type[BaseException] | None, BaseException | None, TracebackType | None],
) -> None:
    """`future_set_exception_unless_cancelled` for what `sys.exc_info()` returned.

    :raises ValueError: no exception is being handled.
    """
    if exc_info[1] is None:
        raise ValueError(f"future_set_exc_info: expected the exc_info of an exception, got {exc_info!r}")
    future_set_exception_unless_cancelled(future, exc_info[1])


def future_add_done_callback(future: AnyFuture[T], callback: Callable[[Any], object]) -> None:
    """Call `callback(future)` when the future is done: at once, if it is done already."""
    if future.done():
        callback(future)
    else:
        future.add_done_callback(callback)


def chain_future(a: AnyFuture[T], b: AnyFuture[T]) -> None:
    """When `a` is done, give `b` its result, exception or cancellation, unless `b` is done by then.

    A concurrent `a` reaches `b` in the current loop, in its thread. One that is done already does so at once.
    """

    def copy(done: AnyFuture[T]) -> None:
        if b.done():
            return
        if done.cancelled():
            b.cancel()
        elif (error := done.exception()) is not None:
            b.set_exception(error)
        else:
            b.set_result(done.result())

    if isinstance(a, concurrent.futures.Future) and not a.done():
        IOLoop.current().add_future(a, copy)
    else:
        future_add_done_callback(a, copy)


# Executors


class DummyExecutor(concurrent.futures.Executor):
    """An executor that runs what it is given at once, in the caller's thread."""

    def submit(  # type: ignore[override]  # positional-only there, with a ParamSpec that says no more than this
        self, fn: Callable[..., T], *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[T]:
        """Call the function and return its outcome, as a future that is done."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


dummy_executor = DummyExecutor()


@overload
def run_on_executor(fn: Callable[..., T], /) -> Callable[..., Future[T]]: ...
@overload
def run_on_executor(
    *, executor: str = "executor", io_loop: str = "io_loop"
) -> Callable[[Callable[..., T]], Callable[..., Future[T]]]: ...
def run_on_executor(*args: Callable[..., Any], executor: str = "executor", io_loop: str = "io_loop") -> Any:
    """Run a method on the executor that its object has, and return a Future.

        class Files:
            executor = ThreadPoolExecutor(4)

            @run_on_executor                        # or @run_on_executor(executor="name_of_the_attribute")
            def read(self, name):
                return Path(name).read_bytes()      # blocks a thread of the pool, not the loop

    The method also takes `callback=`, which is called with the result in the loop, unless it has a parameter of that
    name itself. The loop is the current one: `io_loop`, the name of an attribute up to Tornado 4, is not looked at.
    """
    if len(args) > 1 or not all(map(callable, args)):
        raise ValueError(
            f"run_on_executor: expected one function, or the name of an attribute as executor=..., got {args!r}"
        )

    def decorate(fn: Callable[..., T]) -> Callable[..., Future[T]]:
        own_callback = takes_callback(fn)

        @functools.wraps(fn)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Future[T]:
            callback = None if own_callback else kwargs.pop("callback", None)
            future: Future[T] = Future(loop=IOLoop.current())
            chain_future(getattr(self, executor).submit(fn, self, *args, **kwargs), future)
            if callback is not None:
                call_with_result(callback, future)
            return future

        return wrapper

    return decorate(args[0]) if args else decorate


# The callback= argument


def takes_callback(func: Callable[..., Any]) -> bool:
    """Return whether `callback=` is an argument of `func` itself, so that a decorator must leave it alone."""
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):  # some builtins do not say
        return False
    return "callback" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def call_with_result(callback: Callable[[Any], object], future: AnyFuture[Any]) -> None:
    """Call `callback` with the future's result, in the loop and the present stack contexts.

    A failed future raises there instead: the nearest stack context, or the log, gets the exception.
    """
    IOLoop.current().add_future(future, lambda done: callback(done.result()))


def failing(future: Future[Any]) -> ExceptionStackContext:
    """Return a stack context that makes an exception the future's, unless that is done, or it is no `Exception`."""

    def handle(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> bool:
        if future.done() or not isinstance(error, Exception):
            return False
        future.set_exception(error)
        return True

    return ExceptionStackContext(handle)


def return_future(f: Callable[..., object]) -> Callable[..., Future[Any]]:
    """Make a function that answers by `callback(result)` return a Future as well.

        @return_future
        def double(number, callback):
            IOLoop.current().add_callback(callback, 2 * number)

        double(4, callback=print)      # as ever; by position, too
        await double(4)                # or without

    The result is what `callback` gets, None if it is called without arguments. What `f` raises, or a callback inside
    it, becomes the future's exception; what `f` raises before it returns also reaches the caller.

    :raises TypeError: `f` has no parameter `callback`.
    :raises ReturnValueIgnoredError: from the call: `f` returned something.
    """
    names = list(inspect.signature(f).parameters)
    if "callback" not in names:
        raise TypeError(f"return_future: {f!r} needs a parameter named callback, it has {', '.join(names) or 'none'}")
    position = names.index("callback")

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future(loop=IOLoop.current())
        answers: tuple[Any, ...] = ()

        def answer(*given: Any) -> None:
            nonlocal answers
            if not future.done():
                answers = given
                future.set_result(given[0] if given else None)

        if len(args) > position:
            callback = args[position]
            args = (*args[:position], answer, *args[position + 1 :])
        else:
            callback = kwargs.get("callback")
            kwargs["callback"] = answer

        raised = True
        with failing(future):
            returned = f(*args, **kwargs)
            if returned is not None:
                raise ReturnValueIgnoredError(f"{f!r} answers through its callback, but returned {returned!r}")
            raised = False
        if raised:
            future.result()  # raises it
        if callback is not None:

            def pass_on(done: Future[Any]) -> None:
                done.result()
                callback(*answers)

            IOLoop.current().add_future(future, pass_on)
        return future

    return wrapper
