"""Guest mode: an `IOLoop` that lives inside another loop which is already running.

The host keeps its thread. It calls `turn` when there is something to do, and each turn is one iteration that does not
wait. In between, the guest costs nothing: everything that can wake it (a ready descriptor, a signal, another thread,
the host's own code) makes the one descriptor readable that its poller has, and the host watches that; the next
timeout is one timer of the host's. Hence a poller without a descriptor of its own (select, poll) cannot be a guest's.

`Host` is all that is asked of a host. Hosts for asyncio and trio stand beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from pollux.errors import BackendError
from pollux.poller import HasFileno
from pollux.runner import new_event_loop

if TYPE_CHECKING:
    from pollux.backend import Backend
    from pollux.ioloop import IOLoop


class Cancellable(Protocol):
    """A host's timer."""

    def cancel(self) -> object:
        """Take the call back."""


class Host(Protocol):
    """What a host loop does for its guest. Each method is called in the host's thread."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call back in the host's next iteration, after other things that wait had their turn."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Cancellable:
        """Call back after `delay` seconds, a day at most."""

    def watch(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call back whenever `fd` is readable, for as long as it is (level-triggered)."""

    def unwatch(self, fd: int, /) -> object:
        """End `watch`."""


class Guest:
    """A loop inside a host. Use it as a context manager, or `close` it.

    .. code-block:: python

        with Guest(AsyncioHost()) as guest:          # inside a running asyncio program
            guest.loop.add_callback(application.listen, 8888)  # on the guest: servers use the current loop

    :ivar loop: the guest; `loop.is_running()` until `close`. It is the running loop in its own callbacks, the host's
        is in the host's. Its `stop()` closes the guest.
    :param backend: see `IOLoop`; one whose poller has a descriptor of its own (epoll, kqueue, io_uring).
    :param on_stop: called when `loop.stop()` was called, after the guest has closed.
    :raises pollux.errors.BackendError: the poller has no descriptor.
    """

    def __init__(
        self,
        host: Host,
        backend: str | Backend | None = None,
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        self.host = host
        self.loop: IOLoop = new_event_loop(backend)
        self._on_stop = on_stop
        self._timer: Cancellable | None = None
        self._soon = False  # a turn is asked for already
        poller = self.loop.poller
        if not isinstance(poller, HasFileno):
            self.loop.close()
            raise BackendError(
                f"backend {self.loop.backend.name!r} cannot run as a guest: its poller has no descriptor that a host "
                "could watch; choose epoll, kqueue or io_uring"
            )
        self._poller: HasFileno = poller
        self._fd = poller.fileno()
        self.loop.enter_host()
        host.watch(self._fd, self._turn)
        self._turn()

    def _turn(self) -> None:
        """Run one iteration and arrange for the next."""
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.loop.is_closed():
            return
        wait, stopped = self.loop.turn()
        if stopped:
            self.close()
            if self._on_stop is not None:
                self._on_stop()
        elif wait == 0.0:
            self._soon = True
            self.host.call_soon(self._turn_soon)
        else:
            # Asked before each wait, io_uring first looks at what its handlers have read, and wakes nobody for it.
            if (fd := self._poller.fileno()) != self._fd:
                self.host.unwatch(self._fd)
                self._fd = fd
                self.host.watch(fd, self._turn)
            if wait is not None:
                self._timer = self.host.call_later(wait, self._turn)

    def _turn_soon(self) -> None:
        if self._soon:  # else a descriptor has brought the turn already
            self._turn()

    def close(self) -> None:
        """Leave the host and close the loop; what has not run is dropped. May be called again."""
        if self.loop.is_closed():
            return
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.host.unwatch(self._fd)
        self.loop.leave_host()
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, typ: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
