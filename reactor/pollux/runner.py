"""Ways to get a loop and to run one, in asyncio's dialect. Nothing here, or anywhere, builds on event-loop
policies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pollux.ioloop import IOLoop

if TYPE_CHECKING:
    from pollux.backend import Backend

T = TypeVar("T")


def new_event_loop(backend: str | Backend | None = None) -> IOLoop:
    """Make a loop; it does not become anybody's current one. Fits `asyncio.Runner(loop_factory=...)`.

    :param backend: see `IOLoop`.
    """
    return IOLoop(backend, make_current=False)


Loop = new_event_loop  # for those who want the factory under the name of a class


def run(main: Coroutine[Any, Any, T], *, backend: str | Backend | None = None, debug: bool | None = None) -> T:
    """Run a coroutine on a new loop and return its result: `asyncio.run` with a choice of poller."""
    with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
        return runner.run(main)
