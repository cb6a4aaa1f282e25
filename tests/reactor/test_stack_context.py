"""Stack contexts: by themselves, and around whatever is scheduled on every backend."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest

from pollux import READ, IOLoop, PeriodicCallback
from pollux.log import app_log
from pollux.stack_context import (
    ExceptionStackContext,
    NullContext,
    StackContext,
    StackContextInconsistentError,
    entered,
    run_with_stack_context,
    wrap,
)
from pollux.testing.descriptors import nothing_left_open, socket_pair
from tests.reactor.loops import BACKENDS, usable

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def nothing_left_entered() -> Iterator[None]:
    token = entered.set(None)
    yield
    found = entered.get()
    entered.reset(token)
    assert found is None


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    gc.collect()
    with nothing_left_open():
        loop = Loop(usable(request.param), make_current=True)
        yield loop
        loop.close()
        IOLoop.clear_current()
        gc.collect()


class Loop(IOLoop):
    """Keeps what nobody handled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.unhandled: list[BaseException] = []
        super().__init__(*args, **kwargs)
        self.set_exception_handler(lambda _, context: self.unhandled.append(context["exception"]))

    def handle_callback_exception(self, callback: Callable[..., Any] | None) -> None:
        try:
            raise  # what is being handled
        except Exception as error:
            self.unhandled.append(error)


class Trace:
    """Contexts by name: which are entered now, and all that happened."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.events: list[str] = []

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        self.now.append(name)
        self.events.append(f"+{name}")
        try:
            yield
        finally:
            assert self.now.pop() == name
            self.events.append(f"-{name}")

    def context(self, name: str) -> StackContext:
        return StackContext(partial(self._named, name))

    def handler(self, name: str, result: object = True) -> ExceptionStackContext:
        def handle(kind: type[BaseException], error: BaseException, traceback: object) -> object:
            assert kind is type(error)
            assert traceback is not None
            self.events.append(f"{name} {error}")
            return result

        return ExceptionStackContext(handle)

    def note(self, *args: object, **kwargs: object) -> None:
        self.events.append("".join(self.now) or "none")


@pytest.fixture
def trace() -> Trace:
    return Trace()


def fail(text: str = "x") -> None:
    raise ValueError(text)


# By themselves


def test_wrap_without_contexts_is_the_function_itself() -> None:
    assert wrap(fail) is fail
    assert wrap(None) is None


def test_wrapping_twice_is_wrapping_once(trace: Trace) -> None:
    with trace.context("a"):
        function = wrap(trace.note)
        assert wrap(function) is function
        assert wrap(None) is None
    with trace.context("b"):
        for wrapped in (function, partial(function), partial(partial(function), 1)):
            assert wrap(wrapped) is wrapped
    trace.events.clear()
    function()
    assert trace.events == ["+a", "a", "-a"]


def test_contexts_are_entered_anew_for_each_call_outermost_first(trace: Trace) -> None:
    with trace.context("a"), trace.context("b"):
        function = wrap(trace.note)
    assert trace.events == ["+a", "+b", "-b", "-a"]
    for _ in range(2):
        trace.events.clear()
        function()
        assert trace.events == ["+a", "+b", "ab", "-b", "-a"]


def test_arguments_and_result() -> None:
    with NullContext():
        assert wrap(dict)([("a", 1)], b=2) == {"a": 1, "b": 2}


def test_repr_names_the_function() -> None:
    with StackContext(nullcontext):
        assert "fail" in repr(wrap(fail))


def test_exception_goes_to_the_nearest_handler(trace: Trace) -> None:
    with trace.handler("outer"), trace.handler("inner"), trace.context("a"):
        function = wrap(fail)
    trace.events.clear()
    assert function("boom") is None
    assert trace.events == ["+a", "-a", "inner boom"]


def test_exception_goes_outward_until_it_is_handled(trace: Trace) -> None:
    with trace.handler("outermost"), trace.handler("outer"), trace.context("a"), trace.handler("inner", False):
        function = wrap(fail)
    trace.events.clear()
    function("boom")
    assert trace.events == ["+a", "inner boom", "-a", "outer boom"]


def test_exception_that_nobody_handles(trace: Trace) -> None:
    with trace.handler("only", None):
        function = wrap(fail)
    with pytest.raises(ValueError, match="boom"):
        function("boom")
    assert trace.events == ["only boom"]


def test_handler_that_raises(trace: Trace) -> None:
    """Its exception goes outward in the place of the one it did not handle."""
    with trace.handler("outer"), ExceptionStackContext(lambda *_: fail("worse")):
        function = wrap(fail)
    function("bad")
    assert trace.events == ["outer worse"]


def test_exception_in_the_block_itself(trace: Trace) -> None:
    with trace.handler("outer"):
        with trace.handler("inner", False):
            fail("boom")
        pytest.fail("went on")
    assert trace.events == ["inner boom", "outer boom"]


def test_context_manager_may_handle_what_is_raised(trace: Trace) -> None:
    @contextmanager
    def suppress() -> Iterator[None]:
        try:
            yield
        except ValueError:
            trace.events.append("suppressed")

    with StackContext(suppress):
        function = wrap(fail)
    assert function() is None
    assert trace.events == ["suppressed"]


@pytest.mark.parametrize("kind", ["factory", "enter"])
def test_context_that_cannot_be_entered(trace: Trace, kind: str) -> None:
    """In a block nothing has happened; around a function the exception goes outward, and the function is not called."""
    broken = False

    @contextmanager
    def manager() -> Iterator[None]:
        if broken:
            fail("broken")
        yield

    def factory() -> Any:
        if broken and kind == "factory":
            fail("broken")
        return manager()

    with trace.handler("outer"), trace.context("a"), StackContext(factory):
        function = wrap(trace.note)
    broken = True
    trace.events.clear()
    function()
    assert trace.events == ["+a", "-a", "outer broken"]
    with pytest.raises(ValueError, match="broken"), StackContext(factory):
        pytest.fail("entered")


def test_null_context_drops_all(trace: Trace) -> None:
    with trace.context("a"):
        with NullContext(), NullContext():
            outside = wrap(trace.note)
            with trace.context("b"):
                inside = wrap(trace.note)
        again = wrap(trace.note)
    for function, expected in (
        (outside, ["none"]),
        (inside, ["+b", "b", "-b"]),
        (again, ["+a", "a", "-a"]),
    ):
        trace.events.clear()
        function()
        assert trace.events == expected


@pytest.mark.parametrize("dropped", [True, False])
def test_callers_contexts_are_not_passed_on(trace: Trace, dropped: bool) -> None:
    """A wrapped function that happens to run in another's context: what it schedules has its own."""

    def schedule() -> None:
        assert trace.now == (["c"] if dropped else ["c", "a"])
        later.append(wrap(trace.note))

    later: list[Callable[[], None]] = []
    with NullContext() if dropped else trace.context("a"):
        function = wrap(schedule)
    with trace.context("c"):
        function()
        assert entered.get() is not None
        assert len(entered.get() or ()) == 1
    trace.events.clear()
    later[0]()
    assert trace.events == (["none"] if dropped else ["+a", "a", "-a"])


def test_deactivated_context_is_skipped(trace: Trace) -> None:
    with trace.context("a"), trace.context("b") as deactivate, trace.context("c"):
        before = wrap(trace.note)
        deactivate()
        after = wrap(trace.note)
    for function in (before, after):
        trace.events.clear()
        function()
        assert trace.events == ["+a", "+c", "ac", "-c", "-a"]


def test_deactivated_handler_is_skipped(trace: Trace) -> None:
    with trace.handler("outer"), trace.handler("inner") as deactivate:
        function = wrap(fail)
    deactivate()
    function()
    assert trace.events == ["outer x"]


def test_deactivated_contexts_are_let_go(trace: Trace) -> None:
    """A function that enters a context and schedules itself in it, as long-lived loops of callbacks do."""
    kept: list[weakref.ref[StackContext]] = []

    def step() -> None:
        while deactivates:
            deactivates.pop()()
        context = trace.context("s")
        kept.append(weakref.ref(context))
        with context as deactivate:
            deactivates.append(deactivate)
            following.append(wrap(step))

    deactivates: list[Callable[[], None]] = []
    following: list[Callable[[], None]] = []
    with trace.context("a"):
        following.append(wrap(step))
    for _ in range(50):
        trace.events.clear()
        following.pop()()
        assert len(trace.events) <= 6
    assert len([context for context in kept if context() is not None]) <= 2
    following.clear()
    deactivates.clear()
    gc.collect()
    assert [context for context in kept if context() is not None] == []


def test_no_context_is_kept_by_its_block() -> None:
    """Nor is garbage left that only the collector finds."""
    gc.collect()
    gc.disable()
    try:
        context = StackContext(nullcontext)
        gone = weakref.ref(context)
        with context:
            wrap(fail)
        del context
        assert gone() is None
    finally:
        gc.enable()


def test_context_may_be_entered_again(trace: Trace) -> None:
    context = trace.context("a")
    with context, context:
        function = wrap(trace.note)
    with context:
        pass
    trace.events.clear()
    function()
    assert trace.events == ["+a", "+a", "aa", "-a", "-a"]


def test_yield_in_a_block_is_found_out(trace: Trace) -> None:
    """A generator that enters a context and yields leaves it to whoever drives it."""

    def generator() -> Iterator[None]:
        with trace.context("g"):
            yield

    steps = generator()
    with pytest.raises(StackContextInconsistentError, match=r"yield.*run_with_stack_context"):
        with trace.context("a"):
            next(steps)
    assert entered.get() is None
    with pytest.raises(StackContextInconsistentError, match="yield"):
        next(steps)
    entered.set(None)  # whoever drives generators has to


def test_run_with_stack_context(trace: Trace) -> None:
    def function() -> str:
        trace.note()
        return "result"

    assert run_with_stack_context(trace.context("a"), function) == "result"
    assert trace.events == ["+a", "a", "-a"]
    assert run_with_stack_context(trace.handler("h"), fail) is None
    assert trace.events[-1] == "h x"


# Around what is scheduled

Schedule = Callable[[IOLoop, Callable[..., Any]], object]


def by_add_future(loop: IOLoop, callback: Callable[..., Any]) -> None:
    future = loop.create_future()
    loop.add_future(future, callback)
    loop.call_soon(future.set_result, None)


def by_concurrent_future(loop: IOLoop, callback: Callable[..., Any]) -> None:
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    loop.add_future(future, callback)
    future.set_result(None)


def by_executor(loop: IOLoop, callback: Callable[..., Any]) -> None:
    async def shut_down() -> None:
        await loop.shutdown_default_executor()

    def done(future: asyncio.Future[None]) -> None:
        loop.spawn_callback(shut_down)
        callback(future)

    loop.add_future(loop.run_in_executor(None, int), done)


def by_handler(loop: IOLoop, callback: Callable[..., Any]) -> None:
    pair = socket_pair()
    ours, peer = pair.__enter__()
    peer.send(b"x")

    def handler(fd: Any, events: int) -> None:
        loop.remove_handler(ours)
        pair.__exit__(None, None, None)
        callback(fd, events)

    loop.add_handler(ours, handler, READ)


def by_periodic_callback(loop: IOLoop, callback: Callable[..., Any]) -> None:
    def once() -> Any:
        beat.stop()
        return callback()

    beat = PeriodicCallback(once, 0.001)
    beat.start()


TORNADOS: dict[str, Schedule] = {
    "add_callback": lambda loop, callback: loop.add_callback(callback),
    "add_callback with arguments": lambda loop, callback: loop.add_callback(callback, 1, word=2),
    "add_timeout": lambda loop, callback: loop.add_timeout(loop.time(), callback, 1, word=2),
    "call_later": lambda loop, callback: loop.call_later(0.001, callback, 1, word=2),
    "call_at": lambda loop, callback: loop.call_at(loop.time(), callback),
    "add_future": by_add_future,
    "add_future of a thread": by_concurrent_future,
    "run_in_executor": by_executor,
    "add_handler": by_handler,
    "PeriodicCallback": by_periodic_callback,
}
DROPPING: dict[str, Schedule] = {
    "spawn_callback": lambda loop, callback: loop.spawn_callback(callback, 1, word=2),
    "add_callback_from_signal": lambda loop, callback: loop.add_callback_from_signal(callback, 1, word=2),
}


def run(loop: IOLoop, until: Callable[[], object]) -> None:
    """Turn the loop until `until()` is true."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            while not until():
                await asyncio.sleep(0)

    with NullContext():
        loop.run_until_complete(main())


@pytest.mark.parametrize("name", TORNADOS)
def test_scheduled_callback_runs_inside_the_contexts(loop: IOLoop, trace: Trace, name: str) -> None:
    """Once, and nothing stays entered after it."""
    with trace.context("a"), trace.context("b"):
        TORNADOS[name](loop, trace.note)
    trace.events.clear()
    run(loop, lambda: "-a" in trace.events)
    assert trace.events == ["+a", "+b", "ab", "-b", "-a"]


@pytest.mark.parametrize("name", [*TORNADOS, *DROPPING])
def test_scheduled_callback_without_contexts(loop: IOLoop, trace: Trace, name: str) -> None:
    seen: list[object] = []
    (TORNADOS | DROPPING)[name](loop, lambda *_, **__: seen.append(entered.get()))
    run(loop, lambda: seen)
    assert seen == [None]


@pytest.mark.parametrize("name", DROPPING)
def test_spawned_callback_runs_outside(loop: IOLoop, trace: Trace, name: str) -> None:
    with trace.context("a"):
        DROPPING[name](loop, trace.note)
    trace.events.clear()
    run(loop, lambda: trace.events)
    assert trace.events == ["none"]


@pytest.mark.parametrize("name", TORNADOS)
def test_exception_of_a_scheduled_callback_is_handled(loop: Loop, trace: Trace, name: str) -> None:
    with trace.handler("outer"), trace.handler("inner", False), trace.context("a"):
        TORNADOS[name](loop, lambda *_, **__: fail("boom"))
    trace.events.clear()
    run(loop, lambda: len(trace.events) >= 4)
    assert trace.events == ["+a", "-a", "inner boom", "outer boom"]
    assert loop.unhandled == []


@pytest.mark.parametrize("name", TORNADOS)
def test_exception_that_nobody_handles_reaches_the_loop_once(loop: Loop, trace: Trace, name: str) -> None:
    with trace.handler("only", False):
        TORNADOS[name](loop, lambda *_, **__: fail("boom"))
    run(loop, lambda: loop.unhandled)
    run(loop, lambda: True)
    assert trace.events == ["only boom"]
    assert [str(error) for error in loop.unhandled] == ["boom"]


@pytest.mark.parametrize("schedule", [lambda loop, f: f(), *TORNADOS.values()], ids=["at once", *TORNADOS])
def test_chain_of_callbacks_carries_the_contexts(loop: Loop, trace: Trace, schedule: Schedule) -> None:
    """What a callback schedules has the contexts of what scheduled the callback."""
    with trace.handler("handler"), trace.context("a"):
        schedule(loop, lambda *_, **__: loop.add_callback(loop.add_timeout, loop.time(), partial(fail, "late")))
    run(loop, lambda: "handler late" in trace.events)
    assert loop.unhandled == []


def test_asyncios_names_carry_the_contexts_and_do_not_enter_them(loop: Loop, trace: Trace) -> None:
    with trace.handler("handler"), trace.context("a"):
        loop.call_soon(trace.note)
        loop.call_soon(loop.add_callback, trace.note)
        loop.call_soon(wrap(trace.note))
    trace.events.clear()
    run(loop, lambda: trace.events.count("-a") == 2)
    assert trace.events == ["none", "+a", "a", "-a", "+a", "a", "-a"]


def test_call_later_with_a_context_of_asyncios_is_asyncios(loop: Loop, trace: Trace) -> None:
    with trace.context("a"):
        loop.call_later(0, trace.note, context=copy_context())
    trace.events.clear()
    run(loop, lambda: trace.events)
    assert trace.events == ["none"]


COROUTINES = {name: TORNADOS[name] for name in ("add_callback", "add_timeout", "PeriodicCallback")}


@pytest.mark.parametrize("name", COROUTINES)
def test_coroutine_callback_carries_the_contexts(loop: Loop, trace: Trace, name: str) -> None:
    """It runs in steps, outside; what it schedules runs inside."""

    async def callback(*_: object, **__: object) -> None:
        for _step in range(2):
            assert trace.now == []
            loop.add_callback(trace.note)
            await asyncio.sleep(0)

    with trace.handler("handler"), trace.context("a"):
        COROUTINES[name](loop, callback)
    trace.events.clear()
    run(loop, lambda: trace.events.count("a") == 2)
    assert loop.unhandled == []


@pytest.mark.parametrize("handled", [True, False])
@pytest.mark.parametrize("name", COROUTINES)
def test_exception_of_a_coroutine_callback(loop: Loop, trace: Trace, name: str, handled: bool) -> None:
    async def callback(*_: object, **__: object) -> None:
        await asyncio.sleep(0)
        fail("boom")

    with trace.handler("outer", handled), trace.context("a"):
        COROUTINES[name](loop, callback)
    run(loop, lambda: "outer boom" in trace.events)
    run(loop, lambda: True)
    assert [str(error) for error in loop.unhandled] == ([] if handled else ["boom"])
    assert trace.now == []


def test_block_around_await_in_a_task_is_consistent(loop: Loop, trace: Trace) -> None:
    """Each task has its own contexts, so that what another does meanwhile does not matter."""

    async def one(name: str) -> None:
        with StackContext(nullcontext) as deactivate, ExceptionStackContext(partial(handle, name)):
            await asyncio.sleep(0)
            loop.add_callback(fail)
            await asyncio.sleep(0)
            deactivate()

    def handle(name: str, *_: object) -> bool:
        seen.append(name)
        return True

    async def main() -> None:
        await asyncio.gather(one("a"), one("b"))

    seen: list[str] = []
    loop.run_sync(main, timeout=PATIENCE)
    run(loop, lambda: len(seen) == 2)
    assert sorted(seen) == ["a", "b"]
    assert loop.unhandled == []


def test_beat_goes_on_whatever_the_contexts_do(loop: Loop, trace: Trace) -> None:
    with trace.handler("handler"):
        beat = PeriodicCallback(fail, 0.001)
        beat.start()
    run(loop, lambda: len(trace.events) >= 3)
    beat.stop()
    assert set(trace.events) == {"handler x"}
    assert loop.unhandled == []


def test_signal_does_not_see_the_contexts_it_interrupts(loop: Loop, trace: Trace) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.add_callback_from_signal(trace.note))
    try:
        with trace.context("a"):
            signal.raise_signal(signal.SIGUSR1)
            assert entered.get()
    finally:
        signal.signal(signal.SIGUSR1, before)
    trace.events.clear()
    run(loop, lambda: trace.events)
    assert trace.events == ["none"]


def test_loops_own_report(loop: Loop, trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """Without a handler of one's own: logged once, naming the function."""
    plain = IOLoop(loop.backend, make_current=False)
    with trace.context("a"):
        plain.add_callback(fail, "boom")
        plain.add_callback(plain.stop)
    plain.start()
    plain.close()
    (record,) = [record for record in caplog.records if record.name == app_log.name]
    assert "fail" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "boom"
