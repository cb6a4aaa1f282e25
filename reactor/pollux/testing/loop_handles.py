"""`call_soon`, `call_later`, `call_at` and their handles in asyncio's dialect: a part of `LoopSuite`, true of asyncio.

A loop may use a handle again that nobody holds. What a kept handle does, and what a new one is, must not change by it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from pollux.testing.descriptors import PATIENCE
from pollux.testing.loop_fixtures import LoopFixtures, errors_of, logged, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")

# The three ways to have something called, as functions of the loop.
WAYS: dict[str, Callable[..., asyncio.Handle]] = {
    "call_soon": lambda loop, callback, *args, **kw: loop.call_soon(callback, *args, **kw),
    "call_soon_threadsafe": lambda loop, callback, *args, **kw: loop.call_soon_threadsafe(callback, *args, **kw),
    "call_later": lambda loop, callback, *args, **kw: loop.call_later(0, callback, *args, **kw),
    "call_at": lambda loop, callback, *args, **kw: loop.call_at(loop.time(), callback, *args, **kw),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def run_all(loop: Any) -> None:
    """Run until what is there, due timers included, has run."""
    loop.call_later(0.0005, loop.stop)
    start(loop)


class LoopHandles(LoopFixtures):
    """asyncio's dialect."""

    def test_handles_are_asyncios(self, loop: Any) -> None:
        """Programs test for the classes, and read `when()`."""
        handle, timer = loop.call_soon(int), loop.call_later(60, int)
        assert isinstance(handle, asyncio.Handle)
        assert isinstance(timer, asyncio.TimerHandle)
        at = loop.call_at(12.5, int)
        assert at.when() == 12.5
        assert timer.when() > loop.time() + 30
        assert "int" in repr(handle)
        for each in (handle, timer, at):
            each.cancel()

    def test_call_soon_is_first_in_first_out(self, loop: Any) -> None:
        """Also together with the thread-safe one."""
        ran: list[int] = []
        for number in range(0, 500, 2):
            loop.call_soon(ran.append, number)
            loop.call_soon_threadsafe(ran.append, number + 1)
        run_all(loop)
        assert ran == list(range(500))

    @every_way
    def test_context(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """A copy of the caller's, or the given one itself."""
        got: list[str] = []
        mine = copy_context()
        mine.run(name.set, "mine")

        def note() -> None:
            got.append(name.get())
            name.set("changed")

        copy_context().run(lambda: [name.set("caller"), way(loop, note)])
        run_all(loop)
        way(loop, note, context=mine)
        run_all(loop)
        assert got == ["caller", "mine"]
        assert mine[name] == "changed"
        assert name.get() == "nobody"

    @every_way
    def test_cancel(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """Before it runs; twice; and the arguments are let go at once."""
        handle = way(loop, pytest.fail, "was cancelled")
        assert not handle.cancelled()
        handle.cancel()
        handle.cancel()
        assert handle.cancelled()
        assert "cancelled" in repr(handle)
        run_all(loop)

    @every_way
    def test_cancel_by_an_earlier_one(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """In the same iteration."""
        handles: list[asyncio.Handle] = []
        way(loop, lambda: handles[0].cancel())
        handles.append(way(loop, pytest.fail, "was cancelled"))
        run_all(loop)

    @every_way
    def test_kept_handle_cancels_nobody_else(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """A handle that is held stays its callback's own for ever, however many come after it."""
        ran: list[int] = []
        kept = [way(loop, ran.append, -1) for _ in range(300)]
        run_all(loop)
        assert ran == [-1] * 300
        ran.clear()
        for number in range(600):
            way(loop, ran.append, number)
        for handle in kept:
            handle.cancel()
        run_all(loop)
        assert sorted(ran) == list(range(600))
        run_all(loop)
        new = [way(loop, ran.append, number) for number in range(600)]
        assert not {id(handle) for handle in new} & {id(handle) for handle in kept}

    @every_way
    def test_cancelled_and_dropped_handles_leave_no_trace(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """A new handle is never born cancelled, and can be cancelled."""
        for _ in range(3):
            for _ in range(50):
                way(loop, pytest.fail, "was cancelled").cancel()
            run_all(loop)
        new = [way(loop, pytest.fail, "was cancelled") for _ in range(100)]
        assert not any(handle.cancelled() for handle in new)
        for handle in new:
            handle.cancel()
        assert all(handle.cancelled() for handle in new)
        run_all(loop)

    @every_way
    def test_handle_cancelled_and_dropped_by_its_own_callback(
        self, loop: Any, way: Callable[..., asyncio.Handle]
    ) -> None:
        """As a protocol does that clears its timer when the timer fires."""
        handles: dict[int, asyncio.Handle] = {}
        for number in range(50):
            handles[number] = way(loop, lambda number: handles.pop(number).cancel(), number)
        run_all(loop)
        assert not handles
        new = [way(loop, pytest.fail, "was cancelled") for _ in range(100)]
        assert not any(handle.cancelled() for handle in new)
        for handle in new:
            handle.cancel()
        run_all(loop)

    @every_way
    def test_finished_handle_lets_go_of_its_arguments(self, loop: Any, way: Callable[..., asyncio.Handle]) -> None:
        """Nothing a callback got is kept alive by the loop."""
        import gc
        import weakref

        class Connection:
            pass

        connection = Connection()
        alive = weakref.ref(connection)
        way(loop, id, connection)
        del connection
        run_all(loop)
        gc.collect()
        assert alive() is None

    @every_way
    def test_raising_callback_reaches_the_exception_handler(
        self, loop: Any, way: Callable[..., asyncio.Handle]
    ) -> None:
        """With what is needed to find it, and the loop lives. The handle in the report stays what it is."""
        error = ValueError("mine")

        def callback() -> None:
            raise error

        with errors_of(loop) as seen:
            way(loop, callback)
            run_all(loop)
        (context,) = seen
        assert context["exception"] is error
        assert "callback" in context["message"]
        assert isinstance(context["handle"], asyncio.Handle)
        described = repr(context["handle"])
        for _ in range(20):
            way(loop, int)
        run_all(loop)
        assert repr(context["handle"]) == described

    def test_without_an_exception_handler_it_is_logged(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """asyncio's default."""
        error = ValueError("mine")

        def callback() -> None:
            raise error

        loop.call_soon(callback)
        run_all(loop)
        assert logged(caplog) == [error]

    def test_raising_exception_handler_does_no_harm(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """It is reported itself."""

        def handler(_loop: Any, context: dict[str, Any]) -> None:
            raise KeyError("in the handler")

        loop.set_exception_handler(handler)
        loop.call_soon(lambda: 1 / 0)
        run_all(loop)
        assert "in the handler" in caplog.text

    def test_call_soon_threadsafe_wakes_the_loop(self, loop: Any) -> None:
        """From another thread, many times, with no timer in the way."""
        rounds = 300
        turns = threading.Semaphore(1)
        ran: list[int] = []

        def callback(number: int) -> None:
            ran.append(number)
            if len(ran) == rounds:
                loop.stop()
            turns.release()

        def other() -> None:
            for number in range(rounds):
                assert turns.acquire(timeout=PATIENCE)
                loop.call_soon_threadsafe(callback, number)

        thread = threading.Thread(target=other)
        loop.call_soon(thread.start)
        start(loop)
        thread.join()
        assert ran == list(range(rounds))

    def test_closed_loop(self, make_loop: Callable[[], Any]) -> None:
        """Each way says so."""
        loop = make_loop()
        loop.call_soon(int)
        turn(loop)
        loop.close()
        for way in WAYS.values():
            with pytest.raises(RuntimeError, match="closed"):
                way(loop, int)

    def test_missing_time_of_a_timer(self, loop: Any) -> None:
        """None is no time."""
        with pytest.raises(TypeError):
            loop.call_later(None, int)
        with pytest.raises(TypeError):
            loop.call_at(None, int)

    def test_timers_in_order(self, loop: Any) -> None:
        """By deadline, whatever the order they were set in."""
        ran: list[int] = []
        base = loop.time() - 1000
        for number in (number * 37 % 500 for number in range(500)):
            loop.call_at(base + number, ran.append, number)
        run_all(loop)
        assert ran == list(range(500))

    def test_timers_do_not_overtake_callbacks(self, loop: Any) -> None:
        """What was queued before a timer came due runs before it, be the timer new or old."""
        ran: list[str] = []
        due = late = 0.0

        def callback() -> None:
            nonlocal late
            late = loop.time() - due
            loop.call_soon(ran.append, "queued first")
            loop.call_later(0, ran.append, "new timer")
            while loop.time() <= due:  # the other timer comes due meanwhile
                pass
            loop.call_soon(ran.append, "queued last")

        for delay in (0.001, 0.01, 0.1, 1.0):
            run_all(loop)  # what an attempt before has left
            ran.clear()
            due = loop.time() + delay
            loop.call_soon(callback)
            loop.call_at(due, ran.append, "old timer")
            run_all(loop)
            if late < 0:  # else it came due before the callback ran, on a busy machine: that says nothing
                break
        assert ran[:2] == ["queued first", "queued last"]
        assert sorted(ran[2:]) == ["new timer", "old timer"]
