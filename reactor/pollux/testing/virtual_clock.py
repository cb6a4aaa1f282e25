"""A loop on virtual time: when nothing else can run, its clock jumps to the next timeout, so that no test waits.

The clock stands behind the seam of the poller. A loop asks its poller to wait up to the next timeout; this one looks
what is ready, and if nothing is, moves the loop's clock by that time and returns at once.

Such a jump says that nothing could have happened in between. What this loop and the process around it do, is known;
what the world does, is not, and a jump past it would make a test depend on how fast the machine is. So:

* Descriptors whose other end is in this process (`pollux.testing.peers`) may be watched: what one end sends is at the
  other within a moment. The loop waits `grace` real seconds for it before each jump.
* A descriptor that waits for the world outside forbids the jump, and a wait without any timeout: `VirtualClockError`
  names it. `VirtualClock.hold` is the way to wait for it.
* While the loop's executors work (`run_in_executor`, `asyncio.to_thread`, `getaddrinfo`), time stands still and the
  loop waits for them in real time.
* If there is no timeout to jump to and nothing that could wake the loop, waiting would never end: also an error.

Time also stands still while something runs: a chain of callbacks that goes on until a deadline never gets there.
(Rejected: time that passes with every look at the clock. Two runs of a test would see different times.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from pollux.backend import Backend
from pollux.config import choose_backend
from pollux.errors import PolluxError
from pollux.ioloop import IOLoop
from pollux.poller import EventList, Poller
from pollux.testing import peers

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

GRACE = 0.002  # seconds: what the kernel may take to carry a packet over loopback, on a busy machine
PATIENCE = 10.0  # seconds: a real wait longer than that is a hang, and an error says more than a test that times out


class VirtualClockError(PolluxError, RuntimeError):
    """Virtual time cannot go on: the loop would wait for the real world, or for nothing at all."""


class VirtualClock:
    """Seconds that pass only when somebody says so: a `VirtualLoop` that has nothing else to do, or a test that sets
    `now`.

    :param now: the time at the start. It is not 0, so that a time of 0 in the code under test cannot pass for "now".
    """

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now
        self._holds = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.now}{' held' if self._holds else ''}>"

    @property
    def held(self) -> bool:
        """Whether time stands still within `hold`."""
        return self._holds > 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let no time pass within this block, and let the loop wait for the real world: for descriptors, threads,
        signals and child processes. May be nested. No timeout comes meanwhile, of any task.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1


class JumpingPoller:
    """A poller that moves `loop.clock` instead of waiting."""

    def __init__(self, poller: Poller, loop: VirtualLoop) -> None:
        self._poller, self._loop = poller, loop
        self._watched: dict[int, int] = {}
        self._changed = False
        self._outside: list[int] = []
        self.close = poller.close

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`."""
        self._poller.register(fd, events)
        self._watched[fd], self._changed = events, True

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`."""
        self._poller.modify(fd, events)
        self._watched[fd], self._changed = events, True

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`."""
        self._watched.pop(fd, None)
        self._changed = True
        self._poller.unregister(fd)

    def is_the_loops(self) -> None:
        """What is watched by now wakes the loop and is no I/O."""
        self._watched.clear()

    def poll(self, timeout: float | None, /) -> EventList:
        """Return what is ready; if nothing is, let `timeout` pass on the clock.

        :raises VirtualClockError: see the module's docstring.
        """
        events = self._poller.poll(0)
        if events or timeout == 0.0:
            return events
        if self._loop.clock.held or self._loop.working:
            return self._wait()
        if self._watched:
            if self._changed:
                self._outside, self._changed = peers.outside(self._watched), False
            events = self._poller.poll(self._loop.grace)
            if events:
                return events
        if self._outside or (timeout is None and self._watched):
            fds = self._outside or sorted(self._watched)
            raise VirtualClockError(
                f"the loop on virtual time would wait for real I/O: {peers.describe(self._watched, fds)}. "
                "Give it a peer in this process, or wait in real time: `with loop.clock.hold(): ...`"
            )
        if timeout is None:
            raise VirtualClockError(
                "the loop on virtual time would wait for ever: no callback, no timeout, no descriptor; "
                f"{self._loop.waiting()}. If a thread or a signal is to wake it, wait in real time: "
                "`with loop.clock.hold(): ...`"
            )
        self._loop.clock.now += timeout
        return events

    def _wait(self) -> EventList:
        """Wait in real time while virtual time stands still."""
        patience = self._loop.patience
        end = time.monotonic() + patience
        while True:
            remaining = end - time.monotonic()
            events = self._poller.poll(max(0.0, remaining))  # may be empty early: a signal
            if events:
                return events
            if remaining <= 0:
                held = "hold()" if self._loop.clock.held else f"an executor ({self._loop.working} jobs)"
                raise VirtualClockError(
                    f"nothing happened for {patience} real seconds while virtual time stands still for {held}; "
                    f"{self._loop.waiting()}. No timeout comes meanwhile: what is waited for must not need one"
                )


class VirtualLoop(IOLoop):
    """A loop whose `time` is a `VirtualClock`'s. Without arguments it fits `asyncio.Runner(loop_factory=VirtualLoop)`.

    :param backend: the poller beneath, see `IOLoop`.
    :param clock: the clock, which several loops may share; None makes one. It is `loop.clock`.
    :param grace: real seconds to wait before a jump for what was sent within this process, if descriptors are watched.
    :param patience: real seconds without any event after which a wait in real time is an error.
    :raises pollux.errors.BackendError: the backend is unknown or not usable here.
    """

    def __init__(
        self,
        backend: str | Backend | None = None,
        *,
        clock: VirtualClock | None = None,
        grace: float = GRACE,
        patience: float = PATIENCE,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.grace, self.patience = grace, patience
        self._jobs: set[asyncio.Future[Any]] = set()
        real = choose_backend(backend).backend
        made: list[JumpingPoller] = []

        def create() -> Poller:
            made.append(JumpingPoller(real.create(), self))
            return made[0]

        super().__init__(Backend(real.name, "on virtual time", create), make_current=False)
        made[0].is_the_loops()

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.now

    @property
    def working(self) -> int:
        """How many jobs the executors have not finished."""
        return len(self._jobs)

    def waiting(self) -> str:
        """Name the tasks that are not done, for an error message."""
        tasks = sorted(repr(task) for task in asyncio.all_tasks(self))
        return f"waiting: {', '.join(tasks)}" if tasks else "no task is waiting"

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """See `asyncio.loop.run_in_executor`. Time stands still until the job is done or nobody waits for it."""
        job = super().run_in_executor(executor, func, *args)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """See `asyncio.loop.shutdown_default_executor`. In real time, as threads end."""
        with self.clock.hold():
            await super().shutdown_default_executor(*timeout)

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """See `asyncio.loop.subprocess_exec`. Refused outside `VirtualClock.hold`."""
        self._check_held()
        return await super().subprocess_exec(*args, **kwargs)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """See `asyncio.loop.subprocess_shell`. Refused outside `VirtualClock.hold`."""
        self._check_held()
        return await super().subprocess_shell(*args, **kwargs)

    def _check_held(self) -> None:
        # Refused at the start, because its end is not a descriptor everywhere: Python 3.11 waits in a thread.
        if not self.clock.held:
            raise VirtualClockError(
                "a child process runs in real time: start and await it within `with loop.clock.hold(): ...`"
            )
