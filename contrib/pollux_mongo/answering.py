"""Callback or awaitable: every operation answers through the one or is the other.

Nothing happens until the awaitable is awaited (or yielded in a coroutine of `pollux.gen`); with a callback it begins at
once. The callback is called in the loop as `callback(response, error)`, one of the two None, inside the stack contexts
of the caller; what it raises goes to them, and else to the loop's `handle_callback_exception`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pollux.ioloop import IOLoop

Callback = Callable[[Any, Any], Any]  # (response, error)


def answer(loop: IOLoop, work: Coroutine[Any, Any, Any], callback: Any) -> Any:
    """Return `work`; or, with a callback, begin it and return None.

    :raises TypeError: the callback cannot be called.
    """
    if callback is None:
        return work
    if not callable(callback):
        work.close()
        raise TypeError(f"callback is called as callback(response, error), got {callback!r}")
    loop.add_future(begin(loop, work), partial(_tell, callback))
    return None


def begin(loop: IOLoop, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run `work` in a task that the loop keeps alive."""
    task = loop.create_task(work)
    loop.hold(task)
    return task


def _tell(callback: Callback, done: asyncio.Task[Any]) -> Any:
    if done.cancelled():  # the loop is being closed: there is nobody left to tell
        return None
    error = done.exception()
    return callback(None, error) if error is not None else callback(done.result(), None)
