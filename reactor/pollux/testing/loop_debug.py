"""asyncio's debug mode: a part of `LoopSuite`, true of asyncio."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

import pytest

from pollux.testing.loop_fixtures import LoopFixtures, errors_of, finish, start, turn
from pollux.testing.loop_handles import WAYS, run_all


async def coroutine() -> None:
    """Is not to be called by a loop."""


class LoopDebug(LoopFixtures):
    """asyncio's dialect."""

    def test_callbacks_are_checked(self, loop: Any) -> None:
        """A coroutine function or no callable at all, also if the loop has handles left from before."""
        for _ in range(100):
            for way in WAYS.values():
                way(loop, int)
                way(loop, int).cancel()
        run_all(loop)
        loop.set_debug(True)
        for _ in range(3):
            for way in WAYS.values():
                with pytest.raises(TypeError):
                    way(loop, coroutine)
                with pytest.raises(TypeError):
                    way(loop, "not callable")
                way(loop, int)
                way(loop, int).cancel()
            run_all(loop)

    def test_switched_on_by_a_callback(self, loop: Any) -> None:
        """From then on, also for what the same iteration leaves behind."""
        for _ in range(50):
            loop.call_soon(int)
        run_all(loop)
        loop.call_soon(loop.set_debug, True)
        for _ in range(50):
            loop.call_soon(int)
        run_all(loop)
        for _ in range(100):
            with pytest.raises(TypeError):
                loop.call_soon(coroutine)
        loop.set_debug(False)
        run_all(loop)

    def test_slow_callbacks_are_reported(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Slow is whatever takes 0 seconds or more, here: callback, timer, reader, task."""
        loop.set_debug(True)

        def a_callback() -> None:
            pass

        def a_timer() -> None:
            pass

        async def a_task() -> None:
            loop.stop()

        loop.call_soon(a_callback)
        loop.call_later(0, a_timer)
        loop.slow_callback_duration = 0.0
        task = loop.create_task(a_task())
        start(loop)
        loop.slow_callback_duration = 60.0
        assert task.done()
        slow = [record.getMessage() for record in caplog.records if "Executing" in record.getMessage()]
        for what in ("a_callback", "a_timer", "a_task"):
            assert any(what in line and "seconds" in line for line in slow), f"{what} is missing in {slow}"

    def test_fast_callbacks_are_not(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """Else nobody would read it."""
        loop.set_debug(True)
        loop.slow_callback_duration = 60.0
        loop.call_soon(int)
        run_all(loop)
        assert "Executing" not in caplog.text

    def test_calls_from_another_thread_are_detected(self, loop: Any) -> None:
        """The thread-safe ones are allowed."""
        loop.set_debug(True)
        errors: list[str] = []

        def elsewhere() -> None:
            for label, way in WAYS.items():
                try:
                    way(loop, int)
                except RuntimeError:
                    errors.append(label)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=elsewhere)
        loop.call_soon(thread.start)
        start(loop)
        thread.join()
        assert errors == ["call_soon", "call_later", "call_at"]

    def test_raising_callback_says_where_it_was_made(self, loop: Any) -> None:
        """The traceback ends at the caller's line, not in the loop."""
        loop.set_debug(True)
        with errors_of(loop) as seen:
            for label in ("call_soon", "call_soon_threadsafe"):
                seen.clear()
                getattr(loop, label)(lambda: 1 / 0)
                turn(loop)
                (context,) = seen
                last = context["source_traceback"][-1]
                assert last.filename == __file__, f"{label}: {last}"
            for label in ("call_later", "call_at"):
                seen.clear()
                getattr(loop, label)(0, lambda: 1 / 0)
                run_all(loop)
                (context,) = seen
                assert context["source_traceback"][-1].filename == __file__

    def test_kept_exception_keeps_no_handle(self, loop: Any) -> None:
        """Its traceback leads to the loop's frames. What a handle holds may be a task that is to be reported."""
        loop.set_debug(True)
        kept: list[Exception] = []

        def callback() -> None:
            try:
                int("no number")
            except ValueError as error:
                kept.append(error)

        for label, way in WAYS.items():
            handle = weakref.ref(way(loop, callback))
            run_all(loop)
            assert handle() is None, label
        assert len(kept) == len(WAYS)

    def test_tasks_run_and_errors_arrive(self, loop: Any) -> None:
        """Everything works as it does without."""
        loop.set_debug(True)

        async def main() -> int:
            await asyncio.sleep(0)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(asyncio.sleep(0.001, 5))
            timer = asyncio.get_running_loop().call_later(60, int)
            timer.cancel()
            return task.result()

        assert finish(loop, main()) == 5
