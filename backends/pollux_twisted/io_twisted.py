"""Twisted's reactor as a poller.

* Twisted asks its reactors only for what Twisted does: each treats closed descriptors, reused numbers and regular
  files in its own way, and calls a descriptor's owner where our contract wants a list. So what our loop watches is
  watched by the machine's best poller that has a descriptor of its own (epoll, kqueue), and the reactor watches that
  one descriptor: as in guest mode. (Rejected: a reader and a writer in the reactor for each of our descriptors.)
* `poll` lets the reactor wait, see `pollux_twisted.driver`, and then asks the other poller, which does not wait. So it
  may return early with nothing: something of Twisted's has happened.
* It has no `fileno`: a loop that is a guest itself would not get around to running the reactor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pollux import registry
from pollux.errors import BackendError
from pollux.poller import EventList, HasFileno, Poller
from pollux_twisted.driver import driver
from pollux_twisted.guest_twisted import Reader

if TYPE_CHECKING:
    from collections.abc import Callable


def _nothing() -> None:
    """The reactor has returned from its wait, which is all that was wanted."""


def poller_with_descriptor() -> tuple[Poller, int]:
    """Return a new poller of the best backend whose poller has a descriptor, and that descriptor.

    :raises pollux.errors.BackendError: there is none on this machine.
    """
    for backend in registry.backends():
        if backend.priority > 0 and registry.unusable(backend) is None:
            poller = backend.create()
            if isinstance(poller, HasFileno):
                return poller, poller.fileno()
            poller.close()
    raise BackendError("backend 'twisted' needs a poller with a descriptor of its own, epoll or kqueue; none is usable")


class TwistedPoller:
    """`pollux.poller.Poller` that waits in Twisted's global reactor."""

    register: Callable[[int, int], None]
    modify: Callable[[int, int], None]
    unregister: Callable[[int], None]

    def __init__(self) -> None:
        self._driver = driver()
        self._poller, fd = poller_with_descriptor()
        self._reader = Reader(fd, _nothing)
        self._closed = False
        self.register, self.modify, self.unregister = (
            self._poller.register,
            self._poller.modify,
            self._poller.unregister,
        )
        self._driver.add_user()

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait in the reactor; without it in a thread that is not the reactor's, or after the reactor was stopped."""
        if self._closed or not self._driver.mine():
            return self._poller.poll(timeout)
        self._driver.wait(self._reader, timeout)
        return self._poller.poll(0)

    def close(self) -> None:
        """Close the poller beneath; the reactor shuts down if this was its last one."""
        if not self._closed:
            self._closed = True
            self._driver.remove_user(self._reader)
        self._poller.close()
