"""Callback or awaitable: every operation answers through the one or is the other.

Nothing happens until the awaitable is awaited (or yielded in a coroutine of `pollux.gen`); with a callback it begins at
once. The callback is called in the loop as `callback(response, error)`, one of the two None, inside the stack contexts
of the caller; what it raises goes to them, and else to the loop's `handle_callback_exception`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from pollux_mongo.errors import PoolError

if TYPE_CHECKING:
    from pollux_mongo.pool import ConnectionPool

Callback = Callable[[Any, Any], Any]  # (response, error)


def answer(pool: ConnectionPool, work: Coroutine[Any, Any, Any], callback: Any) -> Any:
    """Return `work`; or, with a callback, begin it and return None.

    :raises TypeError: the callback cannot be called.
    """
    if callback is not None and not callable(callback):
        work.close()
        raise TypeError(f"callback is called as callback(response, error), got {callback!r}")
    if pool.opening is not None:
        work = pool.opened_first(work)
    if callback is None:
        return work
    pool.io_loop.add_future(begin(pool, work), partial(_tell, callback))
    return None


def begin(pool: ConnectionPool, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run `work` in a task that the pool keeps alive, and cancels when it is closed."""
    task = pool.io_loop.create_task(work)
    pool.tasks.add(task)
    task.add_done_callback(pool.tasks.discard)
    return task


def _tell(callback: Callback, done: asyncio.Task[Any]) -> Any:
    if done.cancelled():
        return callback(None, PoolError("the pool was closed before there was an answer"))
    error = done.exception()
    return callback(None, error) if error is not None else callback(done.result(), None)
