"""Locks: Tornado's meaning, on Tornado's and on ours; and what ours promise beyond."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

import pollux.locks
from pollux.stack_context import StackContext
from pollux.testing.virtual_clock import VirtualLoop
from tests.reactor.coordination import (
    LONG,
    MAKES,
    SHORT,
    Make,
    cancel_after,
    made,
    moments,
)
from tests.reactor.loops import BACKENDS, usable


@pytest.fixture(params=MAKES)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with made(request.param) as make:
        yield make


@pytest.fixture(params=list(BACKENDS))
def ours(request: pytest.FixtureRequest) -> Iterator[Make]:
    with made(request.param) as make:
        yield make


# As Tornado's


def test_condition(make: Make) -> None:
    """Notified in order; a timeout does not count; late notifications are nobody's."""

    async def main() -> None:
        condition = make.locks.Condition()
        condition.notify()
        waits = [asyncio.ensure_future(condition.wait(SHORT if index == 1 else None)) for index in range(5)]
        assert await waits[1] is False
        condition.notify(2)
        assert [waits[0].done(), waits[2].done(), waits[3].done()] == [True, True, False]
        condition.notify_all()
        assert [await wait for wait in waits] == [True, False, True, True, True]
        condition.notify_all()
        assert await condition.wait(SHORT) is False

    make.run(main)


def test_condition_notified_by_a_waiter(make: Make) -> None:
    async def main() -> None:
        condition = make.locks.Condition()
        waits = [asyncio.ensure_future(condition.wait()) for _ in range(3)]
        waits[1].add_done_callback(lambda _: condition.notify())
        condition.notify(2)
        await asyncio.wait_for(asyncio.gather(*waits), 20)

    make.run(main)


def test_event(make: Make) -> None:
    async def main() -> None:
        event = make.locks.Event()
        assert not event.is_set()
        waits = [asyncio.ensure_future(event.wait()) for _ in range(2)]
        with pytest.raises(TimeoutError):
            await event.wait(SHORT)
        event.set()
        event.set()
        assert event.is_set()
        event.clear()
        assert [await wait for wait in waits] == [None, None]
        with pytest.raises(TimeoutError):
            await event.wait(make.loop.time() + 0.001)
        event.set()
        await event.wait(LONG)

    make.run(main)


def test_semaphore(make: Make) -> None:
    """In order, `value` at once; the timeout of one does not hold up the next."""

    async def main() -> None:
        semaphore = make.locks.Semaphore(2)
        entered = [asyncio.ensure_future(semaphore.acquire(SHORT if index == 2 else LONG)) for index in range(5)]
        assert [future.done() for future in entered] == [True, True, False, False, False]
        with pytest.raises(TimeoutError):
            await entered[2]
        with await entered[0]:
            assert not entered[3].done()
        await entered[3]
        assert not entered[4].done()
        semaphore.release()
        await entered[4]
        semaphore.release()
        semaphore.release()
        semaphore.release()  # one more than were ever let in
        for _ in range(3):
            await semaphore.acquire(LONG)
        with pytest.raises(TimeoutError):
            await semaphore.acquire(SHORT)

    make.run(main)


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore", "Lock"])
def test_context_managers(make: Make, kind: str) -> None:
    async def main() -> None:
        lock = getattr(make.locks, kind)()

        async def guarded(index: int) -> None:
            async with lock as nothing:
                assert nothing is None
                seen.append(index)
                await moments()
                seen.append(index)

        seen: list[int] = []
        await asyncio.gather(guarded(0), guarded(1), guarded(2))
        assert seen == [0, 0, 1, 1, 2, 2]
        with pytest.raises(ZeroDivisionError):
            async with lock:
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            with await lock.acquire() as nothing:
                assert nothing is None
                raise ZeroDivisionError
        await lock.acquire(LONG)
        with pytest.raises(TimeoutError):
            with await lock.acquire(SHORT):
                pytest.fail("got in")
        lock.release()
        with pytest.raises(RuntimeError, match="async with"):
            with lock:
                pytest.fail("got in")
        with pytest.raises(TypeError, match=kind):
            await lock

    make.run(main)


def test_released_too_often(make: Make) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="0"):
            make.locks.Semaphore(-1)
        for kind, error in (("BoundedSemaphore", ValueError), ("Lock", RuntimeError)):
            lock = getattr(make.locks, kind)()
            with pytest.raises(error):
                lock.release()
            await lock.acquire()
            lock.release()
            with pytest.raises(error):
                lock.release()

    make.run(main)


def test_repr(make: Make) -> None:
    async def main() -> None:
        condition, event = make.locks.Condition(), make.locks.Event()
        semaphore, lock = make.locks.Semaphore(), make.locks.Lock()
        assert "Condition" in repr(condition)
        assert "clear" in repr(event)
        assert "unlocked,value:1" in repr(semaphore)
        assert "waiters" not in f"{condition}{event}{semaphore}{lock}"
        event.set()
        waiting = [condition.wait(), semaphore.acquire(), semaphore.acquire()]
        assert "waiters" in repr(condition)
        assert "set" in repr(event)
        assert "unlocked" not in repr(semaphore)
        assert "waiters" in repr(semaphore)
        assert "Lock" in repr(lock)
        del waiting

    make.run(main)


@pytest.mark.parametrize("timeout", [0, timedelta(0), timedelta(seconds=-1)], ids=repr)
def test_time_that_is_over_already(make: Make, timeout: float | timedelta) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await make.locks.Event().wait(timeout)

    make.run(main)


def test_usable_before_the_loop_runs(make: Make) -> None:
    lock, event, condition = make.locks.Lock(), make.locks.Event(), make.locks.Condition()
    first, second = asyncio.ensure_future(lock.acquire()), asyncio.ensure_future(lock.acquire())
    set_later = asyncio.ensure_future(event.wait())
    notified = asyncio.ensure_future(condition.wait(LONG))
    assert first.done()
    assert not second.done()
    lock.release()
    event.set()
    condition.notify()

    async def main() -> None:
        with await second:
            await set_later
            assert await notified is True

    make.run(main)


# Beyond


def test_timeout_that_is_none(ours: Make) -> None:
    async def main() -> None:
        event = ours.locks.Event()
        with pytest.raises(TypeError, match="a number of seconds or a timedelta, got 'soon'"):
            event.wait("soon")
        assert "waiters" not in repr(event)

    ours.run(main)


Waiting = Callable[[Any], tuple[Callable[..., Any], Any]]  # from a module to how to wait, and on what

WAITS: dict[str, Waiting] = {
    "Condition": lambda locks: (lambda lock: (lock.wait, lock))(locks.Condition()),
    "Event": lambda locks: (lambda lock: (lock.wait, lock))(locks.Event()),
    "Semaphore": lambda locks: (lambda lock: (lock.acquire, lock))(locks.Semaphore(0)),
}


@pytest.mark.parametrize("kind", WAITS)
def test_who_gives_up_is_forgotten_at_once(ours: Make, kind: str) -> None:
    """By timeout, by cancelling the task, the future, or by dropping the coroutine; without a release in between."""

    async def main() -> None:
        wait, lock = WAITS[kind](ours.locks)

        async def waiting() -> None:
            await wait()

        held = wait()
        task = asyncio.ensure_future(waiting())
        dropped = waiting()
        dropped.send(None)
        await moments()
        assert len(lock._waiters) == 3
        held.cancel()
        assert len(lock._waiters) == 2
        task.cancel()
        await moments()
        assert len(lock._waiters) == 1
        dropped.close()
        assert len(lock._waiters) == 0
        late = wait(SHORT)
        assert len(lock._waiters) == 1
        gone = [weakref.ref(held), weakref.ref(late)]
        await asyncio.wait([late])
        assert len(lock._waiters) == 0
        late.exception()
        del late, held
        await moments()
        gc.collect()
        assert [ref() for ref in gone] == [None, None]

    ours.run(main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_timer_outlives_its_waiter(backend: str) -> None:
    """On virtual time: a loop with nothing left to wait for says so at once, were there a timer it would jump to it."""
    loop = VirtualLoop(usable(backend))

    async def main() -> None:
        lock, event = pollux.locks.Lock(), pollux.locks.Event()
        began = loop.time()
        await lock.acquire()
        served, cancelled = lock.acquire(timedelta(hours=1)), event.wait(timedelta(hours=1))
        lock.release()
        cancelled.cancel()
        await served
        await moments()
        assert loop.statistics().timers == 0
        assert loop.time() == began

    loop.run_sync(main)
    loop.close()


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore", "Lock"])
def test_lock_given_to_a_task_that_is_cancelled_goes_to_the_next(ours: Make, kind: str) -> None:
    async def main() -> None:
        lock = getattr(ours.locks, kind)()
        await lock.acquire()

        async def guarded() -> None:
            async with lock:
                pytest.fail("was cancelled before")

        task = asyncio.ensure_future(guarded())
        await moments()
        following = lock.acquire(LONG)
        await cancel_after(task, lock.release)
        with await following:
            pass
        await lock.acquire(LONG)

    ours.run(main)


def test_notification_of_a_task_that_is_cancelled_goes_to_the_next(ours: Make) -> None:
    async def main() -> None:
        condition = ours.locks.Condition()

        async def waiting() -> None:
            await condition.wait()

        task = asyncio.ensure_future(waiting())
        await moments()
        following = condition.wait(LONG)
        await cancel_after(task, condition.notify)
        assert await following is True

    ours.run(main)


def test_timeout_of_a_task_that_is_cancelled_wakes_nobody(ours: Make) -> None:
    """The turn was over, not given: there is nothing to pass on, and nothing to complain about."""

    async def main() -> None:
        condition, lock = ours.locks.Condition(), ours.locks.Lock()
        await lock.acquire()
        for wait in (condition.wait, lock.acquire):
            future = wait(LONG)

            async def waiting(future: Any = future) -> None:
                await future

            task = asyncio.ensure_future(waiting())
            await moments()
            following = wait()
            await cancel_after(task, partial(future._line._time_is_over, future))
            await moments()
            assert not following.done()
            following.cancel()

    ours.run(main)


def test_result_that_its_owner_has_set(ours: Make) -> None:
    """A Future is its owner's: a lock is not spent on one that is answered already."""

    async def main() -> None:
        lock = ours.locks.Lock()
        await lock.acquire()
        mine, following = lock.acquire(), lock.acquire(LONG)
        mine.set_result(None)
        lock.release()
        await following

    ours.run(main)


def test_stack_context_does_not_hold_up_a_timeout(ours: Make) -> None:
    """The time is the lock's business, not that of what surrounds who waits."""
    broken = False

    @contextmanager
    def context() -> Iterator[None]:
        assert not broken
        yield

    async def main() -> None:
        nonlocal broken
        with StackContext(context):
            wait = ours.locks.Event().wait(SHORT)
        broken = True
        with pytest.raises(TimeoutError):
            await wait

    ours.run(main)


def test_yield_from(ours: Make) -> None:
    """Who drives generators gets at the Future, as with asyncio's."""

    def steps() -> Generator[Any, None, Any]:
        return (yield from event.wait())

    event = ours.locks.Event()
    generator = steps()
    future = next(generator)
    event.set()
    with pytest.raises(StopIteration):
        generator.send(None)
    assert future.done()
