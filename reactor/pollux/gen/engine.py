"""`engine`: a generator function that returns nothing. What came before `coroutine`; Tornado 6 has dropped it.

It has no Future to tell anybody of an exception. So one goes to the caller, if the function has not waited yet, and
afterwards to the nearest stack context of the caller, or the log.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any

from pollux.concurrent import ReturnValueIgnoredError
from pollux.gen.convert import current_loop
from pollux.gen.errors import Return
from pollux.gen.runner import Runner


def engine(func: Callable[..., object]) -> Callable[..., None]:
    """Make a generator function run by itself: for functions that answer through a callback.

        @gen.engine
        def fetch_length(url, callback):
            response = yield gen.Task(client.fetch, url)
            callback(len(response.body))

    It may yield all that a `coroutine` may. What a callback raises that was scheduled inside the function is thrown
    into it where it waits; so are the errors of yield points. It must not return a value (`ReturnValueIgnoredError`)
    nor leave a `Callback` behind that it has not waited for (`LeakedCallbackError`).
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        loop = current_loop()
        context = copy_context()
        runner = Runner(None, context, loop)
        context.run(runner.keys)
        try:
            value = context.run(func, *args, **kwargs)
        except (StopIteration, Return) as stop:
            value = stop.value
        if isinstance(value, Generator):
            context.run(runner.start, value)
        else:
            runner.set_result(value)
        if runner.done():
            _check(runner)
        else:
            loop.add_future(runner, _check)
        del runner  # an exception may know this frame, see Runner._step

    def _check(runner: Runner) -> None:
        try:
            value = runner.result()
        finally:
            del runner  # an exception's traceback keeps this frame, which must not keep the exception
        if value is not None:
            raise ReturnValueIgnoredError(f"an engine cannot return a value, but {func!r} returned {value!r}")

    return wrapper
