"""Queues: Tornado's meaning, on Tornado's and on ours; and what ours promise beyond."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import pollux.queues
from pollux.queues import LifoQueue, PriorityQueue, Queue
from tests.reactor.coordination import (
    LONG,
    MAKES,
    SHORT,
    Make,
    cancel_after,
    made,
    moments,
)
from tests.reactor.loops import BACKENDS


@pytest.fixture(params=MAKES)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with made(request.param) as make:
        yield make


@pytest.fixture(params=list(BACKENDS))
def ours(request: pytest.FixtureRequest) -> Iterator[Make]:
    with made(request.param) as make:
        yield make


ORDERS = {"Queue": [2, 3, 1], "PriorityQueue": [1, 2, 3], "LifoQueue": [1, 3, 2]}


# As Tornado's


@pytest.mark.parametrize("kind", ORDERS)
def test_order(make: Make, kind: str) -> None:
    async def main() -> None:
        queue = getattr(make.queues, kind)()
        assert queue.empty()
        for item in (2, 3, 1):
            await queue.put(item)
        assert queue.qsize() == 3
        assert not queue.full()
        assert [await queue.get(), queue.get_nowait(), await queue.get(SHORT)] == ORDERS[kind]
        with pytest.raises(make.queues.QueueEmpty):
            queue.get_nowait()
        with pytest.raises(TimeoutError):
            await queue.get(SHORT)

    make.run(main)


@pytest.mark.parametrize(
    ("kind", "order"), [("Queue", [2, 3, 1, 4]), ("PriorityQueue", [1, 2, 3, 4]), ("LifoQueue", [1, 4, 3, 2])]
)
def test_who_waits_to_put_comes_in_before_one_goes_out(make: Make, kind: str, order: list[int]) -> None:
    async def main() -> None:
        queue = getattr(make.queues, kind)(maxsize=2)
        puts = [queue.put(item) for item in (2, 3, 1, 4)]
        assert [put.done() for put in puts] == [True, True, False, False]
        taken = [queue.get_nowait()]
        assert [put.done() for put in puts] == [True, True, True, False]
        assert queue.full()
        taken.append(await queue.get())
        assert all(put.done() for put in puts)
        assert [*taken, queue.get_nowait(), queue.get_nowait()] == order
        assert queue.empty()

    make.run(main)


def test_maxsize(make: Make) -> None:
    async def main() -> None:
        for bad, error in ((None, TypeError), (-1, ValueError)):
            with pytest.raises(error, match="maxsize"):
                make.queues.Queue(bad)
        queue = make.queues.Queue(maxsize=2)
        assert queue.maxsize == 2
        await queue.put(0)
        queue.put_nowait(1)
        assert queue.full()
        with pytest.raises(make.queues.QueueFull):
            queue.put_nowait(2)
        late = asyncio.ensure_future(queue.put("late", SHORT))
        waiting = [asyncio.ensure_future(queue.put(item)) for item in (2, 3)]
        with pytest.raises(TimeoutError):
            await late
        assert queue.get_nowait() == 0
        assert [put.done() for put in waiting] == [True, False]
        assert [await queue.get(LONG) for _ in range(3)] == [1, 2, 3]
        assert await asyncio.gather(*waiting) == [None, None]

    make.run(main)


def test_fractional_maxsize_is_rounded_up(make: Make) -> None:
    async def main() -> None:
        queue = make.queues.Queue(1.3)
        queue.put_nowait(0)
        assert not queue.full()
        queue.put_nowait(1)
        assert queue.full()

    make.run(main)


def test_getters_are_served_in_order(make: Make) -> None:
    async def main() -> None:
        queue = make.queues.Queue()
        gets = [asyncio.ensure_future(queue.get(SHORT if index == 1 else LONG)) for index in range(3)]
        with pytest.raises(TimeoutError):
            await gets[1]
        queue.put_nowait("a")
        await queue.put("b")
        assert [await gets[0], await gets[2]] == ["a", "b"]
        assert queue.empty()

    make.run(main)


def test_join(make: Make) -> None:
    async def main() -> None:
        queue = make.queues.Queue(2)
        await queue.join(LONG)
        with pytest.raises(ValueError, match="task_done"):
            queue.task_done()
        for item in range(2):
            queue.put_nowait(item)
        waiting = asyncio.ensure_future(queue.put(2))
        joined = asyncio.ensure_future(queue.join())
        with pytest.raises(TimeoutError):
            await queue.join(SHORT)
        for _ in range(3):
            assert not joined.done()
            await queue.get()
            queue.task_done()
        await joined
        await waiting

    make.run(main)


def test_async_for(make: Make) -> None:
    async def main() -> None:
        queue = make.queues.Queue(1)

        async def produce() -> None:
            for item in range(10):
                await queue.put(item)

        producer = asyncio.ensure_future(produce())
        seen = []
        async for item in queue:
            seen.append(item)
            queue.task_done()
            if item == 9:
                break
        assert seen == list(range(10))
        await queue.join(LONG)
        await producer

    make.run(main)


def test_repr(make: Make) -> None:
    async def main() -> None:
        queue = make.queues.Queue(1)
        assert hex(id(queue)) in repr(queue)
        assert hex(id(queue)) not in str(queue)
        get = asyncio.ensure_future(queue.get())
        await moments()
        assert "maxsize=1" in repr(queue)
        assert "getters[1]" in str(queue)
        puts = [asyncio.ensure_future(queue.put(item)) for item in "abc"]
        await moments()
        assert await get == "a"
        assert "queue=deque(['b'])" in str(queue)
        assert "putters[1]" in str(queue)
        assert "tasks=2" in str(queue)
        puts[2].cancel()

    make.run(main)


@pytest.mark.parametrize("timeout", [0, timedelta(0)], ids=repr)
def test_time_that_is_over_already(make: Make, timeout: float | timedelta) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await make.queues.Queue().get(timeout)

    make.run(main)


def test_usable_before_the_loop_runs(make: Make) -> None:
    queue = make.queues.Queue(1)
    early = asyncio.ensure_future(queue.get())
    puts = [asyncio.ensure_future(queue.put(item)) for item in range(3)]

    async def main() -> None:
        assert await early == 0
        assert [await queue.get(), await queue.get()] == [1, 2]
        await asyncio.gather(*puts)

    make.run(main)


# Beyond


async def take(queue: Any) -> Any:
    async for item in queue:
        return item
    return None


@pytest.mark.parametrize(("kind", "order"), (ORDERS | {"LifoQueue": [2, 1, 3]}).items())
def test_item_given_to_a_task_that_is_cancelled_goes_back(ours: Make, kind: str, order: list[int]) -> None:
    """To where it is the next to be taken out."""

    async def main() -> None:
        queue = getattr(ours.queues, kind)()

        def give() -> None:
            for item in (2, 3, 1):
                queue.put_nowait(item)

        await cancel_after(asyncio.ensure_future(take(queue)), give)
        await moments()
        assert queue.qsize() == 3
        assert [queue.get_nowait() for _ in range(3)] == order
        for _ in range(3):
            queue.task_done()
        await queue.join(LONG)

    ours.run(main)


def test_item_given_to_a_task_that_is_cancelled_goes_to_the_next(ours: Make) -> None:
    async def main() -> None:
        queue = ours.queues.Queue(1)
        cancelled, following = [asyncio.ensure_future(take(queue)) for _ in range(2)]
        await cancel_after(cancelled, lambda: queue.put_nowait("item"))
        assert await following == "item"

    ours.run(main)


def test_item_that_goes_back_may_be_one_too_many(ours: Make) -> None:
    """Somebody else has taken the room it left: then nobody gets in until there is room again."""

    async def main() -> None:
        queue = ours.queues.Queue(1)

        def give() -> None:
            queue.put_nowait(1)
            queue.put_nowait(2)

        await cancel_after(asyncio.ensure_future(take(queue)), give)
        assert queue.qsize() == 2
        waiting = queue.put(3)
        assert queue.get_nowait() == 1
        assert not waiting.done()
        assert queue.get_nowait() == 2
        await waiting
        assert queue.get_nowait() == 3

    ours.run(main)


def test_cancelled_put(ours: Make) -> None:
    """Of what waits the item never goes in; of what went in it stays."""

    async def main() -> None:
        queue = ours.queues.Queue(1)
        queue.put_nowait(0)

        async def put(item: int) -> None:
            await queue.put(item)

        waits, goes_in = asyncio.ensure_future(put(1)), asyncio.ensure_future(put(2))
        await moments()
        waits.cancel()
        await moments()
        taken: list[int] = []
        await cancel_after(goes_in, lambda: taken.append(queue.get_nowait()))
        assert taken == [0]
        assert queue.get_nowait() == 2
        assert queue.empty()

    ours.run(main)


def test_who_gives_up_is_forgotten_at_once(ours: Make) -> None:
    async def main() -> None:
        queue = ours.queues.Queue(1)
        gets = [queue.get(SHORT) for _ in range(100)]
        assert len(queue._getters) == 100
        await asyncio.wait(gets)
        assert len(queue._getters) == 0
        assert {type(get.exception()) for get in gets} == {TimeoutError}
        queue.put_nowait(0)

        class Item:
            pass

        puts = [queue.put(Item()) for _ in range(100)]
        item = weakref.ref(puts[0].brought)
        for put in puts:
            put.cancel()
        assert len(queue._putters) == 0
        puts.clear()
        del put
        await moments()
        gc.collect()
        assert item() is None

    ours.run(main)


def test_items_that_cannot_be_compared(ours: Make) -> None:
    """The error is that of who puts, not of who makes room; the queue goes on."""

    async def main() -> None:
        queue = ours.queues.PriorityQueue(2)
        queue.put_nowait(1)
        with pytest.raises(TypeError, match="'<' not supported"):
            queue.put_nowait("a")
        queue.put_nowait(2)
        bad, good = queue.put("b"), queue.put(3)
        assert queue.get_nowait() == 1
        with pytest.raises(TypeError, match="'<' not supported"):
            await bad
        await good
        assert [queue.get_nowait() for _ in range(2)] == [2, 3]
        for _ in range(3):
            queue.task_done()
        await queue.join(LONG)

    ours.run(main)


def test_subclass_with_a_container_of_its_own(ours: Make) -> None:
    class Unique(Queue[int]):
        """Holds each item once."""

        def _init(self) -> None:
            self._queue = {}

        def _put(self, item: int) -> None:
            self._queue[item] = None

        def _get(self) -> int:
            item, _ = self._queue.popitem()
            return int(item)

    async def main() -> None:
        queue = Unique()
        for item in (1, 2, 2):
            queue.put_nowait(item)
        assert queue.qsize() == 2
        assert [await queue.get(), await queue.get()] == [2, 1]
        await cancel_after(asyncio.ensure_future(take(queue)), lambda: queue.put_nowait(7))
        assert queue.get_nowait() == 7

    ours.run(main)


def test_full_and_empty_say_what_they_are_about() -> None:
    queue: Queue[str] = Queue(1)
    with pytest.raises(pollux.queues.QueueEmpty, match=r"<Queue maxsize=1> has no item"):
        queue.get_nowait()
    queue.put_nowait("a")
    with pytest.raises(pollux.queues.QueueFull, match=r"<Queue maxsize=1 queue=deque\(\['a'\]\) tasks=1> has no room"):
        queue.put_nowait("b")


@pytest.mark.parametrize("kind", [Queue, PriorityQueue, LifoQueue])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled(ours: Make, kind: type[Queue[int]], seed: int) -> None:
    """Producers and consumers that are cancelled and time out at random: what went in comes out, once."""
    chance = random.Random(seed)  # the same in every run

    async def main() -> None:
        queue = kind(maxsize=3)
        went_in: list[int] = []
        came_out: list[int] = []

        async def produce(item: int) -> None:
            put = queue.put(item, LONG)
            try:
                await put
            finally:
                if put.done() and not put.cancelled() and put.exception() is None:
                    went_in.append(item)

        async def consume() -> None:
            came_out.append(await queue.get(LONG))

        tasks: list[asyncio.Task[None]] = []
        for item in range(400):
            tasks.append(asyncio.ensure_future(produce(item)))
            tasks.append(asyncio.ensure_future(consume()))
            for _ in range(chance.randrange(3)):
                chance.choice(tasks[-20:]).cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        while not queue.empty() or queue._putters:
            came_out.append(await queue.get())
        await moments()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not queue.empty():
            came_out.append(queue.get_nowait())
        assert len(went_in) > 50
        assert sorted(came_out) == sorted(went_in)

    ours.run(main)
