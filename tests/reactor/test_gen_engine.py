"""Engines on every backend, and where the exceptions of their callbacks go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pollux import IOLoop, gen
from pollux.stack_context import (
    ExceptionStackContext,
    NullContext,
    StackContext,
    StackContextInconsistentError,
    run_with_stack_context,
)
from tests.reactor.gen_scenarios import Failure, Steps, answer, clean_loop, fail, later, run
from tests.reactor.loops import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


def run_engine(loop: IOLoop, function: Callable[..., Steps], *args: Any) -> Any:
    """Run an engine until it calls its callback, and return what with."""
    return run(loop, lambda: gen.Task(gen.engine(function), *args))


# Engines


def test_engine_returns_nothing_and_may_not(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    @gen.engine
    def returns(value: Any, wait: bool = False) -> Steps:
        if wait:
            yield gen.moment
        return value

    @gen.engine
    def raises(value: Any) -> Steps:
        raise gen.Return(value)

    @gen.engine
    def no_generator(value: Any) -> Any:
        return value

    async def main() -> None:
        engines: list[Any] = [returns, raises, no_generator]
        for engine in engines:
            assert engine(None) is None
            with pytest.raises(gen.ReturnValueIgnoredError, match="returned 'value'"):
                engine("value")
        returns("late", wait=True)
        for _ in range(4):
            await gen.moment

    run(loop, main)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], gen.ReturnValueIgnoredError)


def test_callbacks_exception_is_thrown_into_the_engine(loop: IOLoop) -> None:
    """Whatever the engine waits for, from its beginning."""

    def works(callback: Callable[[Any], None]) -> Steps:
        loop.add_callback(fail, Failure("future"))
        with pytest.raises(Failure, match="future"):
            yield asyncio.Future()
        loop.call_later(0, fail, Failure("timeout"))
        with pytest.raises(Failure, match="timeout"):
            yield [asyncio.Future(), gen.moment]
        yield gen.Callback("key")
        loop.add_callback(fail, Failure("key"))
        with pytest.raises(Failure, match="key"):
            yield gen.Wait("key")
        callback("through")

    assert run_engine(loop, works) == "through"


def test_callbacks_exception_is_thrown_into_the_coroutine_after_its_first_yield_point(loop: IOLoop) -> None:
    @gen.coroutine
    def works() -> Steps:
        callback = yield gen.Callback("key")
        loop.add_callback(fail, Failure("callback"))
        with pytest.raises(Failure, match="callback"):
            yield gen.Wait("key")
        loop.add_callback(callback, "and the key is still there")
        return (yield gen.Wait("key"))

    assert run(loop, works) == "and the key is still there"


def test_engine_that_does_not_catch_it(loop: IOLoop) -> None:
    """It goes to the stack context in which the engine was called, and there once."""
    seen: list[BaseException] = []

    def handle(_kind: type[BaseException], error: BaseException, _traceback: Any) -> bool:
        seen.append(error)
        loop.stop()
        return True

    @gen.engine
    def works() -> Steps:
        loop.add_callback(fail, Failure("thrown in"))
        yield asyncio.Future()

    with ExceptionStackContext(handle):
        loop.add_callback(works)
    loop.start()
    assert list(map(str, seen)) == ["thrown in"]


def test_exception_after_the_engines_end_goes_on_outward(loop: IOLoop) -> None:
    seen: list[BaseException] = []

    def handle(_kind: type[BaseException], error: BaseException, _traceback: Any) -> bool:
        seen.append(error)
        loop.stop()
        return True

    @gen.engine
    def works() -> Steps:
        loop.call_later(0.01, fail, Failure("too late"))
        yield gen.moment

    with ExceptionStackContext(handle):
        loop.add_callback(works)
    loop.start()
    assert list(map(str, seen)) == ["too late"]


def test_engine_without_a_context_is_logged_once(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    @gen.engine
    def works() -> Steps:
        yield gen.moment
        loop.add_callback(loop.stop)
        raise Failure("logged")

    loop.add_callback(works)
    loop.start()
    gc.collect()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["logged"]


def test_engine_raises_at_once_to_its_caller(loop: IOLoop) -> None:
    @gen.engine
    def no_generator() -> None:
        raise Failure("no generator")

    @gen.engine
    def generator() -> Steps:
        yield gen.maybe_future(1)
        raise Failure("generator")

    async def main() -> None:
        with pytest.raises(Failure, match="no generator"):
            no_generator()
        with pytest.raises(Failure, match="generator"):
            generator()

    run(loop, main)


def test_null_context_lets_it_pass_by(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    def works(callback: Callable[[Any], None]) -> Steps:
        with NullContext():
            loop.add_callback(fail, Failure("for the log"))
        yield gen.moment
        yield gen.moment
        callback("undisturbed")

    assert run_engine(loop, works) == "undisturbed"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["for the log"]


@pytest.mark.parametrize("before", [None, gen.moment])
def test_yield_inside_a_stack_context_is_refused(loop: IOLoop, before: Any) -> None:
    left: list[str] = []

    @contextmanager
    def surround() -> Iterator[None]:
        try:
            yield
        finally:
            left.append("left")

    @gen.coroutine
    def works() -> Steps:
        if before is not None:
            yield before
        with pytest.raises(StackContextInconsistentError, match="yield run_with_stack_context"):
            with StackContext(surround):
                yield gen.maybe_future("done: nobody else runs, so nothing is wrong")
                assert left == []
                yield gen.moment
        assert left == ["left"]
        yield gen.moment
        return (yield run_with_stack_context(StackContext(surround), later))

    run(loop, works)
    assert left == ["left", "left"]


@pytest.mark.parametrize("decorator", [gen.coroutine, gen.engine])
def test_every_step_runs_inside_the_callers_contexts(loop: IOLoop, decorator: Callable[..., Any]) -> None:
    """And not when others run."""
    inside: list[str] = []

    @contextmanager
    def surround(name: str) -> Iterator[None]:
        inside.append(name)
        yield
        assert inside.pop() == name

    @decorator
    def works(done: Callable[[list[list[str]]], None]) -> Steps:
        seen = [[*inside]]
        yield later()
        seen.append([*inside])
        answer(None, (yield gen.Callback("key")))
        yield gen.Wait("key")
        seen.append([*inside])
        yield gen.moment
        seen.append([*inside])
        loop.add_callback(fail, Failure())
        with pytest.raises(Failure):
            yield asyncio.Future()
        seen.append([*inside])
        done(seen)

    async def main() -> None:
        for deactivating in (False, True):
            done = asyncio.Future[list[list[str]]]()
            with StackContext(partial(surround, "outer")), StackContext(partial(surround, "inner")) as deactivate:
                works(done.set_result)
            assert inside == []
            if deactivating:
                deactivate()
            while not done.done():
                await gen.moment
                assert inside == []
            both = ["outer", "inner"]
            assert done.result() == [both, *[["outer"] if deactivating else both] * 4]

    run(loop, main)


def test_second_exception_goes_on_outward(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Only one can be thrown into a generator that waits once."""

    def works(callback: Callable[[Any], None]) -> Steps:
        loop.add_callback(fail, Failure("first"))
        loop.add_callback(fail, Failure("second"))
        with pytest.raises(Failure, match="first"):
            yield asyncio.Future()
        yield gen.moment
        callback("through")

    def outer(callback: Callable[[Any], None]) -> Steps:
        try:
            yield gen.Task(gen.engine(works))
        except Failure as error:
            callback(str(error))

    assert run_engine(loop, outer) == "second"


def test_keys_outlive_nothing(loop: IOLoop) -> None:
    """A finished engine, its keys and its context go without the garbage collector."""

    class Thing:
        pass

    things: weakref.WeakSet[Thing] = weakref.WeakSet()

    def works(callback: Callable[[Any], None]) -> Steps:
        thing = Thing()
        things.add(thing)
        answer(thing, (yield gen.Callback("key")))
        yield [gen.Wait("key"), gen.Task(answer, thing)]
        callback(None)

    gc.collect()
    gc.disable()
    try:
        run_engine(loop, works)
        run(loop, lambda: gen.sleep(0))
        assert not things
    finally:
        gc.enable()
