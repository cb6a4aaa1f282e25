"""What programs of Tornado 2 to 5 say to the loop, and of it, on every backend: the wall clock, `io_loop`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import tornado.ioloop

import pollux.ioloop
from pollux import IOLoop, PeriodicCallback, gen
from pollux.concurrent import dummy_executor, run_on_executor
from pollux.netutil import BlockingResolver, Resolver
from pollux.process import Subprocess
from pollux.queues import Queue
from pollux.tcpclient import TCPClient
from pollux.testing.virtual_clock import VirtualLoop
from tests.architecture.test_docs import TRUE
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


# The clock


@pytest.mark.parametrize("kind", [IOLoop, tornado.ioloop.IOLoop], ids=["pollux", "tornado"])
def test_a_deadline_by_the_wall_clock(kind: Any) -> None:
    """`add_timeout(time.time() + ...)`: what the documentation of Tornado 2 says, and works in all of its versions."""
    loop = kind(make_current=False)
    order: list[str] = []
    loop.add_timeout(time.time() + 0.02, order.append, "late")
    loop.add_timeout(time.time() + 0.03, loop.stop)
    loop.add_timeout(time.time() + 0.01, order.append, "soon")
    loop.add_timeout(time.time() - 10, order.append, "past")
    loop.add_timeout(time.time() + 10, order.append, "never")
    loop.start()
    loop.close()
    assert order == ["past", "soon", "late"]


@asynchronous
async def test_deadlines_by_the_wall_clock_in_what_waits(loop: IOLoop) -> None:
    never = loop.create_future()
    for expired in (gen.with_timeout(time.time() + 0.01, never), Queue[int]().get(timeout=time.time() + 0.01)):
        with pytest.raises(TimeoutError):
            await expired


def test_deadlines_by_the_loops_clock_stay_what_they_are() -> None:
    loop = VirtualLoop()
    start, came = loop.time(), []
    for ahead in (5.0, 1e8):
        loop.add_timeout(start + ahead, lambda: came.append(loop.time() - start))
    loop.call_later(2e8, loop.stop)
    loop.start()
    loop.close()
    assert came == [5.0, 1e8]


# PeriodicCallback


@pytest.fixture
def virtual() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def run_for(loop: VirtualLoop, seconds: float) -> None:
    loop.call_later(seconds, loop.stop)
    loop.start()


@pytest.mark.parametrize("awaited", [False, True])
def test_a_beat_that_meets_a_cancelled_future_goes_on(
    virtual: VirtualLoop, awaited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """CancelledError is no Exception, but no reason to stop either. A function logs it; a coroutine is cancelled."""
    beats: list[float] = []

    def callback() -> Any:
        beats.append(virtual.time())
        future = virtual.create_future()
        future.cancel()
        return future if awaited else future.result()

    beat = PeriodicCallback(callback, 1000, io_loop=virtual)
    beat.start()
    run_for(virtual, 3.5)
    beat.stop()
    assert len(beats) == 3
    assert caplog.text.count("CancelledError") == (0 if awaited else 3)


def test_a_loop_closed_while_a_beat_waits(virtual: VirtualLoop) -> None:
    """The coroutine is dropped with the loop, and nothing complains that no further beat can be set."""

    async def callback() -> None:
        await gen.sleep(10)

    beat = PeriodicCallback(callback, 1000, 0, virtual)
    beat.start()
    run_for(virtual, 1.5)
    virtual.close()
    (task,) = virtual._tasks
    task.get_coro().close()  # as the garbage collector does
    assert beat.is_running()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's word on it is not the point here


@pytest.mark.parametrize("arguments", [{"io_loop": None}, {"jitter": None}])
def test_a_beat_in_a_loop_that_is_not_current(virtual: VirtualLoop, arguments: dict[str, Any]) -> None:
    """By name, or third as up to Tornado 4, where `jitter` is now."""
    beats: list[float] = []
    beat = PeriodicCallback(lambda: beats.append(virtual.time()), 1000, **dict.fromkeys(arguments, virtual))
    beat.start()
    assert beat.io_loop is virtual
    run_for(virtual, 1.5)
    beat.stop()
    assert len(beats) == 1


def test_where_tornado_has_it() -> None:
    assert pollux.ioloop.PeriodicCallback is PeriodicCallback
    with pytest.raises(AttributeError, match=r"module 'pollux\.ioloop' has no attribute 'PeriodicCall'"):
        _ = pollux.ioloop.PeriodicCall


# Names and arguments


def test_older_names_of_the_current_loop(loop: IOLoop) -> None:
    IOLoop.clear_instance()
    assert IOLoop.current(instance=False) is None
    loop.install()
    assert IOLoop.current(instance=False) is loop
    assert not loop.running()


def test_run_sync_takes_what_a_coroutine_may_yield(loop: IOLoop) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert loop.run_sync(lambda: executor.submit(int, "7")) == 7
        assert loop.run_sync(lambda: [executor.submit(int, "8"), gen.sleep(0)]) == [8, None]
        assert loop.run_sync(lambda: {"nine": gen.maybe_future(9)}) == {"nine": 9}


@asynchronous
async def test_io_loop_is_taken(loop: IOLoop) -> None:
    """Up to Tornado 4 nearly everything had this argument."""

    class Slow:
        executor, io_loop = dummy_executor, loop

        @run_on_executor(executor="executor", io_loop="io_loop")
        def work(self) -> int:
            return 7

    assert await Slow().work() == 7
    with pytest.raises(TimeoutError):
        await gen.with_timeout(timedelta(0), loop.create_future(), io_loop=loop)
    resolver = Resolver(io_loop=loop)
    assert await resolver.resolve("127.0.0.1", 80)
    assert await BlockingResolver(io_loop=loop).resolve("127.0.0.1", 80)
    TCPClient(resolver=resolver, io_loop=loop).close()
    Subprocess.initialize(io_loop=loop)
    child = Subprocess([TRUE], io_loop=loop)
    assert child.io_loop is loop
    assert await child.wait_for_exit() == 0


# Closing


def test_what_lives_as_long_as_the_loop_is_told(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def say_goodbye() -> None:
        await asyncio.sleep(0)
        told.append("goodbye")

    def fail() -> None:
        raise ValueError("of a close callback")

    loop.add_close_callback(lambda: told.append(loop.is_closed()))
    loop.add_close_callback(fail)
    loop.add_close_callback(lambda: loop.run_until_complete(say_goodbye()))
    loop.add_close_callback(told.clear)
    loop.remove_close_callback(told.clear)
    loop.remove_close_callback(told.clear)
    loop.close()
    loop.close()
    assert told == ["goodbye", False]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "of a close callback"


@asynchronous
async def test_a_running_loop_does_not_say_that_it_closes(loop: IOLoop) -> None:
    told: list[str] = []
    loop.add_close_callback(lambda: told.append("closing"))
    with pytest.raises(RuntimeError):
        loop.close()
    assert told == []
