"""asyncio as a host: any asyncio loop, ours or not, takes an `IOLoop` as its guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from pollux.guest import Guest

if TYPE_CHECKING:
    from pollux.backend import Backend

T = TypeVar("T")


class AsyncioHost:
    """A `Host`. :param loop: the host; None for the running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = asyncio.get_running_loop() if loop is None else loop

    def call_soon(self, callback: Callable[[], object]) -> None:
        """See `Host`."""
        self.loop.call_soon(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """See `Host`."""
        return self.loop.call_later(delay, callback)

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """See `Host`."""
        self.loop.add_reader(fd, callback)

    def unwatch(self, fd: int) -> None:
        """See `Host`."""
        self.loop.remove_reader(fd)


async def run_in_asyncio(main: Coroutine[Any, Any, T], *, backend: str | Backend | None = None) -> T:
    """Run a coroutine on a guest loop, inside the asyncio loop that runs this; return its result or raise its
    exception.

    Cancelling this cancels `main`.
    """
    with Guest(AsyncioHost(), backend) as guest:
        task = guest.loop.create_task(main)
        done = asyncio.Event()
        task.add_done_callback(lambda _: done.set())
        try:
            await done.wait()
        except asyncio.CancelledError:
            task.cancel()
            await done.wait()
        return task.result()
