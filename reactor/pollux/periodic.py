"""`PeriodicCallback`: call something again and again."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import math
import random
from collections.abc import Awaitable, Callable
from contextvars import copy_context

from pollux.ioloop import IOLoop
from pollux.stack_context import wrap


class PeriodicCallback:
    """Call `callback` every `callback_time`.

    If the callback runs longer than that, the beats it missed are skipped, and the next one comes at the time it
    would have come anyway. A callback that raises is logged and called again at the next beat; an awaitable it
    returns is awaited before the next beat is set.

    :param callback: takes no arguments.
    :param callback_time: milliseconds, or a timedelta; greater than 0.
    :param jitter: 0 to 1: each beat moves at random by up to half this part of `callback_time` either way, so that
        many processes started at once do not beat in step.
    :param io_loop: where to beat (up to Tornado 4, also in the place of `jitter`); None means the loop that is current
        when it is started.
    :raises ValueError: `callback_time` is not positive.
    """

    def __init__(
        self,
        callback: Callable[[], Awaitable[object] | object],
        callback_time: float | datetime.timedelta,
        jitter: float | IOLoop = 0,
        io_loop: IOLoop | None = None,
    ) -> None:
        self.callback = callback
        if isinstance(jitter, IOLoop):
            io_loop, jitter = jitter, 0
        if isinstance(callback_time, datetime.timedelta):
            callback_time = callback_time / datetime.timedelta(milliseconds=1)
        if not callback_time > 0:
            raise ValueError(
                f"PeriodicCallback needs a callback_time greater than 0 milliseconds, got {callback_time!r}"
            )
        self.callback_time = callback_time
        self.jitter = jitter
        self._given_loop = io_loop
        self._running = False
        self._timeout: asyncio.TimerHandle | None = None
        self._next = 0.0

    def start(self) -> None:
        """Start the beat: the first call comes after one `callback_time`. On one that runs, nothing happens."""
        if self._running:
            return
        self._running = True
        self.io_loop = self._given_loop or IOLoop.current()
        self._next = self.io_loop.time()
        self._schedule()

    def stop(self) -> None:
        """Stop the beat. A call that is under way finishes."""
        self._running = False
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def is_running(self) -> bool:
        """Return whether `start` was called and `stop` was not since."""
        return self._running

    def _schedule(self) -> None:
        # The timeout is set already if the callback stopped and started this. The loop is closed if it was closed while
        # a coroutine waited, which is then dropped.
        if self._running and self._timeout is None and not self.io_loop.is_closed():
            self._next = self._next_beat(self.io_loop.time())
            # With a context: it is the callback that goes through the stack contexts, not what keeps the beat.
            self._timeout = self.io_loop.call_at(self._next, self._run, context=copy_context())

    def _next_beat(self, now: float) -> float:
        """Return when to call next: a whole number of intervals after the last beat, and after `now`."""
        beat = self.callback_time / 1000
        if self.jitter:
            beat *= 1 + self.jitter * (random.random() - 0.5)  # noqa: S311  # no secret
        if self._next > now:  # the clock was set back, or the timer came early: never twice for one beat
            return self._next + beat
        return self._next + math.floor((now - self._next) / beat) * beat + beat

    def _run(self) -> None:
        if not self._running:
            return
        self._timeout = None
        try:
            result = wrap(self.callback)()
        except (Exception, asyncio.CancelledError):  # the latter by the result of a future, say
            self.io_loop.handle_callback_exception(self.callback)
        else:
            if inspect.isawaitable(result):
                self.io_loop.start_task(self._finish(result))
                return
        self._schedule()

    async def _finish(self, result: Awaitable[object]) -> None:
        try:
            await result
        except Exception as error:
            self.io_loop.callback_failed(self.callback, error)
        finally:
            self._schedule()
