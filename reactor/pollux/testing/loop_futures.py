"""`run_sync` and `add_future`: Pollux's own part of `LoopSuite`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import pytest

from pollux.ioloop import IOLoop
from pollux.testing.loop_fixtures import LoopFixtures, start


class LoopFutures(LoopFixtures):
    """Pollux's own."""

    # run_sync

    def test_run_sync(self, loop: IOLoop) -> None:
        """The result of a function, of a coroutine, of a future."""

        async def coroutine() -> str:
            await asyncio.sleep(0)
            return "awaited"

        assert loop.run_sync(lambda: "plain") == "plain"
        assert loop.run_sync(coroutine) == "awaited"
        assert loop.run_sync(lambda: loop.run_in_executor(None, lambda: "executed"), timeout=60) == "executed"
        loop.run_sync(loop.shutdown_default_executor)

    def test_run_sync_raises_what_the_function_raises(self, loop: IOLoop) -> None:
        """Synchronously or not."""

        async def coroutine() -> None:
            await asyncio.sleep(0)
            raise KeyError("late")

        with pytest.raises(ZeroDivisionError):
            loop.run_sync(lambda: 1 / 0)
        with pytest.raises(KeyError, match="late"):
            loop.run_sync(coroutine, timeout=60)

    def test_run_sync_timeout(self, loop: IOLoop) -> None:
        """`TimeoutError`, and the coroutine has been cancelled, with time to clean up."""
        cleaned: list[str] = []

        async def coroutine() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                cleaned.append("up")
                raise

        with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
            loop.run_sync(coroutine, timeout=0.01)
        assert cleaned == ["up"]

    def test_run_sync_cancelled_from_inside(self, loop: IOLoop) -> None:
        """That is no timeout."""

        async def coroutine() -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            loop.run_sync(coroutine, timeout=60)

    # Futures

    def test_add_future(self, loop: IOLoop) -> None:
        """asyncio's, concurrent.futures', a coroutine; finished before or after; the callback gets the future."""
        got: list[Any] = []

        def callback(future: Any) -> None:
            got.append(future.result())
            if len(got) == 5:
                loop.stop()

        async def coroutine() -> str:
            return "coroutine"

        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            done = loop.create_future()
            done.set_result("done")
            finished: concurrent.futures.Future[str] = concurrent.futures.Future()
            finished.set_result("concurrent, done")
            pending = loop.create_future()
            loop.add_future(done, callback)
            loop.add_future(finished, callback)
            loop.add_future(pending, callback)
            loop.add_future(coroutine(), callback)
            loop.add_callback(lambda: loop.add_future(executor.submit(lambda: "concurrent"), callback))
            loop.call_later(0.001, pending.set_result, "pending")
            start(loop)
        assert sorted(got) == ["concurrent", "concurrent, done", "coroutine", "done", "pending"]
