"""What a loop says of itself, and the watchdog that catches it blocked."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pollux import IOLoop, new_event_loop, registry
from pollux.statistics import LET_PASS, SUSPICIOUS
from pollux.watchdog import Watchdog

NAMES = [backend.name for backend in registry.backends() if registry.unusable(backend) is None]


@pytest.fixture(params=NAMES)
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    loop = new_event_loop(request.param)
    yield loop
    loop.close()


class ClockedLoop(IOLoop):
    """Its time passes in callbacks, and only as they say."""

    now = 1.0

    def time(self) -> float:
        """See `IOLoop.time`."""
        return self.now


@pytest.fixture(params=NAMES)
def clocked(request: pytest.FixtureRequest) -> Iterator[ClockedLoop]:
    loop = ClockedLoop(request.param, make_current=False)
    yield loop
    loop.close()


def _turn(loop: IOLoop, times: int) -> None:
    """Run iterations that poll."""
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def _block(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_a_new_loop_has_done_nothing(loop: IOLoop) -> None:
    statistics = loop.statistics()
    assert (statistics.iterations, statistics.callbacks, statistics.timeouts, statistics.events) == (0, 0, 0, 0)
    assert statistics.longest is None
    assert statistics.lag == ()
    assert statistics.fds == 1  # the loop's own: what wakes it
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.polls = 1  # type: ignore[misc]


def test_counts(loop: IOLoop) -> None:
    near, far = socket.socketpair()
    far.send(b"x")
    loop.add_handler(near, lambda sock, events: None, IOLoop.READ)
    done = 0

    def again() -> None:
        nonlocal done
        done += 1
        if done < 5000:
            loop.add_callback(again)
        else:
            loop.stop()

    loop.add_callback(again)
    loop.start()
    statistics = loop.statistics()
    assert statistics.callbacks == 5000
    assert statistics.iterations >= statistics.polls > 0
    assert 0 < statistics.events <= statistics.polls
    assert statistics.fds == 2
    assert sum(times for _, times in statistics.lag) > 0
    assert [bound for bound, _ in statistics.lag] == sorted(bound for bound, _ in statistics.lag)
    loop.remove_handler(near)
    near.close()
    far.close()


def test_what_waits(loop: IOLoop) -> None:
    timer = loop.call_later(1000, int)
    loop.call_later(1000, int)
    loop.add_callback(int)
    statistics = loop.statistics()
    assert (statistics.ready, statistics.timers) == (1, 2)
    timer.cancel()
    _turn(loop, 1)
    assert loop.statistics().timers == 1


def test_timeouts_are_counted(loop: IOLoop) -> None:
    for _ in range(10):
        loop.call_later(0, int)
    _turn(loop, 64)
    assert loop.statistics().timeouts == 10


def test_a_callback_that_is_slow_again_and_again_is_named(clocked: ClockedLoop) -> None:
    def slow() -> None:
        clocked.now += 0.006

    for _ in range(4):
        clocked.add_callback(slow)
        _turn(clocked, 1)
    longest = clocked.statistics().longest
    assert longest is not None
    assert longest.name.endswith("slow")
    assert longest.where == f"{__file__}:{slow.__code__.co_firstlineno}"
    assert longest.seconds == pytest.approx(0.006)


def test_one_that_is_slow_now_and_then_is_named(clocked: ClockedLoop) -> None:
    """In a loop without timers, which need not look at the clock before a poll, and does not until it has a reason."""
    near, far = socket.socketpair()
    far.send(b"x")
    calls = 0

    def handler(sock: object, events: int) -> None:
        nonlocal calls
        calls += 1
        clocked.now += 0.0001 if calls % 30 else 0.007
        if calls == 1000:
            clocked.stop()

    clocked.add_handler(near, handler, IOLoop.READ)
    clocked.start()
    longest = clocked.statistics().longest
    assert longest is not None
    assert longest.name.endswith("handler")
    assert longest.seconds == pytest.approx(0.007)
    clocked.remove_handler(near)
    near.close()
    far.close()


def test_busy_times_without_a_slow_callback_are_looked_into_ever_less(clocked: ClockedLoop) -> None:
    """Many callbacks at once, or a process that others keep from running: nobody is to blame."""
    looks: list[int] = []

    def quick() -> None:
        clocked.now += 0.001

    def slow() -> None:
        clocked.now += 0.02

    for _ in range(8):
        for _ in range(8):
            for _ in range(10):
                clocked.add_callback(quick)
            _turn(clocked, 2 * SUSPICIOUS)  # to the end of the suspicion
        looks.append(clocked._tally.let_pass)
    assert looks == sorted(looks)
    assert looks[-1] == LET_PASS
    for _ in range(2 * LET_PASS):
        clocked.add_callback(slow)
        _turn(clocked, 2)
    assert clocked._tally.let_pass == 0, "it is found all the same, and from then on every one is looked into"


def test_a_slow_handler_and_a_slow_task_are_named(clocked: ClockedLoop) -> None:
    near, far = socket.socketpair()
    far.send(b"x")

    def handler(sock: object, events: int) -> None:
        clocked.now += 0.006

    async def coroutine() -> None:
        clocked.now += 0.02

    clocked.add_handler(near, handler, IOLoop.READ)
    _turn(clocked, 4)
    longest = clocked.statistics().longest
    assert longest is not None
    assert longest.name.endswith("handler")
    clocked.remove_handler(near)
    clocked.run_until_complete(coroutine())
    longest = clocked.statistics().longest
    assert longest is not None
    assert longest.name.endswith("coroutine")
    near.close()
    far.close()


def test_watchdog_logs_the_stack_of_what_blocks(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with Watchdog(loop, threshold=0.1) as watchdog:

        def blocks_until_caught() -> None:
            while not watchdog.blocked or "it is here" not in caplog.text:
                _block(0.001)

        loop.add_callback(blocks_until_caught)
        loop.add_callback(loop.stop)
        loop.start()
    assert watchdog.blocked == 1
    assert "in blocks_until_caught" in caplog.text


def test_watchdog_says_when_it_is_over_and_reports_anew(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with Watchdog(loop, threshold=0.1) as watchdog:
        for times in (1, 2):

            def blocks_until_caught(times: int = times) -> None:
                while watchdog.blocked < times:
                    _block(0.001)

            loop.add_callback(blocks_until_caught)
            _turn(loop, 1)
            while caplog.text.count("is running again") < times:
                _turn(loop, 1)
    assert watchdog.blocked == 2


def test_watchdog_lets_an_idle_loop_sleep(
    loop: IOLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = loop.busy_since
    looks = 0

    def counted() -> tuple[int | None, float]:
        nonlocal looks
        looks += 1
        if looks == 6:  # a blocked loop is reported at the fourth at the latest
            loop.call_soon_threadsafe(loop.stop)
        return look()

    monkeypatch.setattr(loop, "busy_since", counted)
    with Watchdog(loop, threshold=0.1) as watchdog:
        loop.start()
    assert watchdog.blocked == 0
    assert not caplog.text


@pytest.mark.parametrize("threshold", [0, -1.0, float("nan")])
def test_watchdog_refuses_a_threshold_that_is_none(loop: IOLoop, threshold: float) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds, got"):
        Watchdog(loop, threshold)


def test_each_poll_can_be_seen_from_another_thread(loop: IOLoop) -> None:
    """Else a loop that polls rarely, and is found awake by chance each time, would be called blocked."""
    near, far = socket.socketpair()
    far.send(b"x")
    seen: list[tuple[int | None, float]] = []

    def handler(sock: object, events: int) -> None:
        seen.append(loop.busy_since())
        if len(seen) == 40:
            loop.stop()

    loop.add_handler(near, handler, IOLoop.READ)
    loop.start()
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    assert len({polled for _, polled in seen}) == 40
    assert loop.busy_since()[0] is None
    loop.remove_handler(near)
    near.close()
    far.close()


def test_watchdog_takes_no_loop_that_polls_for_a_blocked_one(
    loop: IOLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks each time while a short callback runs, and never while the loop sleeps."""
    look, running, looked = loop.busy_since, threading.Event(), threading.Event()

    def in_a_callback() -> tuple[int | None, float]:
        assert running.wait(10)
        running.clear()
        result = look()
        looked.set()
        return result

    monkeypatch.setattr(loop, "busy_since", in_a_callback)
    near, far = socket.socketpair()
    far.send(b"x")
    left = 10

    def handler(sock: object, events: int) -> None:
        nonlocal left
        looked.clear()
        running.set()
        assert looked.wait(10)
        left -= 1
        if not left:
            loop.stop()

    loop.add_handler(near, handler, IOLoop.READ)
    with Watchdog(loop, threshold=0.002) as watchdog:
        loop.start()
        running.set()
    loop.remove_handler(near)
    near.close()
    far.close()
    assert watchdog.blocked == 0
    assert not caplog.text


@pytest.mark.parametrize("length", [0.0001, 0.006], ids=["short", "long"])
def test_the_four_steps_add_up(clocked: ClockedLoop, length: float) -> None:
    """Of each 6 parts of the time, 1 is a callback's, 2 are a timeout's and 3 a handler's. Long ones are timed one by
    one, all of them; of the short ones a few are, and stand for all.
    """
    near, far = socket.socketpair()
    far.send(b"x")
    began, left = clocked.now, 1000

    def callback() -> None:
        clocked.now += length

    def timeout() -> None:
        clocked.now += 2 * length

    def handler(sock: object, events: int) -> None:
        nonlocal left
        clocked.now += 3 * length
        clocked.add_callback(callback)
        clocked.call_later(0, timeout)
        left -= 1
        if not left:
            clocked.stop()

    clocked.add_handler(near, handler, IOLoop.READ)
    clocked.start()
    took = clocked.now - began
    statistics = clocked.statistics()
    assert statistics.event_time == pytest.approx(took / 2, rel=0.1)
    assert statistics.timeout_time == pytest.approx(took / 3, rel=0.1)
    assert statistics.callback_time == pytest.approx(took / 6, rel=0.1)
    assert statistics.poll_time == pytest.approx(0, abs=1e-6)
    assert sum(times for _, times in statistics.lag) == pytest.approx(statistics.polls, rel=0.1)
    assert {bound for bound, _ in statistics.lag} <= {2.0**power for power in range(-11, -3)}
    clocked.remove_handler(near)
    near.close()
    far.close()


def test_counts_of_a_loop_that_runs(clocked: ClockedLoop) -> None:
    """They are at most 5 ms old when it polls."""
    near, far = socket.socketpair()
    far.send(b"x")
    calls = 0
    behind: list[int] = []

    def handler(sock: object, events: int) -> None:
        nonlocal calls
        clocked.now += 0.001
        behind.append(calls - clocked.statistics().events)
        calls += 1
        if calls == 500:
            clocked.stop()

    clocked.add_handler(near, handler, IOLoop.READ)
    clocked.start()
    assert max(behind) <= 6
    assert clocked.statistics().events == 500
    clocked.remove_handler(near)
    near.close()
    far.close()


def test_callbacks_of_other_threads_do_not_fill_the_pool(loop: IOLoop) -> None:
    """Their handles are made anew, and must not be kept."""
    handles: list[object] = []
    for _ in range(200):
        for _ in range(20):
            loop.call_soon_threadsafe(int)
        _turn(loop, 1)
    handle = loop._free  # the only look inside: what is pooled shows nowhere else
    while handle is not None:
        handles.append(handle)
        handle = handle._callback
    assert len(handles) < 1000
