"""What a test has left behind in its loop: tasks that are not done, and descriptors that are still watched.

Timeouts that are still set do no harm and are not counted: many libraries leave one behind for an idle connection, and
closing the loop drops it.
"""

from __future__ import annotations

import asyncio
import contextlib

from pollux.ioloop import IOLoop
from pollux.testing import peers
from pollux.testing.virtual_clock import VirtualClockError

SETTLE = 100  # times a millisecond: what a server's end needs to notice that the test closed the client's


class Leftovers:
    """Looks after `loop`, which is new.

    :param loop: what it watches by now is its own.
    """

    def __init__(self, loop: IOLoop) -> None:
        self._loop = loop
        self._own = set(loop._entries)

    def close(self) -> str:
        """Cancel what is left, close the loop, and return the complaint; empty if nothing was left.

        A loop that the test has closed itself is only asked for its tasks.
        """
        loop = self._loop
        if loop.is_closed():
            return self._complaint(self._tasks(), "")
        try:
            with contextlib.suppress(VirtualClockError):  # a descriptor outside: it is in the complaint
                for _ in range(SETTLE):
                    if not self._tasks() and not self._watched():
                        break
                    loop.call_later(0.001, loop.stop)
                    loop.run_forever()
            tasks = self._tasks()
            complaint = self._complaint(tasks, self._watched())
            with contextlib.suppress(VirtualClockError):
                for task in tasks:
                    task.cancel()
                if tasks:
                    loop.run_until_complete(asyncio.wait(tasks, timeout=1))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
        return complaint

    def _tasks(self) -> list[asyncio.Task[object]]:
        return list(asyncio.all_tasks(self._loop))

    def _watched(self) -> str:
        left = {fd: entry.events for fd, entry in self._loop._entries.items() if fd not in self._own}
        return peers.describe(left, sorted(left))

    def _complaint(self, tasks: list[asyncio.Task[object]], watched: str) -> str:
        lines = sorted(f"task not done: {task!r}" for task in tasks)
        if watched:
            lines.append(f"still watched: {watched}")
        if not lines:
            return ""
        return "\n  ".join([f"the test left things behind in {self._loop!r}:", *lines])
