"""From anything that may be yielded to one thing that can be waited for.

What the runner waits for has `done()`, `result()` and `add_done_callback(callback, *, context)`: asyncio's Future, and
`moment`. Everything else is turned into one of these here.

`multi_future` stands beside `convert_yielded` because each needs the other: a list is converted by waiting for its
elements, which are converted.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import Context
from functools import singledispatch
from typing import Any

from pollux.concurrent import chain_future, is_future
from pollux.gen.errors import BadYieldError
from pollux.ioloop import IOLoop
from pollux.log import app_log

Exceptions = type[BaseException] | tuple[type[BaseException], ...]


def current_loop() -> IOLoop:
    """Return `IOLoop.current()`, sooner."""
    loop = _get_running_loop()
    return loop if isinstance(loop, IOLoop) else IOLoop.current()


def new_future() -> asyncio.Future[Any]:
    """Return a pending future of the current loop."""
    return asyncio.Future(loop=current_loop())


def without_our_frame(error: BaseException) -> BaseException:
    """Take the frame that has just caught `error` from its traceback: where an exception is only handed on, the frame
    tells the reader nothing, and keeps alive what it knows.
    """
    traceback = error.__traceback__
    if traceback is not None:
        error.__traceback__ = traceback.tb_next
    return error


def failed_future(error: BaseException, loop: IOLoop) -> asyncio.Future[Any]:
    """Return a future that has failed."""
    future: asyncio.Future[Any] = asyncio.Future(loop=loop)
    if isinstance(error, StopIteration):  # asyncio refuses it: whoever awaits the future could not raise it
        wrapper = RuntimeError(f"{error!r} was raised where a coroutine waits")
        wrapper.__cause__ = error
        error = wrapper
    future.set_exception(error)
    return future


class Moment:
    """Waits for the loop to go round once. Yield or await `moment`, the only one.

    It is no Future, for it belongs to no loop, and it is never done: each wait for it is a new one.
    """

    def done(self) -> bool:
        """Return False."""
        return False

    def cancelled(self) -> bool:
        """Return False."""
        return False

    def exception(self) -> None:
        """Return None."""

    def result(self) -> None:
        """Return None."""

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call `callback(self)` in the loop's next iteration."""
        current_loop().call_soon(callback, self, context=context)

    def __await__(self) -> Generator[None, None, None]:
        yield

    def __repr__(self) -> str:
        return "<pollux.gen.moment>"


moment = Moment()


@singledispatch
def convert_yielded(yielded: Any) -> Any:
    """Return a future for something yielded: for None (`moment`), Futures, awaitables, and lists and dicts of them.

    Coroutines are started. Teach it further types as with any `functools.singledispatch` function:

        @gen.convert_yielded.register(Deferred)
        def _(deferred):
            return deferred.asFuture(IOLoop.current())

    asyncio's own Future and Task, by their exact type, are waited for as they are, without asking here.

    :raises BadYieldError: it is none of these.
    """
    if yielded is None or yielded is moment:
        return moment
    if isinstance(yielded, asyncio.Future):
        return yielded
    if isinstance(yielded, (list, dict)):
        return multi_future(yielded)
    if isinstance(yielded, concurrent.futures.Future):
        future = new_future()
        chain_future(yielded, future)
        return future
    if inspect.isawaitable(yielded):
        return _task(yielded)
    if inspect.isgenerator(yielded):
        correction = "a plain generator: decorate the function that made it with @gen.coroutine"
    elif isinstance(yielded, (tuple, set, frozenset)):
        correction = f"a {type(yielded).__name__}: yield a list instead"
    else:
        correction = f"an object of {type(yielded)!r}"
    raise BadYieldError(
        f"yielded {yielded!r}, {correction}. Expected None, a Future, an awaitable, a yield point, or a list or dict "
        "of them; gen.convert_yielded.register() adds types"
    )


def _task(awaitable: Any) -> asyncio.Future[Any]:
    """Start an awaitable. The loop holds it until it is done, as asyncio itself holds tasks only weakly."""
    loop = current_loop()
    task: asyncio.Future[Any] = asyncio.ensure_future(awaitable, loop=loop)
    if isinstance(task, asyncio.Task):
        loop.hold(task)
    return task


def maybe_future(x: Any) -> Any:
    """Return `x` if it is a Future, asyncio's or concurrent.futures', else a Future with the result `x`."""
    if is_future(x):
        return x
    future = new_future()
    future.set_result(x)
    return future


def multi_future(
    children: Iterable[Any] | Mapping[Any, Any],
    quiet_exceptions: Exceptions = (),
    *,
    convert: Callable[[Any], Any] = convert_yielded,
) -> asyncio.Future[Any]:
    """Return a future of all results: a list of them, or a dict with the same keys for a dict.

    It is done when all children are. If some have failed it raises what the first of them, in order, raised; the
    others' exceptions are logged, save cancellations and those of a type in `quiet_exceptions`. Cancelling it leaves
    the children alone.

    :raises BadYieldError: a child cannot be waited for.
    """
    if isinstance(children, dict):
        names: list[Any] | None = list(children)
        children = children.values()
    else:
        names = None
    futures = [convert(child) for child in children]
    result = new_future()
    pending = {future for future in futures if not future.done()}
    if not pending:
        _collect(result, futures, names, quiet_exceptions)
        return result
    left = len(pending)

    def child_done(_future: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            _collect(result, futures, names, quiet_exceptions)

    for future in pending:
        future.add_done_callback(child_done)
    return result


def _collect(
    result: asyncio.Future[Any], futures: list[Any], names: list[Any] | None, quiet_exceptions: Exceptions
) -> None:
    """Give `result` what `futures`, which are done, have."""
    values = []
    failure: BaseException | None = None
    for future in futures:
        try:
            values.append(future.result())
        except BaseException as error:
            without_our_frame(error)
            if failure is None:
                failure = error
            elif not isinstance(error, asyncio.CancelledError) and not isinstance(error, quiet_exceptions):
                app_log.error("Multiple exceptions in yield list", exc_info=error)
    if result.done():  # it was cancelled
        return
    if failure is not None:
        result.set_exception(failure)
    else:
        result.set_result(values if names is None else dict(zip(names, values, strict=True)))
