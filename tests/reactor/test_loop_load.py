"""The loop under load, on every backend: storms of wake-ups, a million timers, a clock that jumps."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pollux import IOLoop, new_event_loop
from tests.reactor.loops import BACKENDS, Counted, CountingWaker, usable


@pytest.fixture(params=list(BACKENDS))
def counted(request: pytest.FixtureRequest) -> Counted:
    return Counted(usable(request.param))


@pytest.fixture
def loop(counted: Counted) -> Iterator[IOLoop]:
    loop = IOLoop(counted.backend, make_current=False)
    yield loop
    loop.close()


@pytest.mark.parametrize("method", ["add_callback", "call_soon_threadsafe"])
def test_wake_up_storm(loop: IOLoop, counted: Counted, method: str) -> None:
    """100,000 callbacks from 8 threads: none is lost, each thread's stay in order, and only a loop that sleeps is
    written to, by each thread once at most.
    """
    threads, each = 8, 12_500
    loop._csock = waker = CountingWaker(loop._csock)
    add = getattr(loop, method)
    ran: list[list[int]] = [[] for _ in range(threads)]
    left = threads
    sleeps = 0

    def falls_asleep() -> None:
        nonlocal sleeps
        sleeps += 1

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def storm(number: int) -> None:
        for index in range(each):
            add(ran[number].append, index)
        add(ended)

    counted.poller.falls_asleep = falls_asleep
    workers = [threading.Thread(target=storm, args=(number,)) for number in range(threads)]
    for worker in workers:
        loop.call_soon(worker.start)
    loop.start()
    for worker in workers:
        worker.join()
    assert ran == [list(range(each))] * threads
    assert waker.writes <= threads * sleeps


def test_a_million_cancelled_timers() -> None:
    """They leave the heap as they come, though their time is far. (The heap knows no poller: one will do.)"""
    loop = new_event_loop()
    rounds, batch = 100, 10_000
    live = loop.call_later(3600, pytest.fail, "not due")
    pending = [live]
    most = 0

    def once() -> None:
        nonlocal pending, most, rounds
        for timer in pending[1:]:
            timer.cancel()
        most = max(most, loop.statistics().timers)
        rounds -= 1
        if rounds:
            pending = [live, *(loop.call_later(3600 + rounds, pytest.fail, "was cancelled") for _ in range(batch))]
            loop.call_soon(once)
        else:
            loop.stop()

    loop.call_soon(once)
    loop.start()
    assert most <= 3 * batch
    loop.call_later(3600, pytest.fail, "not due")
    loop.call_soon(loop.stop)
    loop.start()
    assert loop.statistics().timers == 2
    loop.close()


class JumpingLoop(IOLoop):
    """Its clock goes as it is set."""

    now = 1000.0

    def time(self) -> float:
        """See `IOLoop.time`."""
        return self.now


@pytest.fixture(params=list(BACKENDS))
def jumping(request: pytest.FixtureRequest) -> Iterator[JumpingLoop]:
    loop = JumpingLoop(usable(request.param), make_current=False)
    yield loop
    loop.close()


def test_clock_jumps_ahead(jumping: JumpingLoop) -> None:
    """A machine that slept: all that has come due runs, in the order of the deadlines, and once."""
    ran: list[int] = []
    for number in (5, 1, 4, 2, 3):
        jumping.call_later(number * 60, ran.append, number)
    jumping.call_later(7200, pytest.fail, "not due yet")
    jumping.now += 3600
    jumping.call_later(0, jumping.stop)
    jumping.start()
    assert ran == [1, 2, 3, 4, 5]


def test_clock_jumps_back(jumping: JumpingLoop) -> None:
    """Timers wait until it has caught up; descriptors and callbacks are served meanwhile."""
    ran: list[str] = []
    near, far = socket.socketpair()
    far.send(b"x")
    jumping.call_later(10, ran.append, "timer")
    jumping.now -= 500

    def handler(sock: object, events: int) -> None:
        ran.append("event")
        jumping.add_callback(ran.append, "callback")
        jumping.remove_handler(near)
        jumping.now += 600
        jumping.call_later(0, jumping.stop)

    jumping.add_handler(near, handler, IOLoop.READ)
    jumping.start()
    assert ran == ["event", "callback", "timer"]
    near.close()
    far.close()
