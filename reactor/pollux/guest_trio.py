"""trio as a host. Needs trio, which whoever has a trio program has."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from pollux.guest import Guest

if TYPE_CHECKING:
    from pollux.backend import Backend

T = TypeVar("T")


class TrioHost:
    """A `Host`: watches and timers are tasks in `nursery`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.watches: dict[int, trio.CancelScope] = {}

    def call_soon(self, callback: Callable[[], object]) -> None:
        """See `Host`."""
        trio.lowlevel.current_trio_token().run_sync_soon(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> trio.CancelScope:
        """See `Host`."""
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(delay)
                callback()

        self.nursery.start_soon(wait)
        return scope

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """See `Host`."""
        scope = self.watches[fd] = trio.CancelScope()

        async def wait() -> None:
            with scope:
                while True:
                    await trio.lowlevel.wait_readable(fd)
                    callback()

        self.nursery.start_soon(wait)

    def unwatch(self, fd: int) -> None:
        """See `Host`."""
        self.watches.pop(fd).cancel()


async def run_in_trio(main: Coroutine[Any, Any, T], *, backend: str | Backend | None = None) -> T:
    """Run a coroutine on a guest loop, inside the trio program that awaits this; return its result or raise its
    exception.

    Cancelling the surrounding scope cancels `main`, and waits for it to end.
    """
    done = trio.Event()
    async with trio.open_nursery() as outer:
        nursery: trio.Nursery = await outer.start(_shielded)
        try:
            with Guest(TrioHost(nursery), backend) as guest:
                task = guest.loop.create_task(main)
                task.add_done_callback(lambda _: done.set())
                try:
                    await done.wait()
                except trio.Cancelled:
                    task.cancel()
                    with trio.CancelScope(shield=True):
                        await done.wait()
                    raise
        finally:
            nursery.cancel_scope.cancel()
    return task.result()


async def _shielded(task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Keep a nursery that goes on while what surrounds it is cancelled: the guest needs it to end in order."""
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await trio.sleep_forever()
