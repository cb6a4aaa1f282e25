"""Callbacks in Tornado's dialect: order, threads, signals, errors. A part of `LoopSuite`, true of Tornado too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

import pytest

from pollux.testing.descriptors import PATIENCE, alarm, socket_pair
from pollux.testing.loop_fixtures import LoopFixtures, logged, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")


class LoopCallbacks(LoopFixtures):
    """Tornado's dialect."""

    # Order

    def test_callbacks_run_in_the_order_they_were_added(self, loop: Any) -> None:
        """First in, first out."""
        ran: list[int] = []
        for number in range(1000):
            loop.add_callback(ran.append, number)
        loop.add_callback(loop.stop)
        start(loop)
        assert ran == list(range(1000))

    def test_only_callbacks_present_at_the_start_of_an_iteration_run_in_it(self, loop: Any) -> None:
        """One added by another waits for the next; `stop` ends the loop after the iteration."""
        ran: list[str] = []

        def first() -> None:
            ran.append("first")
            loop.add_callback(ran.append, "added by the first")
            loop.stop()

        loop.add_callback(first)
        loop.add_callback(ran.append, "second")
        start(loop)
        assert ran == ["first", "second"]
        turn(loop)
        assert ran == ["first", "second", "added by the first"]

    def test_endless_callbacks_starve_neither_descriptors_nor_timeouts(self, loop: Any) -> None:
        """A callback that adds itself again and again: iterations go on, each with its poll and its timeouts."""
        happened: set[str] = set()

        def again() -> None:
            if happened == {"event", "timeout"}:
                loop.stop()
            else:
                loop.add_callback(again)

        with socket_pair() as (ours, peer):

            def handler(fd: Any, events: int) -> None:
                happened.add("event")
                loop.remove_handler(fd)

            loop.add_handler(ours, handler, loop.READ)
            loop.call_later(0.001, happened.add, "timeout")
            peer.send(b"x")
            loop.add_callback(again)
            start(loop)

    # What a callback may be

    def test_arguments(self, loop: Any) -> None:
        """Positional and by keyword, also those whose names the loop uses itself."""
        got: list[Any] = []

        def callback(*args: Any, **kwargs: Any) -> None:
            got.append((args, kwargs))

        loop.add_callback(callback, 1, 2, context="mine", args=3)
        loop.spawn_callback(callback, 4, when=5)
        loop.add_callback(loop.stop)
        start(loop)
        assert got == [((1, 2), {"context": "mine", "args": 3}), ((4,), {"when": 5})]

    def test_coroutine_is_run(self, loop: Any) -> None:
        """What a callback returns is run if it is awaitable; anything else is ignored."""

        async def callback(value: int) -> None:
            ran.append(value)
            loop.stop()

        ran: list[int] = []
        loop.add_callback(lambda: "not awaitable")
        loop.add_callback(lambda: [callback])
        loop.add_callback(callback, 7)
        start(loop)
        assert ran == [7]

    def test_raising_callback_is_logged_and_the_loop_lives(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A function, a coroutine, a timeout."""
        errors = [ValueError("in a callback"), KeyError("in a coroutine"), OSError("in a timeout")]

        def callback() -> None:
            raise errors[0]

        async def coroutine() -> None:
            loop.add_callback(loop.add_callback, loop.stop)
            raise errors[1]

        def timeout() -> None:
            loop.add_callback(coroutine)
            raise errors[2]

        loop.add_callback(callback)
        loop.add_timeout(loop.time(), timeout)
        start(loop)
        found = logged(caplog)
        assert len(found) == 3
        assert {id(error) for error in found} == {id(error) for error in errors}

    def test_contextvars_travel_with_callbacks(self, loop: Any) -> None:
        """Each runs in a copy of the context of the moment it was added."""
        got: dict[str, str] = {}

        def note(how: str) -> None:
            got[how] = name.get()
            name.set("spilled")

        def add_all() -> None:
            name.set("somebody")
            loop.add_callback(note, "add_callback")
            loop.spawn_callback(note, "spawn_callback")
            loop.add_timeout(loop.time(), note, "add_timeout")
            loop.call_later(0, note, "call_later")
            loop.call_at(loop.time(), note, "call_at")
            loop.call_later(0.001, loop.stop)

        loop.add_callback(add_all)
        start(loop)
        hows = ["add_callback", "add_timeout", "call_at", "call_later", "spawn_callback"]
        assert got == dict.fromkeys(hows, "somebody")
        assert name.get() == "nobody"

    # Threads and signals

    def test_add_callback_from_threads_loses_none(self, loop: Any) -> None:
        """Eight threads at once; each thread's callbacks stay in order."""
        threads, each = 8, 2000
        ran: list[tuple[int, int]] = []

        def callback(thread: int, number: int) -> None:
            ran.append((thread, number))
            if len(ran) == threads * each:
                loop.stop()

        def add(thread: int) -> None:
            for number in range(each):
                loop.add_callback(callback, thread, number)

        workers = [threading.Thread(target=add, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            loop.add_callback(worker.start)
        try:
            start(loop)
        finally:
            for worker in workers:
                worker.join()
        for thread in range(threads):
            assert [number for other, number in ran if other == thread] == list(range(each))

    def test_add_callback_wakes_a_sleeping_loop(self, loop: Any) -> None:
        """Again and again, so that it is also caught just before it falls asleep. No timer helps it wake."""
        rounds = 500
        turns = threading.Semaphore(0)
        left = [rounds]

        def callback() -> None:
            left[0] -= 1
            if left[0]:
                turns.release()
            else:
                loop.stop()

        def other() -> None:
            for _ in range(rounds - 1):
                if not turns.acquire(timeout=PATIENCE):
                    return
                loop.add_callback(callback)

        thread = threading.Thread(target=other)
        thread.start()
        try:
            with alarm(PATIENCE, lost):
                loop.add_callback(callback)
                loop.start()
        finally:
            thread.join()
        assert left == [0]

    @pytest.mark.filterwarnings("ignore:add_callback_from_signal is deprecated:DeprecationWarning")
    def test_signal_handler_adds_a_callback_and_wakes_the_loop(self, loop: Any) -> None:
        """The interval timer rings while the loop sleeps, with nothing else to wake it."""
        with alarm(0.02, lambda _number, _frame: loop.add_callback_from_signal(loop.stop)):
            loop.start()

    # The end

    def test_add_callback_after_close_is_ignored(self, make_loop: Callable[[], Any]) -> None:
        """Another thread cannot know when a loop is closed."""
        loop = make_loop()
        loop.close()
        loop.add_callback(pytest.fail, "ran on a closed loop")


def lost(_number: int, _frame: FrameType | None) -> None:
    """Is the handler of the alarm that turns a hang into a failure."""
    raise TimeoutError(f"a callback was added {PATIENCE} s ago and the loop still sleeps: the wake-up was lost")
