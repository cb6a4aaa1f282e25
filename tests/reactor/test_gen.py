"""Coroutines on every backend, and the same scenarios on Tornado's `gen`, the oracle, on the same loop."""
# The decorators are those of one `gen` or the other, so mypy cannot know their types.
# mypy: disable-error-code="untyped-decorator, misc"

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.gen

import pollux.gen
from pollux import IOLoop
from tests.reactor.gen_scenarios import PATIENCE, Failure, Steps, clean_loop, later, now, run
from tests.reactor.loops import BACKENDS

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    yield from clean_loop(request.param)


@pytest.fixture(params=["tornado", "pollux"])
def gen(request: pytest.FixtureRequest) -> Any:
    return {"tornado": tornado.gen, "pollux": pollux.gen}[request.param]


def iter_nothing() -> Iterator[None]:
    yield from ()


class Awaitable:
    """Something with `__await__`."""

    def __await__(self) -> Steps:
        yield from later("awaited").__await__()
        return "awaited"


# Results


def test_ways_to_return(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def returns(wait: bool) -> Steps:
        if wait:
            yield later()
        return "returned"

    @gen.coroutine
    def raises(wait: bool) -> Steps:
        if wait:
            yield later()
        raise gen.Return("raised")

    @gen.coroutine
    def no_generator(raising: bool) -> str:
        if raising:
            raise gen.Return("plain, raised")
        return "plain"

    @gen.coroutine
    def nothing() -> Steps:
        yield later()

    @gen.coroutine
    def main() -> Steps:
        return [
            (yield returns(True)),
            (yield returns(False)),
            (yield raises(True)),
            (yield raises(False)),
            (yield no_generator(False)),
            (yield no_generator(True)),
            (yield nothing()),
        ]

    expected = ["returned", "returned", "raised", "raised", "plain", "plain, raised", None]
    assert run(loop, main) == expected


def test_what_never_waits_is_done_at_once(loop: IOLoop, gen: Any) -> None:
    """Futures that are done are consumed without the loop, also through other coroutines."""

    @gen.coroutine
    def inner(value: int) -> Steps:
        got = yield now(value)
        return got

    @gen.coroutine
    def outer() -> Steps:
        total = 0
        for value in range(1000):
            total += yield inner(value)
        total += sum((yield [now(1), now(2)]))
        return total

    async def main() -> None:
        future = outer()
        assert isinstance(future, asyncio.Future)
        assert future.done()
        assert future.result() == sum(range(1000)) + 3

    run(loop, main)


def test_whatever_may_be_yielded(loop: IOLoop, gen: Any) -> None:
    async def native(value: str) -> str:
        await asyncio.sleep(0)
        return value

    @gen.coroutine
    def main() -> Steps:
        same = later("same")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            finished = pool.submit(str, "finished")
            finished.result()
            return [
                (yield None),
                (yield later("future")),
                (yield native("coroutine")),
                (yield asyncio.ensure_future(native("task"))),
                (yield Awaitable()),
                (yield pool.submit(str, "thread")),
                (yield finished),
                (yield []),
                (yield {}),
                (yield [later(1), now(2), native("3"), None, [later(4)], {"five": Awaitable()}, gen.moment]),
                (yield {"a": later("b"), "c": now("d")}),
                (yield [same, later(0), same]),
            ]

    assert run(loop, main) == [
        None, "future", "coroutine", "task", "awaited", "thread", "finished", [], {},
        [1, 2, "3", None, [4], {"five": "awaited"}, None], {"a": "b", "c": "d"}, ["same", 0, "same"],
    ]  # fmt: skip


def test_threads_among_others(loop: IOLoop) -> None:
    """Tornado's `gen` collects the results in whichever thread is last, and the loop sleeps on."""
    release = threading.Event()

    @pollux.gen.coroutine
    def main() -> Steps:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(release.wait, PATIENCE), later(), {"a": pool.submit(threading.get_ident)}]
            asyncio.get_running_loop().call_soon(release.set)
            results = yield waiting
        assert results[:2] == [True, None]
        assert results[2]["a"] != threading.get_ident()
        return threading.get_ident()

    assert run(loop, main) == threading.get_ident()


def test_awaited_from_async_def(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def old(value: int) -> Steps:
        yield gen.moment
        return value

    async def main() -> Any:
        return [await old(1), await gen.multi([old(2), old(3)]), await asyncio.gather(old(4), old(5))]

    assert run(loop, main) == [1, [2, 3], [4, 5]]


def test_moment_lets_the_loop_run(loop: IOLoop, gen: Any) -> None:
    seen: list[str] = []

    @gen.coroutine
    def main() -> Steps:
        for wait in (gen.moment, None):
            asyncio.get_running_loop().call_soon(seen.append, "callback")
            yield now()
            seen.append("not yet")
            yield wait
            seen.append("resumed")

    run(loop, main)
    assert seen == ["not yet", "callback", "resumed"] * 2


# Exceptions


@pytest.mark.parametrize("wait", [False, True])
def test_exceptions_reach_who_waits(loop: IOLoop, gen: Any, wait: bool) -> None:
    @gen.coroutine
    def innermost() -> Steps:
        if wait:
            yield later()
        raise Failure("here")

    @gen.coroutine
    def between() -> Steps:
        yield innermost()

    @gen.coroutine
    def main() -> Steps:
        try:
            yield between()
        except Failure as error:
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            assert [name for name in frames if name in ("main", "between", "innermost")] == [
                "main", "between", "innermost",
            ]  # fmt: skip
            return str(error)

    assert run(loop, main) == "here"


def test_handled_exception_is_forgotten(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def main() -> Steps:
        assert sys.exc_info() == (None, None, None)
        try:
            yield later(error=Failure())
        except Failure:
            yield later()
            assert sys.exc_info()[0] is Failure
        assert sys.exc_info() == (None, None, None)
        yield later()
        assert sys.exc_info() == (None, None, None)
        try:
            raise KeyError
        except KeyError:
            try:
                yield later(error=Failure())
            except Failure as error:
                context = error.__context__
        assert isinstance(context, KeyError)
        return "through"

    assert run(loop, main) == "through"


@pytest.mark.parametrize("garbage", [42, "text", (1, 2), object()])
def test_garbage_is_refused_where_it_is_yielded(loop: IOLoop, gen: Any, garbage: Any) -> None:
    @gen.coroutine
    def main(wait: bool) -> Steps:
        if wait:
            yield later()
        with pytest.raises(gen.BadYieldError, match=re.escape(repr(garbage))):
            yield garbage
        with pytest.raises(gen.BadYieldError):
            yield [now(), garbage]
        return "through"

    assert run(loop, lambda: main(True)) == "through"
    assert run(loop, lambda: main(False)) == "through"


@pytest.mark.parametrize(
    ("garbage", "words"),
    [((1, 2), "a tuple: yield a list"), (iter_nothing(), "decorate the function that made it"), (4, "Expected None")],
)
def test_bad_yield_error_gives_the_correction(loop: IOLoop, garbage: Any, words: str) -> None:
    @pollux.gen.coroutine
    def main() -> Steps:
        yield garbage

    with pytest.raises(pollux.gen.BadYieldError, match=words):
        run(loop, main)


def test_wrong_arguments_fail_the_future(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def takes_one(one: int) -> Steps:
        yield later(one)

    async def main() -> None:
        with pytest.raises(TypeError):
            await takes_one()

    run(loop, main)


def test_failure_that_nobody_asks_for_is_logged_once(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    @pollux.gen.coroutine
    def fails(wait: bool) -> Steps:
        if wait:
            yield later()
        raise Failure("unseen")

    async def main() -> None:
        fails(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fails(False)

    gc.disable()  # no cycles: it is reported when the future goes, not at some time
    try:
        run(loop, main)
    finally:
        gc.enable()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["unseen"] * 2


def test_exception_that_ends_programs_goes_through(loop: IOLoop) -> None:
    waiting: list[Any] = []

    @pollux.gen.coroutine
    def quits() -> Steps:
        yield later()
        raise SystemExit(3)

    async def main() -> None:
        waiting.append(quits())
        await asyncio.Event().wait()

    with pytest.raises(SystemExit):
        run(loop, main)
    assert isinstance(waiting[0].exception(), SystemExit), "nobody who waits for it may hang"
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_sync(lambda: asyncio.sleep(0))


# Context variables


def test_context_is_a_copy_of_the_callers(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def inner(wait: Any) -> Steps:
        assert variable.get() == "caller"
        token = variable.set("inner")
        yield wait
        assert variable.get() == "inner"
        yield later()
        assert variable.get() == "inner"
        variable.reset(token)
        return variable.get()

    @gen.coroutine
    def plain() -> str:
        variable.set("plain")
        return variable.get()

    async def main() -> None:
        variable.set("caller")
        futures = [inner(wait) for wait in (later(), now(), gen.moment, None)]
        assert variable.get() == "caller"
        assert await gen.multi(futures) == ["caller"] * 4
        assert await plain() == "plain"
        assert variable.get() == "caller"

    run(loop, main)


# What surrounds it


def test_decorated_function_looks_like_itself(gen: Any) -> None:
    def function() -> Steps:
        """Say something."""
        yield

    decorated = gen.coroutine(function)
    assert (decorated.__name__, decorated.__doc__, decorated.__wrapped__) == (
        "function", "Say something.", function,
    )  # fmt: skip
    assert gen.is_coroutine_function(decorated)
    assert not gen.is_coroutine_function(function)


def test_further_types_can_be_taught(loop: IOLoop, gen: Any) -> None:
    class Promise:
        value = "kept"

    @gen.convert_yielded.register(Promise)
    def _(promise: Promise) -> asyncio.Future[str]:
        return later(promise.value)

    @gen.coroutine
    def main() -> Steps:
        return [(yield Promise()), (yield [Promise(), later(1)])]

    assert run(loop, main) == ["kept", ["kept", 1]]


def test_maybe_future(loop: IOLoop, gen: Any) -> None:
    async def main() -> None:
        future = later()
        assert gen.maybe_future(future) is future
        assert await gen.maybe_future("value") == "value"
        await future

    run(loop, main)


def test_called_before_the_loop_runs(loop: IOLoop) -> None:
    @pollux.gen.coroutine
    def waits() -> Steps:
        yield pollux.gen.moment
        return "went on"

    future = waits()
    assert not future.done()
    assert run(loop, lambda: future) == "went on"


# callback=, as up to Tornado 5


def test_callback_argument(loop: IOLoop) -> None:
    got: list[str] = []

    @pollux.gen.coroutine
    def answers(wait: bool) -> Steps:
        if wait:
            yield later()
        return "answer"

    async def main() -> None:
        for wait in (False, True):
            assert await answers(wait, callback=got.append) == "answer"
            assert await answers(wait, callback=None) == "answer"
            await later()

    run(loop, main)
    assert got == ["answer", "answer"]


def test_callback_argument_of_the_function_itself(loop: IOLoop, gen: Any) -> None:
    @gen.coroutine
    def named(callback: Any = None) -> Steps:
        yield later()
        return callback

    @gen.coroutine
    def any_keyword(**kwargs: Any) -> Steps:
        yield later()
        return kwargs["callback"]

    async def main() -> list[Any]:
        return [await named(callback=1), await any_keyword(callback=2)]

    assert run(loop, main) == [1, 2]


def test_failure_does_not_call_the_callback(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    @pollux.gen.coroutine
    def fails() -> Steps:
        yield later()
        raise Failure("for the log")

    async def main() -> None:
        fails(callback=lambda result: pytest.fail(f"called with {result!r}"))
        for _ in range(5):
            await asyncio.sleep(0)

    run(loop, main)
    gc.collect()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["for the log"]
