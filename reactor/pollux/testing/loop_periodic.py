"""`PeriodicCallback`, and the loop on a clock that jumps: Pollux's own part of `LoopSuite`. Nothing here waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from pollux.backend import Backend
from pollux.periodic import PeriodicCallback
from pollux.testing.loop_fixtures import LoopFixtures, errors_of, finish, logged
from pollux.testing.virtual_clock import VirtualLoop


class LoopPeriodic(LoopFixtures):
    """Pollux's own."""

    @pytest.fixture
    def virtual(self, chosen: Backend) -> Iterator[VirtualLoop]:
        """A loop on virtual time, closed after the test."""
        loop = VirtualLoop(chosen)
        try:
            yield loop
        finally:
            loop.close()

    @staticmethod
    def run_for(loop: VirtualLoop, seconds: float) -> None:
        """Run until so many virtual seconds have passed."""
        loop.call_later(seconds, loop.stop)
        loop.start()

    def begin(self, loop: VirtualLoop, beat: PeriodicCallback) -> None:
        """Start a beat in `loop`, at its present time."""
        loop.run_sync(beat.start)

    @pytest.mark.parametrize("interval", [250, 250.0, timedelta(milliseconds=250)], ids=repr)
    def test_beats(self, virtual: VirtualLoop, interval: float | timedelta) -> None:
        """Milliseconds or a timedelta; the first beat after one interval; none after `stop`."""
        start, beats = virtual.time(), []
        beat = PeriodicCallback(lambda: beats.append(virtual.time() - start), interval)
        assert not beat.is_running()
        self.begin(virtual, beat)
        assert beat.is_running()
        assert beats == []
        self.run_for(virtual, 1.1)
        assert beats == pytest.approx([0.25, 0.5, 0.75, 1.0])
        beat.stop()
        assert not beat.is_running()
        self.run_for(virtual, 10)
        assert len(beats) == 4

    @pytest.mark.parametrize("interval", [0, -1, timedelta(0), timedelta(seconds=-1), float("nan")], ids=repr)
    def test_bad_interval(self, interval: float | timedelta) -> None:
        """Refused at once, where the mistake is."""
        with pytest.raises(ValueError, match="greater than 0 milliseconds"):
            PeriodicCallback(int, interval)

    def test_missed_beats_are_skipped(self, virtual: VirtualLoop) -> None:
        """The next one comes when it would have come anyway."""
        start, beats = virtual.time(), []

        def callback() -> None:
            beats.append(virtual.time() - start)
            if len(beats) == 2:
                virtual.clock.now += 3.5  # of this beat's length

        beat = PeriodicCallback(callback, 1000)
        self.begin(virtual, beat)
        self.run_for(virtual, 7.25)
        beat.stop()
        assert beats == pytest.approx([1, 2, 6, 7])

    def test_jitter(self, virtual: VirtualLoop) -> None:
        """Up to half of it either way, and not always the same."""
        beats: list[float] = []
        beat = PeriodicCallback(lambda: beats.append(virtual.time()), 1000, jitter=0.5)
        self.begin(virtual, beat)
        self.run_for(virtual, 100)
        beat.stop()
        gaps = [after - before for before, after in pairwise(beats)]
        assert min(gaps) >= 0.75 - 1e-9
        assert max(gaps) <= 1.25 + 1e-9
        assert len({round(gap, 6) for gap in gaps}) > 10

    def test_raising_callback_is_logged_and_called_again(
        self, virtual: VirtualLoop, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A function and a coroutine."""
        for error in (ValueError("plain"), KeyError("in a coroutine")):

            def plain(error: Exception = error) -> None:
                raise error

            async def coroutine(error: Exception = error) -> None:
                await asyncio.sleep(0.1)
                raise error

            beat = PeriodicCallback(plain if isinstance(error, ValueError) else coroutine, 1000)
            self.begin(virtual, beat)
            self.run_for(virtual, 3.5)
            beat.stop()
            assert logged(caplog) == [error] * 3

    def test_coroutine_is_awaited_before_the_next_beat(self, virtual: VirtualLoop) -> None:
        """Two never run at once, even if one takes longer than the interval."""
        running, most, ran = 0, 0, 0

        async def callback() -> None:
            nonlocal running, most, ran
            running += 1
            most = max(most, running)
            await asyncio.sleep(1.5)
            running -= 1
            ran += 1

        beat = PeriodicCallback(callback, 1000)
        self.begin(virtual, beat)
        self.run_for(virtual, 8.75)
        beat.stop()
        assert (most, ran) == (1, 4)  # at 1, 3, 5 and 7 seconds

    def test_stop_inside(self, virtual: VirtualLoop) -> None:
        """In a function, and in a coroutine after a wait."""
        beats: list[str] = []

        def plain() -> None:
            beats.append("plain")
            first.stop()

        async def coroutine() -> None:
            await asyncio.sleep(0.1)
            beats.append("coroutine")
            second.stop()

        first, second = PeriodicCallback(plain, 1000), PeriodicCallback(coroutine, 1000)
        self.begin(virtual, first)
        self.begin(virtual, second)
        self.run_for(virtual, 10)
        assert beats == ["plain", "coroutine"]

    def test_start_twice_is_once(self, virtual: VirtualLoop) -> None:
        """Also stopped and started again: by others, in its own callback, and while its coroutine waits."""
        beats: list[float] = []

        def plain() -> None:
            beats.append(virtual.time())
            beat.stop()
            beat.start()

        async def coroutine() -> None:
            beats.append(virtual.time())
            await asyncio.sleep(0.1)
            beat.stop()
            beat.start()
            await asyncio.sleep(0.1)

        for callback in (lambda: beats.append(virtual.time()), plain, coroutine):
            beats.clear()
            beat = PeriodicCallback(callback, 1000)
            self.begin(virtual, beat)
            self.begin(virtual, beat)
            beat.stop()
            self.begin(virtual, beat)
            self.run_for(virtual, 10)
            beat.stop()
            assert 8 <= len(beats) <= 10, f"{callback}: the beat doubled or died: {beats}"

    # The clock

    def test_thirty_days(self, virtual: VirtualLoop) -> None:
        """A timer beyond the longest wait of any poller comes, and comes at its time."""
        start, came = virtual.time(), []
        for days in (60, 30, 1):
            virtual.call_later(days * 86_400, lambda: came.append((virtual.time() - start) / 86_400))
        self.run_for(virtual, 61 * 86_400)
        assert came == pytest.approx([1, 30, 60])

    def test_clock_set_back(self, virtual: VirtualLoop) -> None:
        """Timers wait until it has caught up; callbacks do not mind."""
        ran: list[str] = []
        virtual.call_later(1, ran.append, "timer")
        virtual.clock.now -= 500
        virtual.add_callback(ran.append, "callback")
        self.run_for(virtual, 500)
        assert ran == ["callback"]
        self.run_for(virtual, 2)
        assert ran == ["callback", "timer"]

    def test_asyncio_follows_the_clock(self, virtual: VirtualLoop) -> None:
        """Timeouts and sleeps of an hour take no time."""

        async def main() -> list[Any]:
            async def slow() -> str:
                await asyncio.sleep(3600)
                return "slow"

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow(), 1800)
            return list(await asyncio.gather(slow(), asyncio.sleep(1, "fast")))

        with errors_of(virtual) as seen:
            task = virtual.create_task(main())
            assert virtual.run_until_complete(task) == ["slow", "fast"]
        assert seen == []
        finish(virtual, asyncio.sleep(1))
