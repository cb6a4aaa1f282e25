"""The four steps, starting, stopping, and errors: Pollux's own part of `LoopSuite`.

Tornado's names; where Tornado's own loop differs in detail (its errors, values that are no awaitables) ours is stated.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pollux.backend import Backend
from pollux.ioloop import IOLoop
from pollux.testing.descriptors import PATIENCE, alarm, socket_pair
from pollux.testing.loop_callbacks import lost
from pollux.testing.loop_fixtures import LoopFixtures, start, turn


class LoopLife(LoopFixtures):
    """Pollux's own."""

    # The four steps

    def test_four_steps(self, loop: IOLoop) -> None:
        """Callbacks, due timeouts, poll, events; what they add to an earlier step waits for the next iteration."""
        steps: list[str] = []
        with socket_pair() as (ours, peer):
            peer.send(b"x")

            def handler(fd: Any, events: int) -> None:
                steps.append("event")
                loop.remove_handler(fd)
                loop.add_callback(steps.append, "callback of the event")
                loop.add_callback(loop.stop)

            def callback() -> None:
                steps.append("callback")
                loop.add_callback(steps.append, "callback of the callback")
                loop.add_timeout(loop.time() - 1, steps.append, "timeout of the callback")

            loop.add_handler(ours, handler, loop.READ)
            loop.add_timeout(loop.time() - 2, steps.append, "timeout")
            loop.add_callback(callback)
            start(loop)
        assert steps == [
            "callback",
            "timeout",
            "timeout of the callback",
            "event",
            "callback of the callback",
            "callback of the event",
        ]

    def test_order_is_that_of_the_deadlines(self, loop: IOLoop) -> None:
        """Whatever the order they were set in."""
        numbers = [number * 37 % 500 for number in range(500)]
        base = loop.time() - 1000
        ran: list[int] = []
        for number in numbers:
            loop.add_timeout(base + number, ran.append, number)
        turn(loop)
        assert ran == sorted(numbers)

    def test_equal_deadlines_run_in_the_order_they_were_set(self, loop: IOLoop) -> None:
        """The heap is stable."""
        ran: list[int] = []
        when = loop.time() - 1
        for number in range(300):
            loop.call_at(when, ran.append, number)
        turn(loop)
        assert ran == list(range(300))

    def test_a_timeout_is_never_early(self, loop: IOLoop) -> None:
        """By the loop's own clock."""
        late: list[float] = []
        for number in range(100):
            when = loop.time() + number / 3000
            loop.call_at(when, lambda when=when: late.append(loop.time() - when))
        loop.call_later(0.05, loop.stop)
        start(loop)
        assert len(late) == 100
        assert min(late) >= 0

    # Start and stop

    def test_stop_before_start_runs_one_iteration(self, loop: IOLoop) -> None:
        """And does not wait in it, however far the next timeout."""
        ran: list[str] = []
        loop.add_callback(ran.append, "present")
        timeout = loop.call_later(3600, pytest.fail, "not due")
        loop.stop()
        loop.start()
        assert ran == ["present"]
        loop.remove_timeout(timeout)

    def test_start_twice(self, loop: IOLoop, make_loop: Callable[[], IOLoop]) -> None:
        """A loop in a loop is refused, its own and another's."""
        other = make_loop()

        def nested() -> None:
            for inner in (loop, other):
                with pytest.raises(RuntimeError, match="running"):
                    inner.start()
            loop.stop()

        loop.call_soon(nested)
        start(loop)
        other.close()

    def test_runs_again_after_stop(self, loop: IOLoop) -> None:
        """Many times."""
        for _ in range(3):
            loop.add_callback(loop.stop)
            start(loop)

    def test_stop_from_a_thread(self, loop: IOLoop) -> None:
        """By way of `add_callback`, the one method that may be called there."""
        thread = threading.Thread(target=loop.add_callback, args=(loop.stop,))
        loop.add_callback(thread.start)
        start(loop)
        thread.join()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupts_end_the_loop(self, loop: IOLoop, error: type[BaseException]) -> None:
        """From a callback, a timeout and a handler; the loop can be started again."""

        def interrupt(*_args: object) -> None:
            raise error

        with socket_pair() as (ours, _):
            for arrange in (
                lambda: loop.add_callback(interrupt),
                lambda: loop.call_soon(interrupt),
                lambda: loop.call_later(0, interrupt),
                lambda: loop.add_timeout(loop.time(), interrupt),
                lambda: loop.add_handler(ours, interrupt, loop.WRITE),
            ):
                arrange()
                with pytest.raises(error):
                    start(loop)
                assert not loop.is_running()
            loop.remove_handler(ours)
            loop.add_callback(loop.stop)
            start(loop)

    def test_many_signals_lose_no_callback(self, loop: IOLoop) -> None:
        """Each arrives at another point of the iteration, also just before the wait, where only a wake-up fd helps."""
        rounds = 300
        turns = threading.Semaphore(1)
        left = [rounds]
        main = threading.get_ident()

        def callback() -> None:
            left[0] -= 1
            turns.release()
            if not left[0]:
                loop.stop()

        def send() -> None:
            for _ in range(rounds):
                if not turns.acquire(timeout=PATIENCE):
                    return
                # To the loop's thread: given to another one, the kernel would not interrupt the loop's wait.
                signal.pthread_kill(main, signal.SIGUSR1)

        with alarm(PATIENCE, lost):  # also skips outside the main thread
            previous = signal.signal(signal.SIGUSR1, lambda _number, _frame: loop.add_callback_from_signal(callback))
            thread = threading.Thread(target=send)
            try:
                loop.add_callback(thread.start)
                loop.start()
            finally:
                thread.join()
                signal.signal(signal.SIGUSR1, previous)
        assert left == [0]

    # Errors

    def test_handle_callback_exception_can_be_overridden(self, chosen: Backend) -> None:
        """It gets the callback, and finds the exception being handled."""
        import sys

        seen: list[tuple[Any, BaseException | None]] = []

        class Loop(IOLoop):
            def handle_callback_exception(self, callback: Callable[..., Any] | None) -> None:
                seen.append((callback, sys.exception()))
                self.stop()

        def callback() -> None:
            raise error

        async def coroutine() -> None:
            raise error

        def handler(fd: Any, events: int) -> None:
            loop.remove_handler(fd)
            raise error

        def future_done(future: Any) -> None:
            raise error

        error = ValueError("mine")
        loop = Loop(chosen)
        with socket_pair() as (ours, _):
            future = loop.create_future()
            future.set_result(None)
            for arrange, culprit in (
                (lambda: loop.add_callback(callback), callback),
                (lambda: loop.add_callback(coroutine), coroutine),
                (lambda: loop.add_timeout(loop.time(), callback), callback),
                (lambda: loop.add_handler(ours, handler, loop.WRITE), handler),
                (lambda: loop.add_future(future, future_done), future_done),
            ):
                seen.clear()
                arrange()
                start(loop)
                assert seen == [(culprit, error)]
        loop.close()

    def test_errors_of_descriptors(self, loop: IOLoop) -> None:
        """Unknown, closed, owned by somebody else: each is refused and the loop lives."""
        with socket_pair() as (ours, peer):
            with pytest.raises(KeyError):
                loop.update_handler(ours, loop.READ)
            loop.add_handler(ours, lambda fd, events: loop.stop(), loop.READ)
            with pytest.raises(ValueError, match="handler"):
                loop.add_reader(ours, print)
            with pytest.raises(ValueError, match="handler"):
                loop.add_writer(ours, print)
            with socket_pair() as (closed, _):
                closed.close()
                with pytest.raises((ValueError, OSError)):
                    loop.add_handler(closed, print, loop.READ)
            peer.send(b"x")
            start(loop)
            loop.remove_handler(ours)
            loop.add_reader(peer, print)
            with pytest.raises(ValueError, match="handler"):
                loop.add_handler(peer, print, loop.READ)
            loop.remove_reader(peer)

    def test_split_fd(self, loop: IOLoop) -> None:
        """The number, and what was given."""
        with socket_pair() as (ours, _):
            assert loop.split_fd(7) == (7, 7)
            assert loop.split_fd(ours) == (ours.fileno(), ours)
