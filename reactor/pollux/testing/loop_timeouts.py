"""Timeouts in Tornado's dialect: a part of `LoopSuite`, and true of Tornado's loop."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta
from typing import Any

import pytest

from pollux.testing.loop_fixtures import LoopFixtures, start, turn


def timer_handles() -> int:
    """Count the timer handles that are alive in this process."""
    gc.collect()
    return sum(isinstance(thing, asyncio.TimerHandle) for thing in gc.get_objects())


class LoopTimeouts(LoopFixtures):
    """Tornado's dialect."""

    def test_deadlines(self, loop: Any) -> None:
        """A number is the loop's time, a timedelta counts from now; what is past or negative is due at once."""
        ran: list[str] = []
        loop.add_timeout(loop.time() + 0.02, ran.append, "number")
        loop.add_timeout(timedelta(milliseconds=10), ran.append, "timedelta")
        loop.add_timeout(timedelta(seconds=-1), ran.append, "negative")
        loop.add_timeout(loop.time() - 10, ran.append, "past")
        loop.add_timeout(loop.time() + 0.03, loop.stop)
        start(loop)
        assert sorted(ran[:2]) == ["negative", "past"]
        assert ran[2:] == ["timedelta", "number"]

    @pytest.mark.parametrize("deadline", [None, "soon", (1,)], ids=repr)
    def test_bad_deadline(self, loop: Any, deadline: object) -> None:
        """Refused at once, where the mistake is."""
        with pytest.raises(TypeError):
            loop.add_timeout(deadline, loop.stop)

    def test_missing_time(self, loop: Any) -> None:
        """None is what a forgotten `return` gives."""
        with pytest.raises(TypeError):
            loop.call_later(None, loop.stop)

    def test_keyword_arguments(self, loop: Any) -> None:
        """Of all three ways."""
        got: list[dict[str, int]] = []

        def callback(**kwargs: int) -> None:
            got.append(kwargs)

        loop.add_timeout(loop.time() - 3, callback, a=1)
        loop.call_at(loop.time() - 2, callback, b=2)
        loop.call_later(-1, callback, c=3)
        loop.call_later(0, loop.stop)
        start(loop)
        assert got == [{"a": 1}, {"b": 2}, {"c": 3}]

    def test_timeouts_do_not_overtake_callbacks(self, loop: Any) -> None:
        """What a callback queues before it sets a timeout runs before it."""
        ran: list[str] = []

        def callback() -> None:
            loop.add_callback(ran.append, "callback")
            loop.add_timeout(timedelta(0), ran.append, "timeout")
            loop.call_later(0.001, loop.stop)

        loop.add_callback(callback)
        start(loop)
        assert ran == ["callback", "timeout"]

    def test_coroutine_of_a_timeout_is_run(self, loop: Any) -> None:
        """As for `add_callback`."""

        async def callback() -> None:
            loop.stop()

        loop.add_timeout(loop.time(), callback)
        start(loop)

    def test_far_deadlines_overflow_nothing(self, loop: Any) -> None:
        """30 days is more than a C int of milliseconds; ten thousand years more than some clocks."""
        far = [loop.call_later(days * 86_400, pytest.fail, "too early") for days in (1, 30, 3_652_425)]
        far.append(loop.add_timeout(timedelta(days=30), pytest.fail, "too early"))
        far.append(loop.call_later(float("inf"), pytest.fail, "too early"))
        turn(loop)  # a wait for these alone would not end, so look first that it does not fail
        loop.call_later(0.01, loop.stop)
        start(loop)
        for timeout in far:
            loop.remove_timeout(timeout)

    # Removal

    def test_remove_before_it_is_due(self, loop: Any) -> None:
        """Twice does no harm."""
        timeout = loop.call_later(0.001, pytest.fail, "was removed")
        loop.call_later(0.01, loop.stop)
        loop.remove_timeout(timeout)
        loop.remove_timeout(timeout)
        start(loop)

    def test_remove_while_it_waits_in_the_heap(self, loop: Any) -> None:
        """The loop has slept on it meanwhile."""
        timeout = loop.call_later(0.02, pytest.fail, "was removed")
        loop.call_later(0.001, loop.remove_timeout, timeout)
        loop.call_later(0.03, loop.stop)
        start(loop)

    def test_remove_while_it_runs_and_after(self, loop: Any) -> None:
        """Neither does anything."""
        ran: list[str] = []

        def callback() -> None:
            loop.remove_timeout(timeout)
            ran.append("it")

        timeout = loop.call_later(0, callback)
        loop.call_later(0.001, loop.remove_timeout, timeout)
        loop.call_later(0.002, loop.stop)
        start(loop)
        loop.remove_timeout(timeout)
        assert ran == ["it"]

    def test_a_due_timeout_removes_another_due_one(self, loop: Any) -> None:
        """They become due together, and the first says no to the second."""
        now = loop.time()
        second: list[Any] = []
        loop.add_timeout(now - 2, lambda: loop.remove_timeout(second[0]))
        second.append(loop.add_timeout(now - 1, pytest.fail, "was removed"))
        loop.call_later(0, loop.stop)
        start(loop)

    def test_a_timeout_that_is_due_again_at_once_starves_nobody(self, loop: Any) -> None:
        """One set while timeouts run, waits for the next iteration, even with a deadline in the past."""
        count = [0]

        def again() -> None:
            count[0] += 1
            loop.add_timeout(loop.time() - 1, again)

        loop.add_timeout(loop.time(), again)
        loop.call_later(0.001, loop.add_callback, loop.stop)
        start(loop)
        assert count[0] >= 1

    # Memory

    def test_removed_timeouts_do_not_pile_up(self, loop: Any) -> None:
        """The usual life of a timeout is to be set, waited on for a while, and removed.

        The bound: removed ones are dropped when they outnumber both 100 and the live ones, so that what exists is at
        most twice the live ones, or the live ones and 100, and what this test itself adds in one iteration. (A pool of
        up to 256 may hold empty ones.)
        """
        live, batch = 300, 200
        before = timer_handles()
        kept = [loop.call_later(3600, pytest.fail, "not due") for _ in range(live)]
        pending: list[Any] = []
        most = 0
        for round_ in range(100):
            for timeout in pending:
                loop.remove_timeout(timeout)
            timeout = None
            pending = [loop.call_later(3600 + round_, pytest.fail, "was removed") for _ in range(batch)]
            turn(loop)
            if round_ % 10 == 9:
                most = max(most, timer_handles() - before)
        assert most <= 2 * (live + batch) + batch + 256, "100 rounds set and removed 20,000"
        for timeout in kept + pending:
            loop.remove_timeout(timeout)

    def test_removed_timeouts_let_go_of_their_callbacks(self, loop: Any) -> None:
        """At once, even if the deadline is far: the arguments are often connections."""

        class Connection:
            pass

        def alive() -> int:
            gc.collect()
            return sum(isinstance(thing, Connection) for thing in gc.get_objects())

        timeouts = [loop.call_later(3600, print, Connection()) for _ in range(10)]
        turn(loop)
        assert alive() == 10
        for timeout in timeouts:
            loop.remove_timeout(timeout)
        assert alive() == 0
