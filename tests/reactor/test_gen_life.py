"""Cancellation, and what keeps a coroutine alive. On every backend, and in part on Tornado's `gen`."""
# The decorators are those of one `gen` or the other, so mypy cannot know their types.
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.gen

import pollux.gen
from pollux import IOLoop
from tests.reactor.gen_scenarios import PATIENCE, Failure, Steps, clean_loop, later, now, run
from tests.reactor.loops import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


@pytest.fixture(params=["tornado", "pollux"])
def gen(request: pytest.FixtureRequest) -> Any:
    return {"tornado": tornado.gen, "pollux": pollux.gen}[request.param]


def cancelled() -> None:
    raise asyncio.CancelledError


# Cancellation


def test_cancelling_the_future_leaves_the_coroutine_alone(
    loop: IOLoop, gen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    @gen.coroutine
    def works(fails: bool) -> Steps:
        yield later()
        seen.append("went on")
        if fails:
            raise Failure("late")
        return "unwanted"

    async def main() -> None:
        for fails in (False, True):
            future = works(fails)
            assert future.cancel()
            await later()
            await later()

    run(loop, main)
    assert seen == ["went on", "went on"]
    assert [record.message for record in caplog.records] == ["Exception after Future was cancelled"]


def test_cancelled_inside(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def waits_for_cancelled(caught: bool) -> Steps:
        future: asyncio.Future[None] = asyncio.Future()
        asyncio.get_running_loop().call_soon(future.cancel)
        try:
            yield future
        except asyncio.CancelledError:
            if caught:
                return "caught"
            raise

    @gen.coroutine
    def at_once() -> Steps:
        cancelled()
        yield

    async def main() -> None:
        assert await waits_for_cancelled(True) == "caught"
        for future in (waits_for_cancelled(False), at_once()):
            await asyncio.wait([future])
            assert future.cancelled()

    run(loop, main)


# Life and death


def test_whoever_holds_the_future_keeps_the_coroutine(loop: IOLoop, gen: Any) -> None:
    """Even if what it waits for is known to nobody else."""
    known: weakref.WeakSet[asyncio.Future[str]] = weakref.WeakSet()

    @gen.coroutine
    def waits() -> Steps:
        future: asyncio.Future[str] = asyncio.Future()
        known.add(future)
        got = yield future
        return got

    async def main() -> Any:
        held = waits()
        gc.collect()
        (future,) = known
        future.set_result("alive")
        del future
        return await held

    assert run(loop, main) == "alive"


def test_native_coroutine_under_way_is_held_by_the_loop(loop: IOLoop) -> None:
    known: weakref.WeakSet[asyncio.Future[str]] = weakref.WeakSet()
    got: list[str] = []

    async def native() -> None:
        future: asyncio.Future[str] = asyncio.Future()
        known.add(future)
        got.append(await future)

    @pollux.gen.coroutine
    def nobody_holds_this() -> Steps:
        yield native()
        got.append("end")

    async def main() -> None:
        nobody_holds_this()
        await later()
        gc.collect()
        (future,) = known
        future.set_result("alive")
        del future
        while "end" not in got:
            await asyncio.sleep(0)

    run(loop, main)
    assert got == ["alive", "end"]


def test_dropped_coroutine_is_closed(loop: IOLoop) -> None:
    seen: list[str] = []

    @pollux.gen.coroutine
    def waits_for_ever() -> Steps:
        try:
            yield asyncio.Future()
        finally:
            seen.append("closed")

    async def main() -> None:
        waits_for_ever()
        gc.collect()

    run(loop, main)
    assert seen == ["closed"]


@pytest.mark.parametrize(
    "how", ["returns", "raises", "bad yield", "unknown key", "bad key", "child", "at once", "at once, first"]
)
def test_finished_coroutine_leaves_no_cycle(loop: IOLoop, how: str) -> None:
    class Thing:
        pass

    things: weakref.WeakSet[Thing] = weakref.WeakSet()

    @pollux.gen.coroutine
    def child(thing: Thing) -> Steps:
        yield later()
        if how == "child":
            raise Failure
        return thing

    @pollux.gen.coroutine
    def at_once(thing: Thing) -> Steps:
        yield now()
        raise Failure

    @pollux.gen.coroutine
    def works() -> Steps:
        thing = Thing()
        things.add(thing)
        if how == "at once, first":
            yield at_once(thing)
        yield child(thing)
        yield [child(thing), child(thing)]
        match how:
            case "raises":
                raise Failure
            case "bad yield":
                yield 42
            case "unknown key":
                yield [pollux.gen.Wait("key")]
            case "bad key":
                yield pollux.gen.Callback([])  # type: ignore[arg-type]
            case "at once":
                try:
                    yield at_once(thing)
                except Failure:
                    pass
                yield at_once(thing)

    async def main() -> None:
        try:
            await works()
        except (Failure, pollux.gen.BadYieldError, pollux.gen.UnknownKeyError, TypeError):
            assert how != "returns"
        else:
            assert how == "returns"
        await later()

    gc.collect()
    gc.disable()
    try:
        run(loop, main)
        assert not things
    finally:
        gc.enable()


def test_late_answer_of_a_thread_finds_the_loop_closed() -> None:
    """The coroutine is gone; the thread does not notice."""
    release = threading.Event()
    loop = IOLoop(make_current=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        @pollux.gen.coroutine
        def waits() -> Steps:
            yield pool.submit(release.wait, PATIENCE)

        async def main() -> None:
            waits()

        run(loop, main)
        loop.close()
        IOLoop.clear_current()
        release.set()
    gc.collect()
