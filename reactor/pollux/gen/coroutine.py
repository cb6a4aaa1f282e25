"""`coroutine`: a generator function that returns a Future.

Two callers disagree about `callback=`. Up to Tornado 5 the decorator took it and called it with the result; Tornado 6
passes it to the function like any argument. Both are right here: a function with a parameter of that name, or with
`**kwargs`, gets it; for any other, which could not be called with it at all, the decorator takes it.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import _get_running_loop
from collections.abc import Callable, Generator
from contextvars import copy_context
from types import GeneratorType
from typing import Any, TypeVar, overload

from pollux.concurrent import call_with_result, takes_callback
from pollux.gen.convert import failed_future, without_our_frame
from pollux.gen.errors import Return
from pollux.gen.runner import Runner
from pollux.ioloop import IOLoop

T = TypeVar("T")


@overload
def coroutine(func: Callable[..., Generator[Any, Any, T]]) -> Callable[..., asyncio.Future[T]]: ...
@overload
def coroutine(func: Callable[..., T]) -> Callable[..., asyncio.Future[T]]: ...
def coroutine(func: Callable[..., Any]) -> Callable[..., asyncio.Future[Any]]:
    """Make a generator function return a Future of what it returns, or raises.

        @gen.coroutine
        def fetch_both(first, second):
            one = yield fetch(first)
            other = yield fetch(second)
            return one + other

    The function runs at once, up to its first wait; one that never waits returns a Future that is done. It runs in a
    copy of its caller's `contextvars` context. It may yield whatever `convert_yielded` knows, and yield points. An
    uncaught `asyncio.CancelledError` cancels the Future; cancelling the Future does not stop the function.

    A callback that is passed as `callback=` is called with the result (see this module for whose argument that is).

    What goes wrong is raised where it is yielded: `BadYieldError`, `KeyReuseError`, `UnknownKeyError`; or becomes the
    Future's: `LeakedCallbackError`.
    """
    own_callback = takes_callback(func)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        if kwargs and not own_callback and "callback" in kwargs:
            callback = kwargs.pop("callback")
            future = wrapper(*args, **kwargs)
            if callback is not None:
                call_with_result(callback, future)
            return future
        loop = _get_running_loop()
        if not isinstance(loop, IOLoop):
            loop = IOLoop.current()
        context = copy_context()
        try:
            value = context.run(func, *args, **kwargs)
            if type(value) is not GeneratorType and not isinstance(value, Generator):
                future = asyncio.Future(loop=loop)
                future.set_result(value)
                return future
            yielded = context.run(next, value)
        except (StopIteration, Return) as stop:
            future = asyncio.Future(loop=loop)
            future.set_result(stop.value)
            return future
        except asyncio.CancelledError:
            future = asyncio.Future(loop=loop)
            future.cancel()
            return future
        except Exception as error:
            return failed_future(without_our_frame(error), loop)
        runner = Runner(value, context, loop)
        context.run(runner.take, yielded)
        try:
            return runner
        finally:
            del runner, yielded  # an exception may know this frame, see Runner._step

    wrapper.__tornado_coroutine__ = True  # type: ignore[attr-defined]  # what Tornado's programs look for
    return wrapper


def is_coroutine_function(func: Any) -> bool:
    """Return whether `func` was decorated with `coroutine`."""
    return getattr(func, "__tornado_coroutine__", False) is True
