"""What the tests of `gen` have in common: a loop that must be left clean, and things to wait for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator, Iterator
from typing import Any

from pollux import IOLoop
from pollux.testing.descriptors import nothing_left_open
from tests.reactor.loops import usable

PATIENCE = 20.0
Steps = Generator[Any, Any, Any]


class Failure(Exception):  # noqa: N818  # short, and never shown
    """What goes wrong on purpose."""


def clean_loop(backend: str) -> Iterator[IOLoop]:
    """Make a loop, for a fixture. The test must leave no task and no descriptor."""
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(backend), make_current=True)
        yield loop
        assert not asyncio.all_tasks(loop)
        loop.close()
        IOLoop.clear_current()
        gc.collect()


def run(loop: IOLoop, main: Callable[[], Any]) -> Any:
    """Run `main()` to its end."""
    return loop.run_sync(main, timeout=PATIENCE)


def later(value: Any = None, error: BaseException | None = None) -> asyncio.Future[Any]:
    """Return a future that is done, or has failed, in the next iteration."""
    future: asyncio.Future[Any] = asyncio.Future()
    loop = asyncio.get_running_loop()
    if error is None:
        loop.call_soon(future.set_result, value)
    else:
        loop.call_soon(future.set_exception, error)
    return future


def now(value: Any = None) -> asyncio.Future[Any]:
    """Return a future that is done."""
    future: asyncio.Future[Any] = asyncio.Future()
    future.set_result(value)
    return future


def answer(value: Any, callback: Callable[..., None]) -> None:
    """Call back in the next iteration: the sort of function that yield points are for."""
    IOLoop.current().add_callback(callback, value)


def fail(error: Exception) -> None:
    """Raise."""
    raise error
