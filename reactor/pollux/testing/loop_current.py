"""Which loop is current, `configure`, closing: Pollux's own part of `LoopSuite`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from pollux.backend import Backend
from pollux.errors import BackendError
from pollux.ioloop import IOLoop
from pollux.testing.loop_fixtures import LoopFixtures, finish, start


class LoopCurrent(LoopFixtures):
    """Pollux's own."""

    # The current loop

    def test_new_loop_becomes_current_if_there_is_none(self, chosen: Backend) -> None:
        """Unless the caller decides."""
        apart = IOLoop(chosen, make_current=False)
        assert IOLoop.current(instance=False) is None
        first = IOLoop(chosen)
        second = IOLoop(chosen)
        assert IOLoop.current() is IOLoop.instance() is first
        third = IOLoop(chosen, make_current=True)
        assert IOLoop.current() is third
        for loop in (apart, first, second, third):
            loop.close()

    def test_current_makes_one(self, chosen: Backend) -> None:
        """Once for each thread, of the backend that `configure` says."""
        IOLoop.configure(chosen)
        assert not IOLoop.initialized()
        loop = IOLoop.current()
        assert IOLoop.initialized()
        assert loop.backend is chosen
        assert IOLoop.current() is loop
        others: list[tuple[bool, IOLoop]] = []

        def elsewhere() -> None:
            before = IOLoop.initialized()
            others.append((before, IOLoop.current()))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        ((before, other),) = others
        assert not before
        assert other is not loop
        for each in (loop, other):
            each.close()

    def test_the_running_loop_is_current(self, chosen: Backend) -> None:
        """Whatever the thread's current loop is otherwise; and asyncio agrees."""
        resting, running = IOLoop(chosen, make_current=True), IOLoop(chosen, make_current=False)

        def look() -> None:
            assert IOLoop.current() is running
            assert asyncio.get_running_loop() is running
            running.stop()

        running.call_soon(look)
        start(running)
        assert IOLoop.current() is resting
        resting.close()
        running.close()

    def test_make_current_and_clear_current(self, loop: IOLoop) -> None:
        """For Pollux and for asyncio."""
        loop.make_current()
        assert IOLoop.current() is loop
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
        IOLoop.clear_current()
        assert IOLoop.current(instance=False) is None

    def test_what_is_told_to_asyncio_is_current(self, chosen: Backend) -> None:
        """As Tornado's test kit does it; also if another of ours was made current before."""
        before, loop = IOLoop(chosen, make_current=True), IOLoop(chosen, make_current=False)
        asyncio.set_event_loop(loop.asyncio_loop)
        assert IOLoop.current() is loop
        asyncio.set_event_loop(None)
        assert IOLoop.current() is before
        foreign = asyncio.SelectorEventLoop()
        asyncio.set_event_loop(foreign)
        assert IOLoop.current() is before, "asyncio's own loop is not ours to use"
        foreign.close()
        loop.make_current()
        assert IOLoop.current() is loop
        before.close()
        loop.close()

    def test_closed_loop_is_nobodys_current(self, chosen: Backend) -> None:
        """A new one takes its place."""
        IOLoop.configure(chosen)
        first = IOLoop.current()
        first.close()
        assert not IOLoop.initialized()
        second = IOLoop.current()
        assert second is not first
        second.close()

    def test_foreign_running_loop_is_an_error(self) -> None:
        """asyncio's own loop runs: there is no current loop of ours, and the error says how to get one."""

        async def look() -> None:
            with pytest.raises(RuntimeError, match=r"pollux\.run"):
                IOLoop.current()

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(look())

    # configure

    def test_configure(self, chosen: Backend) -> None:
        """The poller of loops made from now on without an explicit one."""
        IOLoop.configure(chosen.name)
        loop = IOLoop(make_current=False)
        assert loop.backend.name == chosen.name
        loop.close()
        IOLoop.configure("no such backend")
        with pytest.raises(BackendError, match="no such backend"):
            IOLoop(make_current=False)
        explicit = IOLoop(chosen, make_current=False)
        assert explicit.backend is chosen
        explicit.close()

    # close

    def test_close_twice(self, make_loop: Callable[[], IOLoop]) -> None:
        """May be called again, with or without `all_fds`."""
        loop = make_loop()
        assert not loop.is_closed()
        loop.close(all_fds=True)
        loop.close()
        loop.close(all_fds=True)
        assert loop.is_closed()
        assert "closed" in repr(loop)

    def test_close_while_running(self, loop: IOLoop) -> None:
        """Refused, and nothing is lost by the attempt."""
        ran: list[str] = []

        async def main() -> None:
            loop.add_callback(ran.append, "callback")
            loop.call_later(0, ran.append, "timeout")
            for all_fds in (False, True):
                with pytest.raises(RuntimeError, match="running"):
                    loop.close(all_fds)
            await asyncio.sleep(0.001)

        finish(loop, main())
        assert sorted(ran) == ["callback", "timeout"]

    def test_closed_loop_refuses_work(self, make_loop: Callable[[], IOLoop]) -> None:
        """Save `add_callback`, which is ignored."""
        loop = make_loop()
        # A loop that has run keeps handles for reuse; they must not let anything in.
        for _ in range(10):
            loop.call_soon(int)
            loop.call_later(0, int)
        loop.call_soon(loop.stop)
        start(loop)
        loop.close()
        loop.add_callback(pytest.fail, "ran on a closed loop")
        calls: list[Callable[[], object]] = [
            lambda: loop.call_soon(int),
            lambda: loop.call_soon_threadsafe(int),
            lambda: loop.call_later(1, int),
            lambda: loop.call_at(1, int),
            lambda: loop.add_timeout(1, int),
            lambda: loop.add_reader(0, int),
            lambda: loop.add_writer(0, int),
            lambda: loop.run_in_executor(None, int),
            loop.start,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="closed"):
                call()
        with pytest.raises((RuntimeError, ValueError, OSError)):
            loop.add_handler(0, lambda fd, events: None, loop.READ)
