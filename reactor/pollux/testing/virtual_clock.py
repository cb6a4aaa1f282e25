"""A loop on virtual time: when nothing is ready its clock jumps to the next timeout, so that no test waits.

The clock stands behind the seam of the poller. A loop asks its poller to wait up to the next timeout; this one looks
what is ready, and if nothing is, moves the loop's clock by that time and returns at once. Only the wait without limit,
where no timeout is set, is a real one.
"""

from __future__ import annotations

from pollux.backend import Backend
from pollux.ioloop import IOLoop
from pollux.poller import EventList, Poller


class VirtualClock:
    """Seconds that pass only when somebody says so.

    It does not start at 0, so that a time of 0 in the code under test cannot pass for "now".
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now


class JumpingPoller:
    """A poller that moves `clock` instead of waiting."""

    def __init__(self, poller: Poller, clock: VirtualClock) -> None:
        self._poller, self._clock = poller, clock
        self.register, self.modify, self.unregister = poller.register, poller.modify, poller.unregister
        self.close = poller.close

    def poll(self, timeout: float | None, /) -> EventList:
        """Return what is ready; if nothing is, let `timeout` pass on the clock."""
        if timeout is None:
            return self._poller.poll(None)
        events = self._poller.poll(0)
        if not events:
            self._clock.now += timeout
        return events


class VirtualLoop(IOLoop):
    """A loop over `backend` whose `time` is `clock`'s."""

    def __init__(self, backend: Backend) -> None:
        self.clock = clock = VirtualClock()
        super().__init__(
            Backend(backend.name, "on virtual time", lambda: JumpingPoller(backend.create(), clock)), make_current=False
        )

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.now
