"""`sleep`, `with_timeout`, `multi` and `WaitIterator` on every backend, and the same on Tornado's `gen`, the oracle."""
# The decorators are those of one `gen` or the other, so mypy cannot know their types.
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import tornado.gen

import pollux.gen
from pollux import IOLoop
from pollux.testing.virtual_clock import VirtualLoop
from tests.reactor.gen_scenarios import PATIENCE, Failure, Steps, clean_loop, later, now, run
from tests.reactor.loops import BACKENDS

LONG = timedelta(seconds=PATIENCE)
OVER = timedelta(seconds=-1)


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


@pytest.fixture(params=["tornado", "pollux"])
def gen(request: pytest.FixtureRequest) -> Any:
    return {"tornado": tornado.gen, "pollux": pollux.gen}[request.param]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    caplog.clear()
    return found


# sleep


def test_sleep(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def main() -> Steps:
        order: list[str] = []
        long = gen.sleep(0.02)
        long.add_done_callback(lambda _: order.append("long"))
        assert (yield gen.sleep(0)) is None
        order.append("short")
        yield long
        return order

    assert run(loop, main) == ["short", "long"]


def test_sleep_on_virtual_time() -> None:
    loop = VirtualLoop("poll")
    before = loop.time()
    loop.run_sync(lambda: pollux.gen.sleep(3600))
    assert loop.time() == before + 3600
    loop.close()


def test_sleep_that_was_cancelled(loop: IOLoop, gen: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gen.sleep(0).cancel()
        await gen.sleep(0.01)

    run(loop, main)
    assert not caplog.records


# with_timeout


def test_in_time(loop: IOLoop, gen: Any) -> None:
    async def native() -> str:
        await later()
        return "native"

    async def main() -> list[Any]:
        with pytest.raises(Failure):
            await gen.with_timeout(LONG, later(error=Failure()))
        with ThreadPoolExecutor(1) as pool:
            return [
                await gen.with_timeout(LONG, later("later")),
                await gen.with_timeout(LONG, now("now")),
                await gen.with_timeout(OVER, now("in the past, but done")),
                await gen.with_timeout(LONG, native()),
                await gen.with_timeout(LONG, pool.submit(str, "thread")),
                await gen.with_timeout(LONG, [later(1), later(2)]),
            ]

    assert run(loop, main) == ["later", "now", "in the past, but done", "native", "thread", [1, 2]]


def test_deadline_is_a_time_of_the_loop(loop: IOLoop) -> None:
    async def main() -> None:
        assert await pollux.gen.with_timeout(loop.time() + PATIENCE, later("in time")) == "in time"
        with pytest.raises(TimeoutError):
            await pollux.gen.with_timeout(loop.time(), asyncio.Future())
        with pytest.raises(TypeError):
            await pollux.gen.with_timeout("soon", asyncio.Future())  # type: ignore[arg-type]

    run(loop, main)


def test_done_just_in_time(loop: IOLoop) -> None:
    """By a timeout that comes before the deadline, in the same iteration: the result is on its way."""

    async def main() -> None:
        future = loop.create_future()
        loop.call_at(loop.time() - 1, future.set_result, "in time")
        assert await pollux.gen.with_timeout(loop.time(), future) == "in time"

    run(loop, main)


def test_too_late(loop: IOLoop, gen: Any) -> None:
    async def main() -> None:
        future: asyncio.Future[str] = asyncio.Future()
        for message, words in ((None, "Timeout"), ("said so", "said so"), (lambda: "made when needed", "made when")):
            with pytest.raises(TimeoutError, match=words):
                await gen.with_timeout(OVER, future, message=message)
        assert not future.done(), "others may want it"
        future.set_result("later")
        assert await gen.with_timeout(LONG, future, message=lambda: pytest.fail("not needed")) == "later"
        assert gen.TimeoutError is TimeoutError

    run(loop, main)


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [((), ["unseen"]), (Failure, []), ((KeyError, Failure), []), ((KeyError,), ["unseen"])],
)
def test_failure_after_the_time(
    loop: IOLoop, gen: Any, quiet: Any, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        future: asyncio.Future[str] = asyncio.Future()
        cancelled: asyncio.Future[str] = asyncio.Future()
        for each in (future, cancelled):
            with pytest.raises(TimeoutError):
                await gen.with_timeout(OVER, each, quiet_exceptions=quiet)
        cancelled.cancel()
        future.set_exception(Failure("unseen"))
        await later()

    run(loop, main)
    gc.collect()
    assert logged(caplog) == expected


def test_cancelled_in_time(loop: IOLoop, gen: Any) -> None:
    async def main() -> None:
        future: asyncio.Future[str] = asyncio.Future()
        asyncio.get_running_loop().call_soon(future.cancel)
        waiting = gen.with_timeout(LONG, future)
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    run(loop, main)


def test_thread_that_is_late(loop: IOLoop) -> None:
    release = threading.Event()

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            with pytest.raises(TimeoutError):
                await pollux.gen.with_timeout(OVER, pool.submit(release.wait, PATIENCE))
            release.set()

    run(loop, main)


# multi


def test_multi_logs_all_failures_but_the_first(loop: IOLoop, gen: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        for multi in (gen.multi, gen.Multi, gen.multi_future):
            for quiet, expected in (((), ["b"]), (Failure, []), ((KeyError, Failure), [])):
                children = [later(1), later(error=Failure("a")), later(error=Failure("b"))]
                with pytest.raises(Failure, match="a"):
                    await multi(children, quiet_exceptions=quiet)
                assert logged(caplog) == expected
        with pytest.raises(Failure, match="c"):
            await gen.multi({"x": later(error=Failure("c")), "y": later()})
        assert logged(caplog) == []

    run(loop, main)


def test_multi_and_cancellation(loop: IOLoop, gen: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cancelled: asyncio.Future[str] = asyncio.Future()
        cancelled.cancel()
        waiting = gen.multi([cancelled, later()])
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not waiting.cancelled()
        with pytest.raises(Failure):
            await gen.multi([later(error=Failure("first")), cancelled])
        child = later("undisturbed")
        assert gen.multi([child]).cancel()
        assert await child == "undisturbed"
        await later()

    run(loop, main)
    assert logged(caplog) == []


# WaitIterator


def test_results_in_the_order_they_come(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def main() -> Steps:
        futures: list[asyncio.Future[str]] = [asyncio.Future() for _ in range(3)]
        futures[2].set_result("first")
        asyncio.get_running_loop().call_soon(futures[0].set_result, "second")
        waiting = gen.WaitIterator(*futures)
        seen = []
        while not waiting.done():
            result = yield waiting.next()
            assert waiting.current_future is futures[waiting.current_index]
            seen.append((waiting.current_index, result))
            if result == "second":
                futures[1].set_result("third")
        assert (waiting.current_index, waiting.current_future) == (None, None)
        return seen

    assert run(loop, main) == [(2, "first"), (0, "second"), (1, "third")]


def test_names_and_failures(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def main() -> Steps:
        waiting = gen.WaitIterator(bad=later(error=Failure("bad")), good=later("good"))
        seen = {}
        while not waiting.done():
            try:
                result = yield waiting.next()
            except Failure as error:
                result = error.args[0]
            seen[waiting.current_index] = result
        return seen

    assert run(loop, main) == {"bad": "bad", "good": "good"}


def test_async_for(loop: IOLoop, gen: Any) -> None:
    async def main() -> None:
        assert [result async for result in gen.WaitIterator(now(1), later(2), later(3))] == [1, 2, 3]
        assert [result async for result in gen.WaitIterator()] == []
        with pytest.raises(Failure):
            async for _ in gen.WaitIterator(now(1), later(error=Failure())):
                pass

    run(loop, main)


def test_same_future_twice(loop: IOLoop, gen: Any) -> None:
    async def main() -> None:
        same = later("same")
        waiting = gen.WaitIterator(same, same)
        seen = []
        while not waiting.done():
            seen.append((await waiting.next(), waiting.current_index))
        assert sorted(seen) == [("same", 0), ("same", 1)]

    run(loop, main)


def test_wait_iterator_takes_one_kind_of_arguments(gen: Any) -> None:
    with pytest.raises(ValueError, match=r"args|names"):
        gen.WaitIterator(None, a=None)


def test_wait_iterator_of_anything_yieldable(loop: IOLoop) -> None:
    async def native() -> str:
        return "native"

    async def main() -> None:
        waiting = pollux.gen.WaitIterator(native(), None, pollux.gen.Task(lambda callback: callback("task")))
        seen = set()
        while not waiting.done():
            seen.add(await waiting.next())
        assert seen == {"native", None, "task"}

    run(loop, main)
