"""`PolluxReactor`: Twisted's reactor on our loop, hence on any of our pollers.

Facts of Twisted's that this stands on
--------------------------------------
* `PosixReactorBase` brings TCP, TLS, UDP, UNIX sockets, processes, threads and names; it asks of a reactor readers and
  writers (`IReactorFDSet`), a main loop, and to be woken. It keeps the delayed calls by itself and runs those that are
  due in `runUntilCurrent`, which also runs what other threads have asked for, and fires "shutdown" after `stop`.
* Each reader and writer is called inside a log context that carries its `logPrefix`, and is disconnected if it returns
  a reason or raises.
* A reactor whose `crash` was called may run again (trial runs one for each test); one that was stopped may not.

What was decided
----------------
* The loop is a complete `IOLoop`, and all of Twisted's code runs inside it, start-up and shutdown triggers included: so
  asyncio's libraries and Tornado's dialect work there, in the same thread, and the running loop is ours.
* Descriptors are the loop's handlers. A poller of ours takes regular files and closed descriptors as well, so there is
  no polling by time as in Twisted's own reactor on epoll(7).
* One timer of the loop's stands for the earliest delayed call; what Twisted's loop computes in each iteration is not
  computed when nothing is due. That is where this reactor is faster than Twisted's own.
* A connection that begins to write writes in the next iteration, without asking the poller: nearly always the kernel
  takes all, and two changes of its interest and an event are saved. Twisted's connections are prepared for a kernel
  that does not. Others, and those that are connecting, wait for the poller.
* SIGCHLD is heard by a handler in Python, not by Twisted's `set_wakeup_fd`: a process has one such descriptor, and the
  first `loop.add_signal_handler` of an asyncio program would take it away from Twisted, which then would see none of
  its processes end.
* (Rejected: Twisted's own `AsyncioSelectorReactor` on our loop. It runs start-up triggers outside the loop, costs a
  handle for each event, and leaves contexts of strangers around delayed calls.)
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.process import reapAllProcesses
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python import context as twisted_context
from twisted.python import log
from twisted.python.log import ILogContext
from zope.interface import implementer  # type: ignore[import-untyped]

from pollux.config import choose_backend
from pollux.errors import BackendError
from pollux.ioloop import IOLoop
from pollux.poller import ERROR, READ, WRITE

if TYPE_CHECKING:
    from pollux.backend import Backend

_FILE_DESCRIPTOR_LOST = error.ConnectionFdescWentAway("File descriptor lost")
_NEVER = float("inf")
_logger = Logger()


class ReactorLoop(IOLoop):
    """The loop of a reactor. It ends with the reactor, which nobody closes: so it closes itself, without a warning."""

    def __del__(self) -> None:
        if not self.is_closed() and not self.is_running():
            self.close()


class Watched:
    """A descriptor's number with its reader and its writer, which may be two objects."""

    __slots__ = ("fd", "reactor", "reader", "writer")

    def __init__(self, reactor: PolluxReactor, fd: int) -> None:
        self.reactor = reactor
        self.fd = fd
        self.reader: Any = None
        self.writer: Any = None

    def events(self) -> int:
        """Return what it is watched for."""
        return (READ if self.reader is not None else 0) | (WRITE if self.writer is not None else 0)

    def ready(self, _fd: int, events: int) -> None:
        """Call whom the events concern. The loop's handler."""
        reader, writer = self.reader, self.writer
        reactor = self.reactor
        if reader is writer or writer is None:
            reactor.call(reader, events, True)
        elif reader is None:
            reactor.call(writer, events, False)
        else:
            if events & ~WRITE:
                reactor.call(reader, events & ~WRITE, True)
            if events & ~READ and self.writer is writer:
                reactor.call(writer, events & ~READ, False)
        if reactor.iterating:
            reactor.loop.stop()


class SignalHandling:
    """Handlers of SIGINT, SIGTERM and SIGCHLD, as Twisted's reactors have them. In the main thread.

    They are written in Python, so whoever owns the signal module's wake-up descriptor, they work.
    """

    def __init__(self, reactor: PolluxReactor) -> None:
        self._reactor = reactor
        self._installed = False

    def install(self) -> None:
        """Install them. As in Twisted, SIGINT's only if Python's default is there (a debugger may have its own)."""
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, self._reactor.sigInt)
        signal.signal(signal.SIGTERM, self._reactor.sigTerm)
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        self._installed = True
        reapAllProcesses()  # those that ended before

    def uninstall(self) -> None:
        """Take back SIGCHLD's; Twisted leaves the others where they are."""
        if self._installed:
            self._installed = False
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _child_ended(self, _number: int, _frame: FrameType | None) -> None:
        self._reactor.loop.add_callback(reapAllProcesses)


@implementer(IReactorFDSet)
class PolluxReactor(PosixReactorBase):
    """A Twisted reactor that runs on a Pollux loop.

    :param backend: the poller beneath, see `pollux.IOLoop`.
    :ivar loop: the loop. It is the running one while the reactor runs. `loop.stop()` is `reactor.stop()`.
    :raises pollux.errors.BackendError: the backend is unknown or not usable here.
    """

    def __init__(self, backend: str | Backend | None = None) -> None:
        chosen = choose_backend(backend if backend is not None else IOLoop._configured).backend
        if chosen.name == "twisted":
            raise BackendError(
                "a Twisted reactor cannot run on the backend 'twisted', which runs on a Twisted reactor: choose another"
            )
        self.loop: IOLoop = ReactorLoop(chosen, make_current=False)
        self.iterating = False
        self._watched: dict[int, Watched] = {}
        self._eager: dict[Any, None] = {}  # connections that are to write in the next iteration, in order
        self._writing: dict[Any, None] = {}  # those of this iteration
        self._context = copy_context()  # delayed calls belong to no caller's
        self._due = _NEVER  # when `_timer` fires, by the clock of `seconds`
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False  # for a run of what is due, at once
        super().__init__()

    # Life

    def run(self, installSignalHandlers: bool = True) -> None:  # noqa: N803  # Twisted's name
        """See `twisted.internet.interfaces.IReactorCore.run`."""
        if self._started or self._startedBefore or self.loop.is_running():
            return super().run(installSignalHandlers=installSignalHandlers)  # which says what is wrong
        failures: list[BaseException] = []

        def start() -> None:
            try:
                self.startRunning(installSignalHandlers=installSignalHandlers)
                self._ask()
            except BaseException as failure:
                failures.append(failure)
                self.loop.stop()

        self.loop.call_soon(start, context=self._context)
        try:
            self._run_loop()
            if failures:
                raise failures[0]
            self.mainLoop()
        finally:
            self._signals.uninstall()

    def mainLoop(self) -> None:  # noqa: N802
        """Run until `crash` was called, which "shutdown" does. If somebody stops the loop, that stops the reactor."""
        while self._started:
            self._run_loop()
        _logger.info("Main loop terminated.")

    def _run_loop(self) -> None:
        """Run the loop. What comes out of it (KeyboardInterrupt, SystemExit) is logged: so do Twisted's reactors."""
        with _logger.failureHandler("Unexpected error in main loop"):
            self.loop.run_forever()
            if self._started and not self._stopped:  # neither `crash` nor `stop`, but the loop's own
                self.stop()

    def stop(self) -> None:
        """See `IReactorCore.stop`."""
        super().stop()
        self._ask()

    def crash(self) -> None:
        """See `IReactorCore.crash`."""
        super().crash()
        if self.loop.is_running():
            self.loop.stop()

    def iterate(self, delay: float = 0.0) -> None:
        """Run what is due and wait at most `delay` seconds for an event; not while the reactor runs."""
        self.runUntilCurrent()
        self.doIteration(delay)

    def doIteration(self, delay: float | None) -> None:  # noqa: N802
        """Wait at most `delay` seconds (None: no limit) for a reader, a writer, a delayed call or another thread."""
        if self.loop.is_running():
            raise RuntimeError("reactor.iterate() was called while the reactor runs: return to it instead")
        timer = None
        if delay is None or delay > 0:
            self.iterating = True
            timer = None if delay is None else self.loop.call_later(delay, self.loop.stop)
        else:
            self.loop.stop()
        self._arrange()
        try:
            self.loop.run_forever()
        finally:
            self.iterating = False
            if timer is not None:
                timer.cancel()

    def _signalsFactory(self) -> Any:  # noqa: N802
        return SignalHandling(self)

    # Waking up

    def installWaker(self) -> None:  # noqa: N802
        """Do nothing: the loop has its own."""

    def wakeUp(self) -> None:  # noqa: N802
        """Run what is due in the loop's next iteration. From any thread, and from signal handlers."""
        if not self.loop.is_closed():
            self._ask()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self.loop.call_soon_threadsafe(self._run_due, context=self._context)

    def _run_due(self) -> None:
        self._asked = False
        if not self._started and not self.iterating:
            return  # what is due is due after start-up
        self.runUntilCurrent()
        if self.iterating:
            self.loop.stop()
        self._arrange()

    # Calling readers and writers

    def call(self, selectable: Any, events: int, reads: bool) -> None:
        """`twisted.python.log.callWithLogger(selectable, read_or_write, ...)`, in one step instead of four.

        :param reads: it waits for input.
        """
        try:
            prefix = selectable.logPrefix()
        except KeyboardInterrupt:
            raise
        except BaseException:
            prefix = "(buggy logPrefix method)"
            log.err(system=prefix)
        try:
            log_context = {**twisted_context.get(ILogContext), "system": prefix}
            twisted_context.call({ILogContext: log_context}, self._read_or_write, selectable, events, reads)
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.err(system=prefix)

    def _read_or_write(self, selectable: Any, events: int, reads: bool) -> None:
        why: Any = None
        reading = False
        if events & ERROR and not events & READ:
            # All input has been read, else there were a READ. The end of what the peer sends, to one who reads; else
            # a connection that broke.
            reading = reads
            why = CONNECTION_DONE if reads else CONNECTION_LOST
        else:
            try:
                if selectable.fileno() == -1:
                    why = _FILE_DESCRIPTOR_LOST
                else:
                    if events & READ:
                        why = selectable.doRead()
                        reading = True
                    if not why and events & WRITE:
                        why = selectable.doWrite()
                        reading = False
            except BaseException as failed:
                why = failed
                log.err()
        if why:
            self._disconnectSelectable(selectable, why, reading)  # type: ignore[no-untyped-call]

    def _write_soon(self, writer: Any) -> None:
        """Let a connection write in the loop's next iteration, without asking the poller."""
        if writer not in self._eager and writer not in self._writing:
            if not self._eager:
                self.loop.call_soon(self._write_eagerly, context=self._context)
            self._eager[writer] = None

    def _write_eagerly(self) -> None:
        self._writing, self._eager = self._eager, {}
        for writer in list(self._writing):
            if writer in self._writing:  # nobody has taken it out
                self.call(writer, WRITE, False)
                if writer in self._writing:  # it has not, either: the kernel takes no more for now
                    del self._writing[writer]
                    try:
                        self._watch_writer(writer)
                    except Exception as failed:  # a descriptor that was closed behind its back
                        log.err()
                        self._disconnectSelectable(writer, failed, False)  # type: ignore[no-untyped-call]
        if self.iterating:
            self.loop.stop()

    # Time

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorTime.callLater`."""
        call = super().callLater(delay, callable, *args, **kw)
        if call.time < self._due:
            self._arrange_for(call.time)
        return call

    def _moveCallLaterSooner(self, call: DelayedCall) -> None:  # noqa: N802
        super()._moveCallLaterSooner(call)
        if call.time < self._due:
            self._arrange_for(call.time)

    def _arrange(self) -> None:
        """Have the loop wake us for the earliest delayed call."""
        timeout = self.timeout()
        if timeout is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._due = _NEVER
        else:
            self._arrange_for(self.seconds() + timeout)

    def _arrange_for(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        delay = max(0.0, due - self.seconds())
        self._timer = self.loop.call_at(self.loop.time() + delay, self._timer_fired, context=self._context)

    def _timer_fired(self) -> None:
        self._timer = None
        self._due = _NEVER
        self._run_due()

    # Descriptors

    def addReader(self, reader: Any) -> None:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.addReader`."""
        fd = reader.fileno()
        watched = self._watched.get(fd)
        if watched is None:
            self._watch(fd, reader, None)
        elif watched.reader is not reader:
            self._replace(watched, reader, watched.writer)

    def addWriter(self, writer: Any) -> None:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.addWriter`."""
        watched = self._watched.get(writer.fileno())
        if watched is not None and watched.writer is writer:
            return
        if isinstance(writer, Connection) and writer.connected:
            self._write_soon(writer)
        else:
            self._watch_writer(writer)

    def _watch_writer(self, writer: Any) -> None:
        fd = writer.fileno()
        watched = self._watched.get(fd)
        if watched is None:
            self._watch(fd, None, writer)
        elif watched.writer is not writer:
            self._replace(watched, watched.reader, writer)

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.removeReader`."""
        watched = self._of(reader)
        if watched is not None and watched.reader is reader:
            watched.reader = None
            self._less(watched)

    def removeWriter(self, writer: Any) -> None:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.removeWriter`."""
        if writer in self._writing:
            del self._writing[writer]
            return
        if writer in self._eager:
            del self._eager[writer]
            return
        watched = self._of(writer)
        if watched is not None and watched.writer is writer:
            watched.writer = None
            self._less(watched)

    def removeAll(self) -> list[Any]:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.removeAll`."""
        removed: list[Any] = self._removeAll(self.getReaders(), self.getWriters())  # type: ignore[no-untyped-call]
        return removed

    def getReaders(self) -> list[Any]:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.getReaders`."""
        return [watched.reader for watched in self._watched.values() if watched.reader is not None]

    def getWriters(self) -> list[Any]:  # noqa: N802
        """See `twisted.internet.interfaces.IReactorFDSet.getWriters`."""
        watched = [watched.writer for watched in self._watched.values() if watched.writer is not None]
        return [*watched, *self._eager, *self._writing]

    def _watch(self, fd: int, reader: Any, writer: Any) -> None:
        watched = Watched(self, fd)
        watched.reader, watched.writer = reader, writer
        # Not in the context of who asks, which would be that of a stranger to all later events.
        self._context.copy().run(self.loop.add_handler, fd, watched.ready, watched.events())
        self._watched[fd] = watched

    def _replace(self, watched: Watched, reader: Any, writer: Any) -> None:
        """One more object is interested in a number, or another than before."""
        if (watched.reader is None or watched.reader is reader) and (
            watched.writer is None or watched.writer is writer
        ):
            watched.reader, watched.writer = reader, writer
            self.loop.update_handler(watched.fd, watched.events())
            return
        # Whose number it was has closed it without a word: the poller may not know of the new file.
        self._forget(watched)
        self._watch(watched.fd, reader, writer)

    def _less(self, watched: Watched) -> None:
        events = watched.events()
        if events:
            self.loop.update_handler(watched.fd, events)
        else:
            self._forget(watched)

    def _forget(self, watched: Watched) -> None:
        del self._watched[watched.fd]
        self.loop.remove_handler(watched.fd)

    def _of(self, selectable: Any) -> Watched | None:
        """Return where a reader or writer is watched. One that has closed its descriptor knows no number any more."""
        fd = selectable.fileno()
        if fd != -1:
            return self._watched.get(fd)
        for watched in self._watched.values():
            if watched.reader is selectable or watched.writer is selectable:
                return watched
        return None
