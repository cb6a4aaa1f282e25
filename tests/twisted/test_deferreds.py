"""Deferreds where Futures are waited for, and the other way round."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, inlineCallbacks
from twisted.python.failure import Failure

from pollux import IOLoop, gen
from pollux_twisted import as_future, ensure_deferred
from pollux_twisted.deferreds import teach
from tests.reactor.loops import BACKENDS, usable


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    teach()
    loop = IOLoop(usable(request.param), make_current=True)
    yield loop
    loop.close()
    loop.clear_current()


def fire_later(result: object) -> Deferred[Any]:
    """Return a Deferred that fires from the loop; with a failure that has a traceback, if given an exception."""
    deferred: Deferred[Any] = Deferred()

    def fire() -> None:
        if isinstance(result, Exception):
            try:
                raise result
            except Exception:
                deferred.errback()
        else:
            deferred.callback(result)

    asyncio.get_running_loop().call_soon(fire)
    return deferred


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def awaited(make: Callable[[], Deferred[Any]]) -> Any:
    return await make()


@gen.coroutine
def yielded(make: Callable[[], Deferred[Any]]) -> Any:
    return (yield make())


async def as_a_future(make: Callable[[], Deferred[Any]]) -> Any:
    return await as_future(make())


def through_ensure_deferred(make: Callable[[], Deferred[Any]]) -> Any:
    return ensure_deferred(awaited(make))


WAYS = [awaited, yielded, as_a_future, through_ensure_deferred]


@pytest.mark.parametrize("way", WAYS)
def test_result_and_failure_with_traceback(loop: IOLoop, way: Callable[..., Any]) -> None:
    async def main() -> None:
        assert await way(lambda: fire_later(7)) == 7
        assert await way(lambda: defer.succeed(8)) == 8
        with pytest.raises(ValueError, match="broken") as caught:
            await way(lambda: fire_later(ValueError("broken")))
        assert frames(caught.value)[-1] == "fire"
        with pytest.raises(ValueError, match="at once"):
            await way(lambda: defer.fail(ValueError("at once")))

    loop.run_sync(main)


def test_a_failure_that_alone_has_the_traceback(loop: IOLoop) -> None:
    """Twisted may have taken it from the exception, so as to keep no frames alive."""

    async def main() -> None:
        try:
            raise ValueError("kept")
        except ValueError as error:
            failure = Failure()
            error.__traceback__ = None
        with pytest.raises(ValueError, match="kept") as caught:
            await defer.fail(failure).addErrback(lambda failure: failure)
        assert frames(caught.value)[-1] == "main"

    loop.run_sync(main)


def test_lists_dicts_and_kinds_of_deferreds(loop: IOLoop) -> None:
    @gen.coroutine
    def main() -> Any:
        assert (yield [fire_later(1), asyncio.sleep(0, 2), defer.succeed(3)]) == [1, 2, 3]
        assert (yield {"a": fire_later(1), "b": None}) == {"a": 1, "b": None}
        assert (yield DeferredList([fire_later(1)])) == [(True, 1)]

    loop.run_sync(main)


def test_awaited_after_it_has_fired_it_needs_no_turn_of_the_loop(loop: IOLoop) -> None:
    async def main() -> None:
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "turn")
        order.append(await defer.succeed("fired"))
        assert order == ["fired"]

    loop.run_sync(main)


def test_cancelling_a_task_cancels_the_deferred(loop: IOLoop) -> None:
    """The task gets asyncio's CancelledError, whatever the canceller does; nothing is reported as unhandled."""

    async def main() -> None:
        cancelled: list[str] = []

        def quiet(deferred: Deferred[Any]) -> None:
            cancelled.append("quiet")

        def with_result(deferred: Deferred[Any]) -> None:
            cancelled.append("result")
            deferred.callback("in spite of it")

        def with_error(deferred: Deferred[Any]) -> None:
            cancelled.append("error")
            deferred.errback(ValueError("while it was cancelled"))

        for canceller in (quiet, with_result, with_error):
            for way in (awaited, as_a_future):
                task = asyncio.ensure_future(way(partial(Deferred, canceller)))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.sleep(0)
        assert cancelled == ["quiet", "quiet", "result", "result", "error", "error"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await Deferred()
        gc.collect()

    loop.run_sync(main)


def test_cancelling_a_deferred_cancels_the_coroutine_or_future(loop: IOLoop) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        outcomes: list[Any] = []
        future = asyncio.get_running_loop().create_future()
        for awaitable in (work(), future):
            deferred = ensure_deferred(awaitable)
            deferred.addBoth(outcomes.append)
            await asyncio.sleep(0)
            deferred.cancel()
        await ended.wait()
        assert future.cancelled()
        assert [outcome.type for outcome in outcomes] == [defer.CancelledError] * 2

    loop.run_sync(main)


def test_a_cancelled_future_fails_with_twisteds_error(loop: IOLoop) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        deferred = ensure_deferred(future)
        future.cancel()
        with pytest.raises(defer.CancelledError):
            await deferred

    loop.run_sync(main)


def test_what_a_coroutine_raises_after_its_deferred_was_cancelled_is_reported(loop: IOLoop) -> None:
    seen: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

    async def main() -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("while it ended") from None

        deferred = ensure_deferred(work())
        deferred.addErrback(lambda failure: failure.trap(defer.CancelledError))
        await asyncio.sleep(0)
        deferred.cancel()
        while not seen:
            await asyncio.sleep(0)

    loop.run_sync(main)
    assert [str(error) for error in seen] == ["while it ended"]


def test_whatever_a_coroutine_may_wait_for_becomes_a_deferred(loop: IOLoop) -> None:
    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        assert ensure_deferred(deferred) is deferred
        assert await ensure_deferred([asyncio.sleep(0, 1), None]) == [1, None]  # type: ignore[arg-type]
        with pytest.raises(gen.BadYieldError):
            await ensure_deferred(object())  # type: ignore[arg-type]

    loop.run_sync(main)


def test_twisteds_coroutines_inside_our_tasks(loop: IOLoop) -> None:
    """They are driven by Twisted, in the step of a task: what they await must not be given to the task."""

    async def twisteds(what: object) -> Any:
        return await fire_later(what)

    @inlineCallbacks
    def generator() -> Any:
        first = yield fire_later(1)
        second = yield ensure_deferred(asyncio.sleep(0, 2))
        third = yield from fire_later(3)
        return [first, second, third]

    async def main() -> None:
        assert await ensureDeferred(twisteds(7)) == 7
        with pytest.raises(ValueError, match="theirs") as caught:
            await ensureDeferred(twisteds(ValueError("theirs")))
        assert "twisteds" in frames(caught.value)
        assert await generator() == [1, 2, 3]
        waiting = ensureDeferred(awaited(Deferred))
        waiting.cancel()
        with pytest.raises(defer.CancelledError):
            await waiting

    loop.run_sync(main)


def test_outside_our_tasks_await_is_twisteds() -> None:
    """Without a loop, and in asyncio's own, where a task cannot await a Deferred."""
    teach()
    deferred: Deferred[Any] = Deferred()
    outcomes: list[Any] = []
    ensureDeferred(awaited(lambda: deferred)).addCallback(outcomes.append)
    deferred.callback(7)
    assert outcomes == [7]

    async def main() -> None:
        with pytest.raises(RuntimeError, match="bad yield"):
            await Deferred()

    asyncio.run(main())


def test_who_awaits_can_be_shown(loop: IOLoop) -> None:
    """asyncio's debug mode shows what a task waits for."""

    async def main() -> None:
        task = asyncio.ensure_future(awaited(Deferred))
        await asyncio.sleep(0)
        assert "<waiting for <Deferred at" in repr(task)
        task.cancel()

    loop.run_sync(main)


def test_stop_iteration_becomes_a_runtime_error(loop: IOLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await as_future(defer.fail(StopIteration()))

    loop.run_sync(main)
