"""What a loop can say of itself, always, at next to no cost.

Reading the clock costs as much as a short callback, and adding up half a dozen numbers as much as a short request's
share of a poll. So counts are kept in local variables, and the loop looks at itself (`Tally.look`) only `PERIOD`
seconds after the last time, for which it compares a time that it has anyway. Every other look begins a sample, which
the next poll ends: the steps are timed in between, and the sample stands for all polls since the one before. A poll
that ends a longer time than the period after the one before it is always looked at, and stands for itself; so what is
long is exact, and only what is short is estimated. From that follow the times of the four steps, and the lag: how long
the loop was busy between two polls, which is how long a ready descriptor or a due timeout had to wait.

A loop that has no timers need not look at the clock before a poll, and then a long wait looks like a long callback. So
after one it looks, for the next `SUSPICIOUS` looks.

Which callback was the longest can only be known by timing each. The loop does so for `SUSPICIOUS` polls after a busy
time above `SUSPICION`, and in debug mode: one that is slow again and again is found, one that is slow once is the
business of `pollux.watchdog`, which catches it in the act. On a busy machine it is rarely a callback that took so long:
each time that none is found, twice as many busy times are let pass before the loop looks again, up to `LET_PASS`.
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
SUSPICIOUS = 64  # polls, or looks
LET_PASS = 63  # busy times without a callback to blame cost one in so many what timing callbacks costs
PERIOD = SUSPICION  # not longer: each busy time above SUSPICION has to be looked at
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

    Counts are as of the last poll, or one at most 5 ms before it. Times are in seconds; what is shorter than 5 ms is
    estimated from samples.

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
    :ivar lag: for how long the loop was busy between two polls: pairs (less than so many seconds, how often),
        ascending.
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
    """What the loop counts into, and what it asks for."""

    __slots__ = (
        "awake", "callback_time", "callbacks", "event_time", "events", "iterations", "lag", "let_pass", "longest",
        "look_again", "passed", "poll_time", "polls", "sampling", "suspicious", "timeout_time", "timeouts",
        "unsampled", "unsure",
    )  # fmt: skip

    def __init__(self) -> None:
        self.iterations = self.polls = self.callbacks = self.timeouts = self.events = 0
        self.callback_time = self.timeout_time = self.poll_time = self.event_time = 0.0
        self.lag = [0] * _BUCKETS  # by the binary exponent of the seconds; negative ones count from the end
        self.longest: LongestCallback | None = None
        self.awake = 0.0  # when the last poll returned, by the loop's clock
        self.look_again = 0.0  # not before
        self.sampling = False  # the steps are to be timed until the next poll
        self.unsampled = 0  # short polls since the last sample
        self.suspicious = 0  # polls for which callbacks are still to be timed one by one
        self.let_pass = 0  # busy times that are not looked into before the next one is
        self.passed = 0  # of them, so far
        self.unsure = 0  # looks for which the clock is still to be read before each poll

    def count(self, polls: int, unpolled: int, callbacks: int, events: int) -> None:
        """Take over what the loop has counted: all polls so far, the others since the last time."""
        self.unsampled += polls - self.polls
        self.iterations += polls - self.polls + unpolled
        self.polls = polls
        self.callbacks += callbacks
        self.events += events

    def look(self, polled: float, mark: float, due_time: float, now: float, awake: float) -> None:
        """Add the times from one poll to the next, if they are known, and say what to do until the poll after it.

        :param polled: when the poll before returned.
        :param mark: when its events were handled; `polled`, if no sample was taken.
        :param due_time: seconds in step 2; 0, if no sample was taken.
        :param now: when this poll began; `polled`, if the clock was not looked at.
        :param awake: when it returned.
        """
        is_long = awake - polled > PERIOD
        if is_long:
            weight = 1
            self.unsampled -= 1
            if now == polled and not self.sampling:  # was it a long wait, or a long callback?
                weight = 0
                self.unsure = SUSPICIOUS
        elif self.sampling:
            weight, self.unsampled = self.unsampled, 0
        else:
            weight = 0
        if weight:
            self.event_time += (mark - polled) * weight
            self.callback_time += (now - mark - due_time) * weight
            self.timeout_time += due_time * weight
            self.poll_time += (awake - now) * weight
            busy = now - polled
            self.lag[frexp(busy)[1] if busy > 0 else -_BUCKETS // 2] += weight
        self.sampling = is_long or not self.sampling
        if self.unsure and not self.sampling:
            self.unsure -= 1
        self.look_again = 0.0 if self.is_suspicious(now - polled) or self.sampling else awake + PERIOD

    def is_suspicious(self, busy: float) -> bool:
        """Return whether callbacks are to be timed until the next poll, after a busy time of so many seconds."""
        if self.suspicious:
            self.suspicious -= 1
            if busy > SUSPICION and not self.let_pass:
                self.suspicious = SUSPICIOUS
        elif busy > SUSPICION:
            if self.passed < self.let_pass:
                self.passed += 1
            else:
                self.passed = 0
                self.let_pass = min(2 * self.let_pass + 1, LET_PASS)  # `ran` forgives
                self.suspicious = SUSPICIOUS
        return self.suspicious > 0

    def ran(self, callback: Callable[..., Any], seconds: float) -> None:
        """Note how long a callback took."""
        if seconds > SUSPICION:
            self.let_pass = self.passed = 0
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
            callback_time=self.callback_time,
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
