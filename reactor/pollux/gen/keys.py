"""`YieldPoint`, and the keys of one coroutine: which callbacks it made, which were called, what it waits for.

`Callback("key")` makes a key, `Wait("key")` takes its result. A key means something only to the coroutine that made it,
so each has its own table: a generator's belongs to its runner, that of an `async def` to its asyncio task. The table is
made when the first yield point comes: a coroutine that yields futures only never has one.

A yield point is started with this table as its `runner`, and talks to nothing else. Tornado 2 to 5 gave it the whole
runner; the methods that a yield point calls are here under the same names. The waiting itself is done by a future, so a
coroutine is resumed by the loop and never inside the call of its callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from pollux.gen.convert import convert_yielded, current_loop, multi_future
from pollux.gen.errors import KeyReuseError, UnknownKeyError
from pollux.log import app_log, gen_log
from pollux.stack_context import ExceptionStackContext

if TYPE_CHECKING:
    from pollux.ioloop import IOLoop


class Arguments(NamedTuple):
    """The result of a `Callback` or `Task` whose callback was called with several arguments, or with keywords."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def result_of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a call of a callback means: its one argument, None without any, else `Arguments`."""
    if kwargs or len(args) > 1:
        return Arguments(args, kwargs)
    return args[0] if args else None


def _listed(keys: set[Hashable]) -> str:
    return ", ".join(sorted(map(repr, keys))) or "none"


class YieldPoint:
    """Something that a coroutine yields or awaits. Subclass it, with these three methods.

    Each may raise: the exception is raised in the coroutine, where it waits.
    """

    def start(self, runner: Keys) -> None:
        """Begin. Called once; keep `runner`, and tell it when something has happened.

        Usually: `runner.register_callback(key)`, then start something with `runner.result_callback(key)` as its
        callback. Any hashable object is a key; `object()` is one that nobody else has.
        """
        raise NotImplementedError(f"{type(self).__name__}.start(runner) is missing")

    def is_ready(self) -> bool:
        """Return whether there is a result. Asked after `start`, and then whenever a key of the coroutine gets one."""
        raise NotImplementedError(f"{type(self).__name__}.is_ready() is missing")

    def get_result(self) -> Any:
        """Return the result, which the coroutine gets. Called once, after `is_ready` said yes."""
        raise NotImplementedError(f"{type(self).__name__}.get_result() is missing")

    def __await__(self) -> Generator[Any, None, Any]:
        return keys_of_task().begin(self).__await__()


class Keys:
    """The `runner` that a yield point is started with. Call its methods, and the callbacks, in the loop's thread."""

    __slots__ = ("_loop", "_pending", "_results", "_waits", "faulted", "guard")

    def __init__(self, loop: IOLoop) -> None:
        self._loop = loop
        self._pending: set[Hashable] = set()
        self._results: dict[Hashable, Any] = {}
        self._waits: list[tuple[YieldPoint, asyncio.Future[Any]]] = []
        self.guard: ExceptionStackContext | None = None  # what brings the exceptions of callbacks to the coroutine
        self.faulted = False  # an exception was thrown into the coroutine: it may have left keys behind

    def register_callback(self, key: Hashable) -> None:
        """Make a key.

        :raises KeyReuseError: it is there, and was not waited for.
        """
        if key in self._pending:
            raise KeyReuseError(f"key {key!r} is pending: Wait({key!r}) before a new Callback({key!r}), or rename one")
        self._pending.add(key)

    def is_ready(self, key: Hashable) -> bool:
        """Return whether the key has its result.

        :raises UnknownKeyError: there is no such key.
        """
        if key not in self._pending:
            raise UnknownKeyError(
                f"key {key!r} is not pending here; pending are {_listed(self._pending)}. A Callback of the "
                "same coroutine makes a key, the first Wait takes it; a Wait inside with_timeout() or in a task of its "
                "own has no keys: yield the Wait itself, or use gen.Task"
            )
        return key in self._results

    def set_result(self, key: Hashable, result: Any) -> None:
        """Give a key its result, and resume the coroutine if that is what it waits for."""
        if key not in self._pending:
            return  # its coroutine has gone on without it
        self._results[key] = result
        waits, self._waits = self._waits, []
        for point, future in waits:
            if future.done():
                continue  # whoever waited was cancelled
            try:
                if point.is_ready():
                    future.set_result(point.get_result())
                else:
                    self._waits.append((point, future))
            except Exception as error:
                future.set_exception(error)

    def pop_result(self, key: Hashable) -> Any:
        """Return a key's result, and forget the key.

        :raises UnknownKeyError: there is no such key, or it has no result yet.
        """
        if not self.is_ready(key):
            raise UnknownKeyError(f"key {key!r} has no result yet: ask is_ready() first")
        self._pending.remove(key)
        return self._results.pop(key)

    def result_callback(self, key: Hashable) -> Callable[..., None]:
        """Return a function that gives the key its result: what it is called with, see `Arguments`.

        The first call counts. Further ones are logged as warnings and change nothing.
        """
        called = False

        def callback(*args: Any, **kwargs: Any) -> None:
            nonlocal called
            if called:
                gen_log.warning("The callback of key %r was called again, with %r %r: ignored", key, args, kwargs)
                return
            called = True
            self.set_result(key, result_of_call(args, kwargs))

        return callback

    def begin(self, point: YieldPoint) -> asyncio.Future[Any]:
        """Start a yield point and return the future of its result. What `start` raises is raised here."""
        point.start(self)
        future: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        if point.is_ready():
            future.set_result(point.get_result())
        else:
            self._waits.append((point, future))
        return future

    def convert(self, yielded: Any) -> Any:
        """`convert_yielded`, with yield points, also those inside lists and dicts, started here."""
        if isinstance(yielded, YieldPoint):
            return self.begin(yielded)
        if isinstance(yielded, (list, dict)):
            return multi_future(yielded, convert=self.convert)
        return convert_yielded(yielded)

    def abandon(self) -> None:
        """Nobody waits any more: an exception has come first."""
        self._waits.clear()

    def close(self) -> str | None:
        """The coroutine is done. Return a complaint if keys are left that it ought to have waited for."""
        if self.guard is not None:
            self.guard.active = False
            self.guard = None  # it knows the runner, which may hold an exception whose traceback knows these keys
        pending, self._pending = self._pending, set()
        self._waits.clear()
        if not pending or self.faulted:
            return None
        return f"finished without waiting for the callbacks {_listed(pending)}: yield Wait(key) for each"


_tasks: WeakKeyDictionary[asyncio.Task[Any], Keys] = WeakKeyDictionary()


def keys_of_task() -> Keys:
    """Return the keys of the asyncio task that is running; new ones, for this moment only, outside of tasks."""
    loop = current_loop()
    task = asyncio.current_task() if loop.is_running() else None
    if task is None:
        return Keys(loop)
    keys = _tasks.get(task)
    if keys is None:
        keys = _tasks[task] = Keys(loop)
        task.add_done_callback(_task_done)
    return keys


def _task_done(task: asyncio.Task[Any]) -> None:
    """A task cannot be made to fail after its end, so what would be a LeakedCallbackError is logged."""
    keys = _tasks.pop(task)
    keys.faulted = task.cancelled()
    if complaint := keys.close():
        app_log.error("%r %s", task, complaint)


@convert_yielded.register
def _(point: YieldPoint) -> asyncio.Future[Any]:
    """Outside of a generator: `with_timeout(deadline, point)` in an `async def`, say."""
    return keys_of_task().begin(point)
