"""What the parts of `LoopSuite` have in common: fixtures that make loops, and ways to run one that cannot hang.

A part is written in one of the two dialects, or marked as Pollux's own. Those in a dialect touch nothing that
another loop of that dialect lacks: override `make_loop` and they run on asyncio's or Tornado's, the oracles.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest

from pollux import registry
from pollux.backend import Backend
from pollux.ioloop import IOLoop
from pollux.testing.descriptors import PATIENCE, nothing_left_open

T = TypeVar("T")


class LoopFixtures:
    """Fixtures; `backend` is a name in the registry."""

    backend: str = ""

    @pytest.fixture
    def backend_name(self) -> str:
        """The backend under test."""
        return self.backend

    @pytest.fixture
    def chosen(self, backend_name: str) -> Backend:
        """The backend under test. Skips with the backend's own reason where it is not usable."""
        known = {backend.name: backend for backend in registry.backends()}
        if backend_name not in known:
            pytest.fail(f"{type(self).__name__}.backend is {backend_name!r}, expected one of {', '.join(known)}")
        if reason := registry.unusable(known[backend_name]):
            pytest.skip(f"{backend_name}: {reason}")
        return known[backend_name]

    @pytest.fixture
    def make_loop(self, chosen: Backend) -> Callable[[], Any]:
        """What makes a loop."""
        return partial(IOLoop, chosen, make_current=False)

    @pytest.fixture(autouse=True)
    def no_leak(self) -> Iterator[None]:
        """Every test leaves as many descriptors open as it found. First of the fixtures, so it looks last."""
        with nothing_left_open():
            yield

    @pytest.fixture(autouse=True)
    def no_current_loop(self) -> Iterator[None]:
        """Each test begins and ends without a current loop or a configured backend."""
        IOLoop.clear_current()
        yield
        IOLoop.configure(None)
        IOLoop.clear_current()

    @pytest.fixture(autouse=True)
    def no_hidden_failure(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """A `pytest.fail` inside a callback is logged by the loop, as it should be; here it fails the test."""
        yield
        for record in caplog.get_records("call"):
            if record.exc_info and isinstance(record.exc_info[1], pytest.fail.Exception):
                raise record.exc_info[1]

    @pytest.fixture
    def loop(self, no_leak: None, make_loop: Callable[[], Any]) -> Iterator[Any]:
        """A new loop, closed after the test."""
        loop = make_loop()
        try:
            yield loop
        finally:
            loop.close()
            gc.collect()  # what a failed test left behind complains in that test, not in a later one


def run_forever(loop: Any) -> None:
    """Run until `stop`, in either dialect."""
    if hasattr(loop, "start"):
        loop.start()
    else:
        loop.run_forever()


def start(loop: Any) -> None:
    """Run until something calls `stop`; fail if nothing does within `PATIENCE`."""
    hung: list[bool] = []

    def give_up() -> None:
        hung.append(True)
        loop.stop()

    timeout = loop.call_later(PATIENCE, give_up)
    try:
        run_forever(loop)
    finally:
        getattr(loop, "remove_timeout", asyncio.TimerHandle.cancel)(timeout)
    if hung:
        pytest.fail(f"nothing stopped the loop within {PATIENCE} s: a callback, an event or a wake-up was lost")


def turn(loop: Any) -> None:
    """Run one iteration, of what is there already."""
    loop.stop()
    run_forever(loop)


def finish(loop: Any, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on an asyncio loop, but not longer than `PATIENCE`."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            return await main

    result: T = loop.run_until_complete(bounded())
    return result


@contextlib.contextmanager
def errors_of(loop: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect what reaches asyncio's exception handler."""
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    try:
        yield seen
    finally:
        loop.set_exception_handler(None)


def logged(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    """Return the exceptions that were logged as errors, and forget them."""
    found = [record.exc_info[1] for record in caplog.records if record.levelname == "ERROR" and record.exc_info]
    caplog.clear()
    return found
