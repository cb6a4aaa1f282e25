"""What a loop says of itself, and the watchdog that catches it blocked."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator

import pytest

from pollux import IOLoop, new_event_loop, registry
from pollux.watchdog import Watchdog

NAMES = [backend.name for backend in registry.backends() if registry.unusable(backend) is None]


@pytest.fixture(params=NAMES)
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    loop = new_event_loop(request.param)
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


def test_timeouts_and_times(loop: IOLoop) -> None:
    for _ in range(10):
        loop.call_later(0, int)
    _turn(loop, 64)
    statistics = loop.statistics()
    assert statistics.timeouts == 10
    assert statistics.timeout_time > 0
    assert min(statistics.callback_time, statistics.poll_time, statistics.event_time) >= 0


def test_a_callback_that_is_slow_again_and_again_is_named(loop: IOLoop) -> None:
    def slow() -> None:
        _block(0.006)

    for _ in range(4):
        loop.add_callback(slow)
        _turn(loop, 1)
    longest = loop.statistics().longest
    assert longest is not None
    assert longest.name.endswith("slow")
    assert longest.where == f"{__file__}:{slow.__code__.co_firstlineno}"
    assert longest.seconds >= 0.006


def test_a_slow_handler_and_a_slow_task_are_named(loop: IOLoop) -> None:
    near, far = socket.socketpair()
    far.send(b"x")

    def handler(sock: object, events: int) -> None:
        _block(0.006)

    async def coroutine() -> None:
        _block(0.02)

    loop.add_handler(near, handler, IOLoop.READ)
    _turn(loop, 4)
    longest = loop.statistics().longest
    assert longest is not None
    assert longest.name.endswith("handler")
    loop.remove_handler(near)
    loop.run_until_complete(coroutine())
    longest = loop.statistics().longest
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
    look = loop.busy_since_poll
    looks = 0

    def counted() -> tuple[int | None, int]:
        nonlocal looks
        looks += 1
        if looks == 6:  # a blocked loop is reported at the fourth at the latest
            loop.call_soon_threadsafe(loop.stop)
        return look()

    monkeypatch.setattr(loop, "busy_since_poll", counted)
    with Watchdog(loop, threshold=0.1) as watchdog:
        loop.start()
    assert watchdog.blocked == 0
    assert not caplog.text


@pytest.mark.parametrize("threshold", [0, 0.05])
def test_watchdog_refuses_a_threshold_that_would_call_a_busy_loop_blocked(loop: IOLoop, threshold: float) -> None:
    with pytest.raises(ValueError, match=r"at least 0\.1 seconds, got 0"):
        Watchdog(loop, threshold)


def test_the_four_steps_take_no_longer_than_all(loop: IOLoop) -> None:
    """Also of a loop whose callbacks are timed one by one."""
    left = 40

    def slow() -> None:
        nonlocal left
        left -= 1
        _block(0.006)
        if left:
            loop.call_later(0, slow)
        else:
            loop.stop()

    began = time.monotonic()
    loop.add_callback(slow)
    loop.start()
    took = time.monotonic() - began
    statistics = loop.statistics()
    assert statistics.timeout_time <= took
    samples = sum(times for _, times in statistics.lag)
    assert samples <= statistics.polls / 8


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
