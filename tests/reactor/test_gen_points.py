"""Yield points on every backend: what Tornado 2 to 5 had, for which there is no oracle any more.

Each case is one generator, driven as an engine and as a coroutine: it must mean the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pollux import IOLoop, gen
from tests.reactor.gen_scenarios import PATIENCE, Failure, Steps, answer, clean_loop, fail, run
from tests.reactor.loops import BACKENDS


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


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
        await gen.moment
        answer("a", await gen.Callback("a"))
        answer("b", await gen.Callback("b"))
        answer("c", await gen.Callback("c"))
        return [
            await gen.Wait("a"),
            await gen.WaitAll(["b"]),
            await gen.multi([gen.Wait("c"), Countdown(1), gen.sleep(0)]),
            await gen.Task(answer, "d"),
            await gen.with_timeout(IOLoop.current().time() + PATIENCE, Countdown(2)),
        ]

    assert run(loop, main) == ["a", ["b"], ["c", "counted 1", None], "d", "counted 2"]


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
            await asyncio.ensure_future(gen.Wait("left behind"))

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
