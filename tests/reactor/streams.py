"""What the tests of streams share: a loop on each backend, tests that are coroutines, pairs of streams."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from pollux import IOLoop
from pollux.iostream import BaseIOStream, IOStream, StreamClosedError
from pollux.testing.descriptors import nothing_left_open, socket_pair, tcp_pair
from tests.reactor.loops import usable

PATIENCE = 20.0  # seconds: only turns a hang into a failure


def backend_loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    """A loop on the backend of `request`; fails if a descriptor is left. To be made a fixture with `params`."""
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(request.param), make_current=True)
        yield loop
        loop.close()
        IOLoop.clear_current()
        gc.collect()


def run(loop: IOLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, but not for ever."""
    loop.run_sync(lambda: main, timeout=PATIENCE)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine that takes the fixture `loop`."""

    @functools.wraps(test)
    def tested(loop: IOLoop, **kwargs: Any) -> None:
        loop.run_sync(functools.partial(test, loop, **kwargs), timeout=PATIENCE)
        leftover = asyncio.all_tasks(loop)
        assert not leftover

    return tested


@contextlib.contextmanager
def stream_pair(tcp: bool = False, **options: Any) -> Iterator[tuple[IOStream, IOStream]]:
    """Two connected streams; `options` are those of the first."""
    with tcp_pair() if tcp else socket_pair() as (ours, peer):
        streams = IOStream(ours, **options), IOStream(peer)
        try:
            yield streams
        finally:
            for stream in streams:
                stream.close()


async def closing(stream: BaseIOStream) -> None:
    """Wait until `stream` is closed."""
    closed = asyncio.Event()
    stream.set_close_callback(closed.set)
    if not stream.closed():
        await closed.wait()


async def real_error(awaitable: Any) -> BaseException | None:
    """Await what fails because the stream closes, and return why."""
    with pytest.raises(StreamClosedError) as error:
        await awaitable
    return error.value.real_error


async def turns(count: int = 5) -> None:
    """Let the loop poll `count` times: for what must *not* happen."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        polled = loop.create_future()
        loop.call_later(0.001, polled.set_result, None)
        await polled
