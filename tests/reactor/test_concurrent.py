"""Futures and executors on every backend, and what Tornado 6 still has on its `concurrent`, the oracle."""
# The decorators are those of one module or the other, so mypy cannot know their types.
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tornado.concurrent

import pollux.concurrent
from pollux import IOLoop, gen
from pollux.stack_context import ExceptionStackContext
from tests.reactor.gen_scenarios import PATIENCE, Failure, clean_loop, fail, later, run
from tests.reactor.loops import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


@pytest.fixture(params=["tornado", "pollux"])
def module(request: pytest.FixtureRequest) -> Any:
    return {"tornado": tornado.concurrent, "pollux": pollux.concurrent}[request.param]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


# Futures


def test_what_a_future_is(module: Any) -> None:
    loop = asyncio.new_event_loop()
    assert module.Future is asyncio.Future
    assert module.is_future(asyncio.Future(loop=loop))
    assert module.is_future(concurrent.futures.Future())
    assert not module.is_future("text")
    loop.close()


def test_done_callback(loop: IOLoop, module: Any) -> None:
    """At once if the future is done, for both kinds."""

    async def main() -> None:
        futures: list[Any] = [asyncio.Future(), concurrent.futures.Future()]
        for future in futures:
            seen: list[Any] = []
            module.future_add_done_callback(future, seen.append)
            assert seen == []
            future.set_result(None)
            await later()
            assert seen == [future]
            module.future_add_done_callback(future, seen.append)
            assert seen == [future, future]

    run(loop, main)


def test_setting_what_was_cancelled(loop: IOLoop, module: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        for kind in (asyncio.Future, concurrent.futures.Future):
            future: Any = kind()
            module.future_set_result_unless_cancelled(future, "result")
            assert future.result() == "result"
            future = kind()
            module.future_set_exception_unless_cancelled(future, Failure("set"))
            assert isinstance(future.exception(), Failure)
            future = kind()
            try:
                raise Failure("caught")
            except Failure:
                module.future_set_exc_info(future, sys.exc_info())
            with pytest.raises(Failure, match="caught"):
                future.result()
            future = kind()
            future.cancel()
            module.future_set_result_unless_cancelled(future, "nobody wants it")
            module.future_set_exception_unless_cancelled(future, Failure("somebody should know"))
            assert future.cancelled()

    run(loop, main)
    assert logged(caplog) == ["somebody should know"] * 2


def test_exc_info_of_nothing(module: Any) -> None:
    with pytest.raises(Exception, match="future_set_exc_info"):
        module.future_set_exc_info(concurrent.futures.Future(), (None, None, None))


@pytest.mark.parametrize("done_first", [False, True])
@pytest.mark.parametrize("outcome", ["result", "exception", "cancelled"])
@pytest.mark.parametrize("kinds", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_chain(loop: IOLoop, module: Any, kinds: tuple[int, int], outcome: str, done_first: bool) -> None:
    error = Failure()
    finish: dict[str, Callable[[Any], object]] = {
        "result": lambda future: future.set_result("result"),
        "exception": lambda future: future.set_exception(error),
        "cancelled": lambda future: future.cancel() and getattr(future, "set_running_or_notify_cancel", bool)(),
    }

    async def main() -> None:
        kind: Any = (asyncio.Future, concurrent.futures.Future)
        first, second = kind[kinds[0]](), kind[kinds[1]]()
        if done_first:
            finish[outcome](first)
        module.chain_future(first, second)
        if not done_first:
            finish[outcome](first)
        reached = asyncio.Event()
        asyncio.get_running_loop().call_soon(reached.set)
        await reached.wait()
        await later()
        if outcome == "cancelled":
            assert second.cancelled()
        elif outcome == "exception":
            assert second.exception() is error
        else:
            assert second.result() == "result"
        if outcome == "exception":
            first.exception()

    run(loop, main)


def test_chain_leaves_what_is_done_alone(loop: IOLoop, module: Any) -> None:
    async def main() -> None:
        for cancel in (True, False):
            first, second = asyncio.Future[str](), asyncio.Future[str]()
            module.chain_future(first, second)
            if cancel:
                second.cancel()
            else:
                second.set_result("own")
            first.set_result("other")
            await later()
            assert second.cancelled() or second.result() == "own"

    run(loop, main)


def test_chain_from_a_thread_wakes_the_loop(loop: IOLoop, module: Any) -> None:
    release = threading.Event()

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = asyncio.Future[bool]()
            module.chain_future(pool.submit(release.wait, PATIENCE), future)
            threading.Thread(target=release.set).start()
            assert await future is True

    run(loop, main)


# Executors


def test_dummy_executor(module: Any) -> None:
    executor = module.dummy_executor
    future = executor.submit(lambda *args, **kwargs: (threading.get_ident(), args, kwargs), 1, a=2)
    assert future.result(0) == (threading.get_ident(), (1,), {"a": 2})
    assert isinstance(executor.submit(fail, Failure()).exception(0), Failure)
    executor.shutdown()
    assert executor.submit(int).result(0) == 0


def test_run_on_executor(loop: IOLoop, module: Any) -> None:
    class Worker:
        def __init__(self, pool: concurrent.futures.Executor) -> None:
            self.executor = module.dummy_executor
            self.pool = pool

        @module.run_on_executor
        def plain(self, value: str) -> Any:
            """Work."""
            return value, threading.get_ident()

        @module.run_on_executor()
        def called(self, value: str) -> Any:
            return value, threading.get_ident()

        @module.run_on_executor(executor="pool")
        def named(self, value: str) -> Any:
            return value, threading.get_ident()

        @module.run_on_executor(executor="pool")
        def fails(self) -> None:
            raise Failure

    assert Worker.plain.__doc__ == "Work."

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            worker = Worker(pool)
            here = threading.get_ident()
            assert await worker.plain("a") == ("a", here)
            assert await worker.called(value="b") == ("b", here)
            value, thread = await worker.named("c")
            assert value == "c"
            assert thread != here
            with pytest.raises(Failure):
                await worker.fails()

    run(loop, main)


def test_run_on_executor_misused(module: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        module.run_on_executor(len, len)


def test_run_on_executor_with_callback(loop: IOLoop) -> None:
    class Worker:
        executor = pollux.concurrent.dummy_executor

        @pollux.concurrent.run_on_executor
        def plain(self) -> str:
            return "result"

        @pollux.concurrent.run_on_executor
        def own(self, callback: str) -> str:
            return callback

    async def main() -> None:
        assert await gen.Task(Worker().plain) == "result"
        assert await Worker().own(callback="its own") == "its own"

    run(loop, main)


# return_future


@pollux.concurrent.return_future
def doubles(number: int, callback: Callable[[int], None]) -> None:
    """Double it."""
    IOLoop.current().add_callback(callback, 2 * number)


def test_return_future(loop: IOLoop) -> None:
    async def main() -> None:
        called: asyncio.Future[int] = asyncio.Future()
        assert await doubles(2) == 4
        assert await doubles(3, callback=None) == 6
        assert await doubles(4, callback=called.set_result) == 8
        assert await called == 8
        called = asyncio.Future()
        assert await doubles(5, called.set_result) == 10
        assert await called == 10
        assert await gen.Task(doubles, number=6) == 12

    assert doubles.__doc__ == "Double it."
    run(loop, main)


def test_return_future_called_back_in_other_ways(loop: IOLoop) -> None:
    seen: list[Any] = []

    @pollux.concurrent.return_future
    def without(callback: Callable[[], None]) -> None:
        callback()
        callback()

    async def main() -> None:
        assert await without(callback=lambda *args: seen.append(args)) is None
        await later()

    run(loop, main)
    assert seen == [()]


def test_return_future_called_back_twice(loop: IOLoop) -> None:
    """The first call counts, for the Future and for the callback."""
    seen: list[int] = []

    @pollux.concurrent.return_future
    def twice(callback: Callable[[int], None]) -> None:
        callback(1)
        callback(2)

    async def main() -> None:
        assert await twice(callback=seen.append) == 1
        await later()

    run(loop, main)
    assert seen == [1]


def test_return_future_fails(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    @pollux.concurrent.return_future
    def at_once(callback: Callable[[], None]) -> None:
        raise Failure("at once")

    @pollux.concurrent.return_future
    def in_a_callback(callback: Callable[[], None]) -> None:
        loop.add_callback(fail, Failure("in a callback"))

    @pollux.concurrent.return_future
    def returns(callback: Callable[[], None]) -> str:
        return "value"

    async def main() -> None:
        with pytest.raises(Failure, match="at once"):
            at_once()
        with pytest.raises(pollux.concurrent.ReturnValueIgnoredError, match="'value'"):
            returns()
        with pytest.raises(Failure, match="in a callback"):
            await in_a_callback()
        await later()

    run(loop, main)
    gc.collect()
    assert logged(caplog) == []


def test_failure_goes_to_the_callers_context_too_if_it_gave_a_callback(loop: IOLoop) -> None:
    seen: list[str] = []

    def handle(_kind: type[BaseException], error: BaseException, _traceback: Any) -> bool:
        seen.append(str(error))
        return True

    @pollux.concurrent.return_future
    def fails(callback: Callable[[], None]) -> None:
        loop.add_callback(fail, Failure("seen"))

    async def main() -> None:
        with ExceptionStackContext(handle):
            future = fails(callback=lambda: pytest.fail("called"))
        with pytest.raises(Failure):
            await future
        await later()

    run(loop, main)
    assert seen == ["seen"]


def test_return_future_needs_a_callback_parameter() -> None:
    with pytest.raises(TypeError, match=r"needs a parameter named callback, it has a, b"):

        @pollux.concurrent.return_future
        def lacks(a: int, b: int) -> None: ...
