"""The yield points: `Callback` and `Wait`, `WaitAll`, `Multi`, and `Task`, which is a future.

    (yield gen.Callback("key"))(result)         # or hand it to something that takes a callback
    result = yield gen.Wait("key")
    result = yield gen.Task(function)           # both in one: function(callback=...)

Names and meaning are Tornado 4's and 5's (docs: tornado.gen), which Tornado 6 has dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

from pollux.concurrent import failing
from pollux.gen.convert import Exceptions, multi_future, new_future
from pollux.gen.keys import Keys, YieldPoint, result_of_call


class Callback(YieldPoint):
    """Yield it to get a function to be used as a callback; `Wait` with the same key gives what it was called with.

    :param key: hashable, unique among those the coroutine has not waited for (else `KeyReuseError`).
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key

    def start(self, runner: Keys) -> None:
        """Make the key."""
        self.runner = runner
        runner.register_callback(self.key)

    def is_ready(self) -> bool:
        """Return True: the function is there at once."""
        return True

    def get_result(self) -> Callable[..., None]:
        """Return the function, see `Keys.result_callback`."""
        return self.runner.result_callback(self.key)


class Wait(YieldPoint):
    """Yield it to wait until the callback of `key` is called, and get what it was called with; see `Arguments`.

    A key that no `Callback` has made raises `UnknownKeyError`.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key

    def start(self, runner: Keys) -> None:
        """Remember whose key it is."""
        self.runner = runner

    def is_ready(self) -> bool:
        """Return whether the callback was called."""
        return self.runner.is_ready(self.key)

    def get_result(self) -> Any:
        """Return what it was called with."""
        return self.runner.pop_result(self.key)


class WaitAll(YieldPoint):
    """Yield it to wait for several keys, and get the list of their results in the order of `keys`."""

    def __init__(self, keys: Iterable[Hashable]) -> None:
        self.keys = list(keys)

    def start(self, runner: Keys) -> None:
        """Remember whose keys they are."""
        self.runner = runner

    def is_ready(self) -> bool:
        """Return whether all callbacks were called."""
        ready = [self.runner.is_ready(key) for key in self.keys]  # each is asked: an unknown key raises at once
        return all(ready)

    def get_result(self) -> list[Any]:
        """Return what they were called with."""
        return [self.runner.pop_result(key) for key in self.keys]


WaitMany = WaitAll


class MultiPoint(YieldPoint):
    """What `multi` returns if there are yield points among the children: they need to know whose they are."""

    def __init__(self, children: Iterable[Any] | Mapping[Any, Any], quiet_exceptions: Exceptions) -> None:
        self._children = children
        self._quiet_exceptions = quiet_exceptions
        self._runner: Keys | None = None

    def start(self, runner: Keys) -> None:
        """Start all children."""
        self._future = multi_future(self._children, self._quiet_exceptions, convert=runner.convert)
        self._key = object()
        if not self._future.done():
            self._runner = runner
            runner.register_callback(self._key)
            self._future.add_done_callback(partial(runner.set_result, self._key))

    def is_ready(self) -> bool:
        """Return whether all children are done."""
        return self._future.done()

    def get_result(self) -> Any:
        """Return their results."""
        if self._runner is not None:
            self._runner.pop_result(self._key)
        return self._future.result()


def multi(children: Iterable[Any] | Mapping[Any, Any], quiet_exceptions: Exceptions = ()) -> Any:
    """Wait for several things at once: yield or await what this returns, and get a list, or dict, of results.

    Yielding a list or a dict does the same; this is for `async def`, and for `quiet_exceptions`. See `multi_future` for
    failures.

    :param children: anything that may be yielded, yield points too.
    """
    if not isinstance(children, dict):
        children = list(children)
    return MultiPoint(children, quiet_exceptions) if has_points(children) else multi_future(children, quiet_exceptions)


Multi = multi


def has_points(yielded: Any) -> bool:
    """Return whether something yielded is a yield point, or a list or dict with one somewhere inside."""
    if isinstance(yielded, dict):
        return any(map(has_points, yielded.values()))
    if isinstance(yielded, list):
        return any(map(has_points, yielded))
    return isinstance(yielded, YieldPoint)


def Task(func: Callable[..., object], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:  # noqa: N802  # Tornado's name
    """Call `func(*args, callback=..., **kwargs)` and return the Future of what it calls its callback with.

    As Tornado 4 and 5 have it, the call is made at once and the result is a Future, so it may also be awaited, given to
    `with_timeout`, and waited for elsewhere. The first call of the callback counts. An exception of `func`, or of a
    callback scheduled inside it, becomes the Future's.
    """
    future = new_future()

    def callback(*args: Any, **kwargs: Any) -> None:
        if not future.done():
            future.set_result(result_of_call(args, kwargs))

    with failing(future):
        func(*args, callback=callback, **kwargs)
    return future
