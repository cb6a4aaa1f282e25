"""Yield points and engines on every backend: what Tornado 2 to 5 had, for which there is no oracle any more.

Longer than 500 lines, because every case of a yield point is one generator, driven as an engine and as a coroutine.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest

from pollux import IOLoop, gen
from pollux.stack_context import ExceptionStackContext, NullContext, StackContext, StackContextInconsistentError
from pollux.testing.descriptors import nothing_left_open
from tests.reactor.loops import BACKENDS, usable

PATIENCE = 20.0
Steps = Generator[Any, Any, Any]


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(request.param), make_current=True)
        yield loop
        assert not asyncio.all_tasks(loop)
        loop.close()
        IOLoop.clear_current()
        gc.collect()


def run(loop: IOLoop, main: Callable[[], Any]) -> Any:
    return loop.run_sync(main, timeout=PATIENCE)


def run_engine(loop: IOLoop, function: Callable[..., Steps], *args: Any) -> Any:
    """Run an engine until it calls its callback, and return what with."""
    return run(loop, lambda: gen.Task(gen.engine(function), *args))


def answer(value: Any, callback: Callable[..., None]) -> None:
    """The sort of function that yield points are for."""
    IOLoop.current().add_callback(callback, value)


def fail(error: Exception) -> None:
    raise error


class Failure(Exception):  # noqa: N818  # short, and never shown
    pass


Run = Callable[[Callable[..., Steps]], Any]


@pytest.fixture(params=["engine", "coroutine"])
def drive(request: pytest.FixtureRequest, loop: IOLoop) -> Run:
    """Run a generator function without arguments either way. What it means must be the same."""

    def as_engine(function: Callable[..., Steps]) -> Any:
        @gen.engine
        def wrapped(callback: Callable[[Any], None]) -> Steps:
            result = yield from function()
            callback(result)

        return run(loop, lambda: gen.Task(wrapped))

    def as_coroutine(function: Callable[..., Steps]) -> Any:
        return run(loop, gen.coroutine(function))

    return as_engine if request.param == "engine" else as_coroutine


# Callback and Wait


def test_callback_and_wait(drive: Run) -> None:
    def works() -> Steps:
        answer("first", (yield gen.Callback("a")))
        first = yield gen.Wait("a")
        answer("again", (yield gen.Callback("a")))  # a key that was waited for is free
        answer("other", (yield gen.Callback(("any", "hashable"))))
        other = yield gen.Wait(("any", "hashable"))
        return [first, (yield gen.Wait("a")), other]

    assert drive(works) == ["first", "again", "other"]


def test_callback_called_before_anybody_waits(drive: Run) -> None:
    def works() -> Steps:
        (yield gen.Callback("a"))("at once")
        (yield gen.Callback("b"))("too")
        return [(yield gen.Wait("a")), (yield gen.WaitAll(["b"]))]

    assert drive(works) == ["at once", ["too"]]


def test_wait_all_keeps_the_order_of_the_keys(drive: Run) -> None:
    def works() -> Steps:
        callbacks = []
        for key in "abc":
            callbacks.append((yield gen.Callback(key)))  # noqa: PERF401  # not inside a comprehension
        for callback in reversed(callbacks):
            answer(callbacks.index(callback), callback)
        return (yield gen.WaitMany("abc"))

    assert drive(works) == [0, 1, 2]
    assert gen.WaitMany is gen.WaitAll


def test_what_a_callback_may_be_called_with(drive: Run) -> None:
    def works() -> Steps:
        results = []
        for args, kwargs in (((), {}), ((1,), {}), ((1, 2), {}), ((1,), {"a": 2}), ((), {"a": 2})):
            (yield gen.Callback("key"))(*args, **kwargs)
            results.append((yield gen.Wait("key")))
        return results

    none, one, two, *keywords = drive(works)
    assert (none, one) == (None, 1)
    assert isinstance(two, gen.Arguments)
    assert (two.args, two.kwargs) == ((1, 2), {})
    assert keywords == [gen.Arguments((1,), {"a": 2}), gen.Arguments((), {"a": 2})]


def test_each_coroutine_has_its_own_keys(drive: Run) -> None:
    @gen.coroutine
    def child(value: str) -> Steps:
        answer(value, (yield gen.Callback("key")))
        return (yield gen.Wait("key"))

    def works() -> Steps:
        callback = yield gen.Callback("key")
        results = yield [child("a"), child("b")]
        callback("own")
        return [*results, (yield gen.Wait("key"))]

    assert drive(works) == ["a", "b", "own"]


# Faults with keys


def test_key_used_twice(drive: Run) -> None:
    def works() -> Steps:
        callback = yield gen.Callback("key")
        with pytest.raises(gen.KeyReuseError, match="'key' is pending"):
            yield gen.Callback("key")
        callback("the first goes on")
        return (yield gen.Wait("key"))

    assert drive(works) == "the first goes on"


@pytest.mark.parametrize("point", [gen.Wait("typo"), gen.WaitAll(["key", "typo"]), gen.Multi([gen.Wait("typo")])])
def test_key_that_nobody_made(drive: Run, point: gen.YieldPoint) -> None:
    def works() -> Steps:
        callback = yield gen.Callback("key")
        with pytest.raises(gen.UnknownKeyError, match=r"'typo' is not pending here; pending are .*'key'"):
            yield point
        callback("the other goes on")
        return (yield gen.Wait("key"))

    assert drive(works) == "the other goes on"


def test_key_waited_for_twice(drive: Run) -> None:
    def works() -> Steps:
        (yield gen.Callback("key"))(1)
        yield gen.Wait("key")
        with pytest.raises(gen.UnknownKeyError):
            yield gen.Wait("key")
        return "through"

    assert drive(works) == "through"


def test_callback_called_twice_counts_once(drive: Run, caplog: pytest.LogCaptureFixture) -> None:
    def works() -> Steps:
        callback = yield gen.Callback("key")
        callback("first")
        callback("second")
        result = yield gen.Wait("key")
        again = yield gen.Callback("key")
        callback("third")
        answer("new", again)
        assert (yield gen.Wait("key")) == "new"
        return result

    assert drive(works) == "first"
    assert [record.message for record in caplog.records] == [
        "The callback of key 'key' was called again, with ('second',) {}: ignored",
        "The callback of key 'key' was called again, with ('third',) {}: ignored",
    ]


def test_callback_called_after_the_end(drive: Run) -> None:
    callbacks: list[Callable[..., None]] = []

    def works() -> Steps:
        callbacks.append((yield gen.Callback("key")))
        raise Failure

    with pytest.raises(Failure):
        drive(works)
    callbacks[0]("too late")


@pytest.mark.parametrize("wait", [False, True])
def test_leaked_callback(loop: IOLoop, wait: bool) -> None:
    @gen.coroutine
    def leaks() -> Steps:
        yield gen.Callback("a")
        yield gen.Callback("b")
        if wait:
            yield gen.moment

    with pytest.raises(gen.LeakedCallbackError, match="'a', 'b'"):
        run(loop, leaks)


def test_leaked_callback_of_an_engine_reaches_its_caller(loop: IOLoop) -> None:
    @gen.engine
    def leaks() -> Steps:
        yield gen.Callback("a")

    with pytest.raises(gen.LeakedCallbackError, match="'a'"):
        run(loop, leaks)


def test_after_an_exception_keys_may_be_left(drive: Run) -> None:
    def works() -> Steps:
        yield gen.Callback("orphan")
        with pytest.raises(gen.BadYieldError):
            yield 42
        return "through"

    assert drive(works) == "through"


# Custom yield points


class Countdown(gen.YieldPoint):
    """As people wrote them for Tornado 2."""

    def __init__(self, count: int) -> None:
        self.count = count

    def start(self, runner: gen.Keys) -> None:
        self.runner = runner
        self.key = object()
        runner.register_callback(self.key)
        answer(None, runner.result_callback(self.key))

    def is_ready(self) -> bool:
        return self.runner.is_ready(self.key)

    def get_result(self) -> str:
        self.runner.pop_result(self.key)
        return f"counted {self.count}"


class Broken(gen.YieldPoint):
    """Raises in one of its methods; is ready at once, or later."""

    def __init__(self, where: str, at_once: bool) -> None:
        self.where, self.at_once = where, at_once

    def _maybe_raise(self, where: str) -> None:
        if self.where == where:
            raise Failure(where)

    def start(self, runner: gen.Keys) -> None:
        self._maybe_raise("start")
        self.runner = runner
        runner.register_callback(self)
        answer(None, runner.result_callback(self))

    def is_ready(self) -> bool:
        ready = self.at_once or self.runner.is_ready(self)
        if ready:
            self._maybe_raise("is_ready")
        return ready

    def get_result(self) -> None:
        self._maybe_raise("get_result")
        raise AssertionError("not reached")


def test_custom_yield_point(drive: Run) -> None:
    def works() -> Steps:
        return [(yield Countdown(1)), (yield [Countdown(2), Countdown(3)])]

    assert drive(works) == ["counted 1", ["counted 2", "counted 3"]]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("where", ["start", "is_ready", "get_result"])
def test_exception_in_a_yield_point_is_raised_where_it_is_yielded(drive: Run, where: str, at_once: bool) -> None:
    def works() -> Steps:
        with pytest.raises(Failure, match=where):
            yield Broken(where, at_once)
        with pytest.raises(Failure, match=where):
            yield {"in a dict": Broken(where, at_once)}
        return (yield Countdown(1))

    assert drive(works) == "counted 1"


def test_yield_point_without_its_methods(drive: Run) -> None:
    def works() -> Steps:
        with pytest.raises(NotImplementedError, match=r"YieldPoint.start\(runner\) is missing"):
            yield gen.YieldPoint()
        return "through"

    assert drive(works) == "through"


# Task


def test_task(drive: Run) -> None:
    def several(callback: Callable[..., None]) -> None:
        callback(1, two=2)
        callback("again, which changes nothing")

    def works() -> Steps:
        return [
            (yield gen.Task(answer, "one")),
            (yield [gen.Task(answer, "two"), gen.Task(answer, value="three")]),
            (yield gen.Task(several)),
            (yield gen.with_timeout(IOLoop.current().time() + PATIENCE, gen.Task(answer, "four"))),
        ]

    assert drive(works) == ["one", ["two", "three"], gen.Arguments((1,), {"two": 2}), "four"]


def test_task_of_a_coroutine(drive: Run) -> None:
    @gen.coroutine
    def adds(one: int, other: int) -> Steps:
        yield gen.moment
        if other < 0:
            raise Failure("negative")
        return one + other

    def works() -> Steps:
        result = yield gen.Task(adds, 1, other=2)
        with pytest.raises(Failure, match="negative"):
            yield gen.Task(adds, 1, -1)
        return result

    assert drive(works) == 3


@pytest.mark.parametrize("at_once", [False, True])
def test_task_fails(drive: Run, at_once: bool) -> None:
    def fails(callback: Callable[..., None]) -> None:
        if at_once:
            raise Failure
        IOLoop.current().add_callback(fail, Failure())

    def works() -> Steps:
        with pytest.raises(Failure):
            yield gen.Task(fails)
        return "through"

    assert drive(works) == "through"


# Multi


def test_multi_of_everything(drive: Run) -> None:
    async def native() -> str:
        return "native"

    def works() -> Steps:
        answer("a", (yield gen.Callback("a")))
        answer("b", (yield gen.Callback("b")))
        first = yield gen.Multi([gen.Wait("a"), gen.maybe_future("done"), native(), [gen.Wait("b")], gen.moment])
        answer("c", (yield gen.Callback("c")))
        second = yield {"c": gen.Wait("c"), "task": gen.Task(answer, "d"), "e": gen.sleep(0)}
        return first, second

    assert drive(works) == (["a", "done", "native", ["b"], None], {"c": "c", "task": "d", "e": None})


def test_multi_with_failures(drive: Run, caplog: pytest.LogCaptureFixture) -> None:
    def works() -> Steps:
        for quiet in ((), Failure, (KeyError, Failure)):
            answer("a", (yield gen.Callback("a")))
            children = [gen.Wait("a"), Broken("get_result", False), gen.Task(partial(answer_badly, Failure("second")))]
            with pytest.raises(Failure, match="get_result"):
                yield gen.multi(children, quiet_exceptions=quiet)
        return "through"

    assert drive(works) == "through"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["second"]


def answer_badly(error: Exception, callback: Callable[..., None]) -> None:
    IOLoop.current().add_callback(fail, error)


# await


def test_await_on_yield_points(loop: IOLoop) -> None:
    async def main() -> list[Any]:
        answer("a", await gen.Callback("a"))
        answer("b", await gen.Callback("b"))
        answer("c", await gen.Callback("c"))
        return [
            await gen.Wait("a"),
            await gen.WaitAll(["b"]),
            await gen.multi([gen.Wait("c"), Countdown(1), gen.sleep(0)]),
            await gen.Task(answer, "d"),
            await gen.moment,
            await gen.with_timeout(IOLoop.current().time() + PATIENCE, Countdown(2)),
        ]

    assert run(loop, main) == ["a", ["b"], ["c", "counted 1", None], "d", None, "counted 2"]


def test_await_faults(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        await gen.Callback("left behind")
        with pytest.raises(gen.KeyReuseError):
            await gen.Callback("left behind")
        with pytest.raises(gen.UnknownKeyError):
            await gen.Wait("typo")
        with pytest.raises(Failure):
            await Broken("start", False)
        with pytest.raises(gen.UnknownKeyError, match="a task of its own"):
            await asyncio.wait_for(gen.Wait("left behind"), PATIENCE)

    run(loop, main)
    (record,) = caplog.records
    assert "finished without waiting for the callbacks 'left behind':" in record.message


def test_cancelled_wait(loop: IOLoop) -> None:
    """A task that is cancelled while it waits can wait for the same key again."""

    async def main() -> Any:
        callback = await gen.Callback("key")
        task = asyncio.current_task()
        assert task is not None
        IOLoop.current().add_callback(task.cancel)
        try:
            await gen.Wait("key")
        except asyncio.CancelledError:
            answer("late", callback)
        return await gen.Wait("key")

    assert run(loop, main) == "late"


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


def test_yield_inside_a_stack_context_is_refused(loop: IOLoop) -> None:
    @gen.coroutine
    def works() -> Steps:
        with StackContext(partial(ExceptionStackContext, lambda *_error: False)):
            yield gen.maybe_future("done: nobody else runs, so nothing is wrong")
            yield gen.moment

    with pytest.raises(StackContextInconsistentError, match="yield run_with_stack_context"):
        run(loop, works)


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
