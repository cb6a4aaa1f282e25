"""Locks and queues of both makes: ours on every backend, Tornado's as the oracle."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import tornado.ioloop
import tornado.locks
import tornado.queues

import pollux.locks
import pollux.queues
from pollux import IOLoop
from pollux.testing.descriptors import nothing_left_open
from tests.reactor.loops import BACKENDS, usable

PATIENCE = 20.0
LONG = timedelta(seconds=PATIENCE)
SHORT = timedelta(milliseconds=1)

MAKES = ["tornado", *BACKENDS]


class Make:
    """A make of locks and queues, and the loop it runs on: `name` is "tornado", or a backend of ours."""

    def __init__(self, name: str) -> None:
        self.is_ours = name != "tornado"
        self.locks: Any = pollux.locks if self.is_ours else tornado.locks
        self.queues: Any = pollux.queues if self.is_ours else tornado.queues
        self.loop: Any
        if self.is_ours:
            self.loop = IOLoop(usable(name), make_current=True)
        else:
            asyncio.set_event_loop(None)
            self.loop = tornado.ioloop.IOLoop(make_current=True)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine to its end, in time."""
        self.loop.run_sync(main, timeout=PATIENCE)

    def close(self) -> None:
        """Close the loop, and leave none current."""
        self.loop.close()
        IOLoop.clear_current()  # asyncio's, too, which is Tornado's


@contextmanager
def made(name: str) -> Iterator[Make]:
    """Yield a make, and see that it leaves no descriptor."""
    gc.collect()
    with nothing_left_open():
        make = Make(name)
        try:
            yield make
        finally:
            make.close()
            gc.collect()


async def moments(count: int = 3) -> None:
    """Let what is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel_after(task: asyncio.Task[Any], gift: Callable[[], object]) -> None:
    """Give a waiting task what it waits for, and cancel it before it sees that."""
    await moments()
    assert not task.done()
    gift()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("was not cancelled")
