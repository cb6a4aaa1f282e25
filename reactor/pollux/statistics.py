"""What a loop can say of itself, always, at next to no cost.

Reading the clock costs as much as a short callback, and adding up half a dozen numbers as much as a short request's
share of a poll. So counts are kept in local variables and taken over now and then, and the steps are timed between
every 16th poll and the next, and the sums scaled. From that follow the times of the four steps, and the lag: how long
the loop was busy between two polls, which is how long a ready descriptor or a due timeout had to wait.

Which callback was the longest can only be known by timing each. The loop does so for `SUSPICIOUS` polls after a busy
time above `SUSPICION`, and in debug mode: one that is slow again and again is found, one that is slow once is the
business of `pollux.watchdog`, which catches it in the act.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import frexp
from typing import Any

SUSPICION = 0.005  # seconds: a handler that takes this long is felt by all connections
SUSPICIOUS = 64  # polls

SAMPLE_MASK = 15  # every 16th poll is a sample
_SCALE = SAMPLE_MASK + 1
_BUCKETS = 64


@dataclass(frozen=True, slots=True)
class LongestCallback:
    """The longest callback that was timed.

    :ivar seconds: how long it ran.
    :ivar name: its qualified name.
    :ivar where: "file:line" of its definition, "" for one that is not written in Python.
    """

    seconds: float
    name: str
    where: str


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """A snapshot of a loop. Counts and times are since the loop was made.

    Counts are as of the last sample, a few polls ago. Times are in seconds, estimated from samples.

    :ivar iterations: rounds through the four steps.
    :ivar polls: those of them that asked the kernel.
    :ivar callbacks: run in step 1.
    :ivar timeouts: run in step 2.
    :ivar events: handed to handlers in step 4.
    :ivar callback_time: in step 1 (and the loop's own doings).
    :ivar timeout_time: in step 2.
    :ivar poll_time: in step 3, waiting for the most part.
    :ivar event_time: in step 4.
    :ivar ready: callbacks that wait now.
    :ivar timers: timeouts that are set now, cancelled ones that are not cleared away yet included.
    :ivar fds: descriptors that are watched now, the loop's own among them.
    :ivar lag: for how long the loop was busy between two polls, of those that were sampled: pairs (less than so many
        seconds, how often), ascending.
    :ivar longest: the longest callback that was timed, None if none was.
    """

    iterations: int
    polls: int
    callbacks: int
    timeouts: int
    events: int
    callback_time: float
    timeout_time: float
    poll_time: float
    event_time: float
    ready: int
    timers: int
    fds: int
    lag: tuple[tuple[float, int], ...]
    longest: LongestCallback | None


class Tally:
    """What the loop counts into."""

    __slots__ = (
        "callbacks", "event_time", "events", "iterations", "lag", "longest", "poll_time", "polls", "suspicious",
        "timeout_time", "timeouts", "work_time",
    )  # fmt: skip

    def __init__(self) -> None:
        self.iterations = self.polls = self.callbacks = self.timeouts = self.events = 0
        self.work_time = self.timeout_time = self.poll_time = self.event_time = 0.0
        self.lag = [0] * _BUCKETS  # by the binary exponent of the seconds; negative ones count from the end
        self.suspicious = 0  # polls for which callbacks are still to be timed one by one
        self.longest: LongestCallback | None = None

    def count(self, polls: int, iterations: int, callbacks: int, events: int) -> None:
        """Take over what the loop has counted: all polls so far, the others since the last time."""
        self.polls = polls
        self.iterations += iterations
        self.callbacks += callbacks
        self.events += events

    def sample(self, event_time: float, work_time: float, poll_time: float, busy: float) -> None:
        """Add the times from one poll to the next."""
        self.event_time += event_time * _SCALE
        self.work_time += work_time * _SCALE
        self.poll_time += poll_time * _SCALE
        self.lag[frexp(busy)[1] if busy > 0 else -_BUCKETS // 2] += 1

    def is_suspicious(self, busy: float) -> bool:
        """Return whether callbacks are to be timed until the next poll, after a busy time of so many seconds."""
        if busy > SUSPICION:
            self.suspicious = SUSPICIOUS
        elif self.suspicious:
            self.suspicious -= 1
        return self.suspicious > 0

    def ran(self, callback: Callable[..., Any], seconds: float) -> None:
        """Note how long a callback took."""
        if self.longest is None or seconds > self.longest.seconds:
            self.longest = LongestCallback(seconds, *_origin(callback))

    def snapshot(self, ready: int, timers: int, fds: int) -> LoopStatistics:
        """Return what was counted."""
        half = _BUCKETS // 2
        lag = tuple([(2.0**power, self.lag[power]) for power in range(-half, half) if self.lag[power]])
        return LoopStatistics(
            iterations=self.iterations,
            polls=self.polls,
            callbacks=self.callbacks,
            timeouts=self.timeouts,
            events=self.events,
            callback_time=max(0.0, self.work_time - self.timeout_time),  # an estimate less an exact sum
            timeout_time=self.timeout_time,
            poll_time=self.poll_time,
            event_time=self.event_time,
            ready=ready,
            timers=timers,
            fds=fds,
            lag=lag,
            longest=self.longest,
        )


def _origin(callback: Callable[..., Any]) -> tuple[str, str]:
    """Return the name of what a callback runs, and where that is defined: a task's coroutine, a partial's function."""
    inner: Any = callback
    while isinstance(inner, partial):
        inner = inner.func
    owner = getattr(inner, "__self__", None)
    if isinstance(owner, asyncio.Task):  # a step of one
        inner = owner.get_coro()
    code = getattr(getattr(inner, "__func__", inner), "__code__", None) or getattr(inner, "cr_code", None)
    name = getattr(inner, "__qualname__", None) or repr(inner)
    return name, f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, types.CodeType) else ""
