"""Locks for coroutines: `Condition`, `Event`, `Semaphore`, `BoundedSemaphore`, `Lock`.

Names and meaning are Tornado's (docs: tornado.locks). They order coroutines of one loop, not threads, and may be made
and asked before a loop runs.

A timeout is a deadline by the loop's clock, or a timedelta from now; 0 is long past. Who waits comes first is served
first. What a waiting task was given just before it was cancelled goes to the next one, see `pollux.waitline`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, NoReturn

from pollux.waitline import Timeout, WaitLine, out_of_time, ready

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"]


class Condition:
    """Wait until somebody notifies.

    Unlike `threading.Condition` it has no lock of its own: nothing else runs between two awaits.
    """

    def __init__(self) -> None:
        self._waiters: WaitLine[bool] = WaitLine(lambda turn: turn.set_result(False), self._pass_on)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{_waiting(self._waiters)}>"

    def wait(self, timeout: Timeout = None) -> asyncio.Future[bool]:
        """Wait for a notification.

        :returns: True; False if the time was over first.
        """
        return self._waiters.join(timeout)

    def notify(self, n: int = 1) -> None:
        """Wake the `n` who have waited longest, or all if they are fewer."""
        while n > 0 and self._waiters:
            if self._waiters.serve(lambda _: True):
                n -= 1

    def notify_all(self) -> None:
        """Wake all who wait."""
        self.notify(len(self._waiters))

    def _pass_on(self, notified: bool) -> None:
        if notified:
            self.notify()


class Event:
    """Wait until a flag is set. It stays set, and waiting takes no time, until it is cleared."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: WaitLine[None] = WaitLine(out_of_time, lambda _: None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self._set else 'clear'}{_waiting(self._waiters)}>"

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._set

    def set(self) -> None:
        """Set the flag and wake all who wait."""
        self._set = True
        while self._waiters:
            self._waiters.serve(lambda _: None)

    def clear(self) -> None:
        """Clear the flag: from now on one waits for the next `set`."""
        self._set = False

    def wait(self, timeout: Timeout = None) -> asyncio.Future[None]:
        """Wait until the flag is set.

        :raises TimeoutError: from the Future: the time was over first.
        """
        return ready(None) if self._set else self._waiters.join(timeout)


class Releasing:
    """What `acquire` gives: a context manager that releases on leaving. Entering it takes no time."""

    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: Semaphore) -> None:
        self._semaphore = semaphore

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._semaphore.release()


class Semaphore:
    """Let at most `value` in at once.

        async with semaphore:
            ...
        with (yield semaphore.acquire()):        # in a gen.coroutine; there `async with` cannot be
            ...

    :param value: how many may come in now; 0 or more.
    :raises ValueError: `value` is negative.
    """

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError(f"{type(self).__name__} needs a value of 0 or more, got {value!r}")
        self._value = value
        self._waiters: WaitLine[Releasing] = WaitLine(out_of_time, lambda _: self._free())

    def __repr__(self) -> str:
        state = f"unlocked,value:{self._value}" if self._value else "locked"
        return f"<{type(self).__name__} [{state}]{_waiting(self._waiters)}>"

    def acquire(self, timeout: Timeout = None) -> asyncio.Future[Releasing]:
        """Come in; wait until there is room.

        :returns: a context manager that releases; or release by hand.
        :raises TimeoutError: from the Future: the time was over first.
        """
        if self._value > 0:
            self._value -= 1
            return ready(Releasing(self))
        return self._waiters.join(timeout)

    def release(self) -> None:
        """Make room for one more: who has waited longest comes in."""
        self._free()

    def _free(self) -> None:
        while self._waiters:
            if self._waiters.serve(lambda _: Releasing(self)):
                return
        self._value += 1

    def __enter__(self) -> NoReturn:
        kind = type(self).__name__
        raise RuntimeError(
            f"{kind} cannot be waited for in a plain `with`: write `async with {kind.lower()}`, "
            f"or `with (yield {kind.lower()}.acquire())`"
        )

    def __exit__(self, *error: object) -> None:
        """Never reached; `with` looks for it before it calls `__enter__`."""

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class BoundedSemaphore(Semaphore):
    """A `Semaphore` that never lets in more than `value`: to release what was not acquired is an error."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._initial_value = value

    def release(self) -> None:
        """Make room for one more.

        :raises ValueError: nobody is in.
        """
        if self._value >= self._initial_value:
            raise ValueError(f"{self!r} was released more often than acquired: its value is {self._value} already")
        super().release()


class Lock(BoundedSemaphore):
    """Let one in at a time.

    async with lock:
        ...
    with (yield lock.acquire()):        # in a gen.coroutine
        ...
    """

    def __init__(self) -> None:
        super().__init__(1)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'unlocked' if self._value else 'locked'}{_waiting(self._waiters)}>"

    def release(self) -> None:
        """Let the next one in, who has waited longest.

        :raises RuntimeError: it is not locked.
        """
        if self._value:
            raise RuntimeError(f"{self!r} cannot be released: nobody has acquired it")
        super().release()


def _waiting(line: WaitLine[Any]) -> str:
    return f" waiters[{len(line)}]" if line else ""
