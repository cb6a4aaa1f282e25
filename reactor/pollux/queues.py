"""Queues for coroutines: `Queue`, `PriorityQueue`, `LifoQueue`.

Names and meaning are Tornado's (docs: tornado.queues), which are those of the standard library's `queue` with awaitable
`put`, `get` and `join`. They connect coroutines of one loop, not threads, and may be made and used before a loop runs.

No item is lost: one that was handed to a task which is cancelled before it saw it goes back to where it came from, or
to the next who waits for one (see `pollux.waitline`). An item whose `put` is cancelled after it went in stays in.

A subclass may keep its items in another container: `_init` makes `self._queue`, which has a length; `_put` adds an
item, `_get` takes the next one out. `_put_back` undoes a `_get`: by `_put`, unless the container is `Queue`'s deque.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from pollux.locks import Event
from pollux.waitline import Timeout, WaitLine, out_of_time, ready

__all__ = ["LifoQueue", "PriorityQueue", "Queue", "QueueEmpty", "QueueFull"]

T = TypeVar("T")


class QueueEmpty(Exception):  # noqa: N818  # Tornado's name
    """`get_nowait` found nothing."""


class QueueFull(Exception):  # noqa: N818  # Tornado's name
    """`put_nowait` found no room."""


class Queue(Generic[T]):
    """First in, first out.

    :param maxsize: how many items fit in before `put` waits; 0 is without limit.
    :raises TypeError: `maxsize` is None.
    :raises ValueError: `maxsize` is negative.
    """

    _queue: Any

    def __init__(self, maxsize: int = 0) -> None:
        if maxsize is None:
            raise TypeError("a queue needs a maxsize that is a number, 0 for no limit; got None")
        if maxsize < 0:
            raise ValueError(f"a queue needs a maxsize of 0 (no limit) or more, got {maxsize!r}")
        self._maxsize = maxsize
        self._getters: WaitLine[T] = WaitLine(out_of_time, self._not_delivered)
        self._putters: WaitLine[None] = WaitLine(out_of_time, lambda _: None)
        self._unfinished = 0
        self._finished = Event()
        self._finished.set()
        self._init()

    # What a subclass may do otherwise

    def _init(self) -> None:
        self._queue = deque()

    def _get(self) -> T:
        return self._queue.popleft()  # type: ignore[no-any-return]

    def _put(self, item: T) -> None:
        self._queue.append(item)

    def _put_back(self, item: T) -> None:
        if type(self)._get is Queue._get:
            self._queue.appendleft(item)
        else:
            self._put(item)

    # What it is

    @property
    def maxsize(self) -> int:
        """How many items fit in; 0 is without limit."""
        return self._maxsize

    def qsize(self) -> int:
        """Return how many items are in."""
        return len(self._queue)

    def empty(self) -> bool:
        """Return whether no item is in."""
        return not self._queue

    def full(self) -> bool:
        """Return whether `put` would wait."""
        return 0 < self._maxsize <= self.qsize()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {hex(id(self))} {self._describe()}>"

    def __str__(self) -> str:
        return f"<{type(self).__name__} {self._describe()}>"

    def _describe(self) -> str:
        parts = [f"maxsize={self._maxsize!r}"]
        if self._queue:
            parts.append(f"queue={self._queue!r}")
        if self._getters:
            parts.append(f"getters[{len(self._getters)}]")
        if self._putters:
            parts.append(f"putters[{len(self._putters)}]")
        if self._unfinished:
            parts.append(f"tasks={self._unfinished}")
        return " ".join(parts)

    # In

    def put(self, item: T, timeout: Timeout = None) -> asyncio.Future[None]:
        """Put an item in; wait until there is room. It goes in, or stands in line, before anyone awaits the result.

        :raises TimeoutError: from the Future: the time was over first, and the item is not in.
        """
        try:
            self.put_nowait(item)
        except QueueFull:
            return self._putters.join(timeout, item)
        return ready(None)

    def put_nowait(self, item: T) -> None:
        """Put an item in now.

        :raises QueueFull: there is no room.
        """
        if self.full() and not self._getters:
            raise QueueFull(f"{self} has no room for {item!r}")
        self._enter(item)
        self._serve()

    def _enter(self, item: T) -> None:
        self._put(item)
        self._unfinished += 1
        self._finished.clear()

    # Out

    def get(self, timeout: Timeout = None) -> Awaitable[T]:
        """Take an item out; wait until there is one.

        :raises TimeoutError: from the Future: the time was over first.
        """
        try:
            return ready(self.get_nowait())
        except QueueEmpty:
            return self._getters.join(timeout)

    def get_nowait(self) -> T:
        """Take an item out now.

        :raises QueueEmpty: there is none.
        """
        if not self._queue:
            raise QueueEmpty(f"{self} has no item")
        if self._putters and self.qsize() <= self._maxsize:
            # Goes in before one comes out, as in Tornado: it may be the one to come out.
            self._putters.serve(lambda turn: self._enter(turn.brought))
        item = self._get()
        self._serve()
        return item

    def __aiter__(self) -> Items[T]:
        return Items(self)

    # Handing over

    def _serve(self) -> None:
        """Give items to those who wait for them, and let those in who wait for room."""
        while True:
            if self._getters and self._queue:
                self._getters.serve(lambda _: self._get())
            elif self._putters and not self.full():
                self._putters.serve(lambda turn: self._enter(turn.brought))
            else:
                return

    def _not_delivered(self, item: T) -> None:
        self._put_back(item)
        self._serve()

    # Done with

    def task_done(self) -> None:
        """Say that the work on an item that was taken out is done.

        :raises ValueError: called more often than items were put in.
        """
        if self._unfinished <= 0:
            raise ValueError(f"task_done() called on {self} more often than items were put in")
        self._unfinished -= 1
        if self._unfinished == 0:
            self._finished.set()

    def join(self, timeout: Timeout = None) -> asyncio.Future[None]:
        """Wait until the work on all items is done.

        :raises TimeoutError: from the Future: the time was over first.
        """
        return self._finished.wait(timeout)


class Items(Generic[T]):
    """What `async for item in queue` goes through: it never ends by itself."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Queue[T]) -> None:
        self._queue = queue

    def __aiter__(self) -> Items[T]:
        return self

    def __anext__(self) -> Awaitable[T]:
        return self._queue.get()


class PriorityQueue(Queue[T]):
    """Least first. Items are compared by `<`: use tuples like `(priority, number, item)`."""

    def _init(self) -> None:
        self._queue = []

    def _put(self, item: T) -> None:
        try:
            heapq.heappush(self._queue, item)
        except BaseException:  # it cannot be compared, and heappush leaves it in
            del self._queue[next(place for place, other in enumerate(self._queue) if other is item)]
            heapq.heapify(self._queue)
            raise

    def _get(self) -> T:
        return heapq.heappop(self._queue)  # type: ignore[no-any-return]


class LifoQueue(Queue[T]):
    """Last in, first out."""

    def _init(self) -> None:
        self._queue = []

    def _put(self, item: T) -> None:
        self._queue.append(item)

    def _get(self) -> T:
        return self._queue.pop()  # type: ignore[no-any-return]
