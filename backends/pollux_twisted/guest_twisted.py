"""A Twisted reactor as a host: any reactor takes an `IOLoop` as its guest.

Facts of Twisted's that this stands on: a reader is an object with `fileno`, `doRead`, `connectionLost` and `logPrefix`;
"before shutdown" triggers may return Deferreds, which the reactor waits for; when they have fired it disconnects every
reader. A `DelayedCall` that has run must not be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer  # type: ignore[import-untyped]

from pollux.guest import Guest
from pollux_twisted import deferreds
from pollux_twisted.reactor import PolluxReactor

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

    from pollux.ioloop import IOLoop


@implementer(IReadDescriptor)
class Reader:
    """A descriptor in a reactor's sight, with one callback."""

    def __init__(self, fd: int, callback: Callable[[], object]) -> None:
        self._fd = fd
        self._callback = callback

    def fileno(self) -> int:
        """Return its number."""
        return self._fd

    def logPrefix(self) -> str:  # noqa: N802  # Twisted's names
        """Return what stands before log messages."""
        return "pollux"

    def doRead(self) -> None:  # noqa: N802
        """It is readable."""
        self._callback()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """The reactor disconnects everybody: it shuts down."""


class Timer:
    """A `pollux.guest.Cancellable`."""

    def __init__(self, call: DelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        """Take the call back, if it has not run."""
        if self._call.active():
            self._call.cancel()


class TwistedHost:
    """A `pollux.guest.Host`. :param reactor: the host; None for Twisted's global one."""

    def __init__(self, reactor: Any = None) -> None:
        self.reactor = global_reactor() if reactor is None else reactor
        self._readers: dict[int, Reader] = {}

    def call_soon(self, callback: Callable[[], object]) -> None:
        """See `Host`."""
        self.reactor.callLater(0, callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """See `Host`."""
        return Timer(self.reactor.callLater(delay, callback))

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """See `Host`."""
        reader = self._readers[fd] = Reader(fd, callback)
        self.reactor.addReader(reader)

    def unwatch(self, fd: int) -> None:
        """See `Host`."""
        self.reactor.removeReader(self._readers.pop(fd))


def global_reactor() -> Any:
    """Return Twisted's global reactor; its default one is installed if none is."""
    from twisted.internet import reactor

    return reactor


_guests: WeakKeyDictionary[Any, Guest] = WeakKeyDictionary()  # one for each reactor


def attach(reactor: Any = None) -> IOLoop:
    """See `pollux_twisted.attach`."""
    if reactor is None:
        reactor = global_reactor()
    deferreds.teach()
    if isinstance(reactor, PolluxReactor):
        reactor.loop.make_current()
        return reactor.loop
    guest = _guests.get(reactor)
    if guest is not None and not guest.loop.is_closed():
        return guest.loop
    if getattr(reactor, "_startedBefore", False):
        raise RuntimeError(f"{reactor!r} was stopped and cannot run again, as Twisted has it: attach() before that")
    guest = _guests[reactor] = Guest(TwistedHost(reactor))
    guest.loop.make_current()
    reactor.addSystemEventTrigger("before", "shutdown", _end_tasks, guest.loop, reactor)
    reactor.addSystemEventTrigger("during", "shutdown", _close, guest)
    return guest.loop


def _end_tasks(loop: IOLoop, reactor: Any) -> Deferred[None] | None:
    """Cancel what runs on the loop, and have the reactor wait for its end: what `asyncio.Runner` does last."""
    if loop.is_closed():
        return None
    ended: Deferred[None] = Deferred()
    # Not from inside the loop's turn: what comes next closes the loop.
    deferreds.ensure_deferred(_cancel_all(), loop).addBoth(lambda _: reactor.callLater(0, ended.callback, None))
    return ended


async def _cancel_all() -> None:
    me = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not me]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop = cast("IOLoop", asyncio.get_running_loop())
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception while the reactor shuts down"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _close(guest: Guest) -> None:
    current = type(guest.loop).current(instance=False) if asyncio._get_running_loop() is None else None
    guest.close()
    if current is guest.loop:
        guest.loop.clear_current()
