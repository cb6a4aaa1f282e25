"""Driving Twisted's global reactor from our loops' waits: one driver for the process.

Facts of Twisted's that this stands on
--------------------------------------
* A process has one reactor. `run` starts it, once; in between come `doIteration(seconds)`, which waits for descriptors
  and calls their owners, and `runUntilCurrent`, which runs delayed calls and what other threads asked for.
* `stop` makes `runUntilCurrent` fire "shutdown": before, during and after. "before" triggers may return Deferreds, and
  the reactor goes on until they have fired. After `stop` it never starts again. `fireSystemEvent("shutdown")` fires the
  same triggers without that; but "during" ones of the reactor itself (`crash`, `disconnectAll`) are used up by it.
* All of it is for one thread. Its pool's threads are no daemons, and would keep a process from ending.

What was decided
----------------
* Our loop runs, and while it waits, it waits in the reactor. So nothing of the loop is special, and Twisted's callbacks
  run inside the loop like anybody's.
* The reactor waits first and runs its calls after that, and then the loop has its turn: had it waited *after* a call
  that gives the loop something to do, the loop would sleep through it.
* The reactor starts with the first wait, and shuts down with the close of the last loop, or else with the process. Then
  another loop may start it again. If the program calls `reactor.stop()`, the loop that runs is stopped, and Twisted's
  rule holds: no second start. What still runs on a loop then waits without the reactor.
* It belongs to the thread that waited first, until that thread ends. Loops of other threads wait by themselves.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.process import reapAllProcesses
from twisted.python import threadable

from pollux_twisted import deferreds

_STOPPED = "Twisted's reactor was stopped, and cannot run again in this process"


def why_not() -> str | None:
    """Return why loops cannot run on the global reactor, on one line; None if they can."""
    if _driver is not None and _driver.over:
        return _STOPPED
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:  # the default one will be installed
        return None
    ours = sys.modules.get("pollux_twisted.reactor")
    if ours is not None and isinstance(reactor, ours.PolluxReactor):
        return "the installed reactor runs on a Pollux loop already: use its loop, pollux_twisted.attach()"
    if type(reactor).doIteration is ReactorBase.doIteration:
        kind = type(reactor).__name__
        return f"the installed reactor, {kind}, cannot be run step by step: use pollux_twisted.attach() inside it"
    return None


class Driver:
    """The global reactor, and who may run it.

    :ivar over: `reactor.stop()` was called.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.over = False
        self._process = os.getpid()  # a reactor does not survive fork(2)
        self._thread: threading.Thread | None = None
        self._users = 0
        self._down = threading.Event()  # clear from start-up to the end of the shutdown
        self._down.set()
        self._reader: Any = None
        self._handlers: dict[int, tuple[Any, Any]] = {}  # number -> (ours, the one before)
        self._interrupted = False
        atexit.register(self._shut_down)

    def mine(self) -> bool:
        """Return whether the calling thread is the one that runs the reactor."""
        current = threading.current_thread()
        if self._thread is not current:
            with _lock:
                if self._thread is not None and self._thread.is_alive():
                    return False
                self._thread = current
            if not self._down.is_set():
                threadable.registerAsIOThread()
        return not self.over and os.getpid() == self._process

    def add_user(self) -> None:
        """A poller was made."""
        with _lock:
            self._users += 1

    def remove_user(self, reader: Any) -> None:
        """A poller is closed. With the last one the reactor shuts down, if it is this thread's."""
        if os.getpid() != self._process:
            return  # forked: all that could be changed is the parent's
        with _lock:
            self._users -= 1
        if self.mine():
            self._watch_instead_of(reader, None)
            if not self._users:
                self._shut_down()

    def wait(self, reader: Any, timeout: float | None) -> None:
        """Run the reactor once: wait until something happens to a descriptor of Twisted's or to `reader`, a delayed
        call is due, another thread has something to say, or `timeout` seconds (None: no limit) are over.
        """
        if self._down.is_set():
            self._start()
        if reader is not self._reader:
            self._watch_instead_of(self._reader, reader)
        self._step(timeout)
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _step(self, timeout: float | None) -> None:
        reactor = self.reactor
        due = reactor.timeout()
        if due is not None and (timeout is None or due < timeout):
            timeout = due
        reactor.doIteration(0 if reactor._stopped else timeout)
        reactor.runUntilCurrent()

    def _watch_instead_of(self, old: Any, new: Any) -> None:
        """Only one loop of the thread waits: what another has ready must not wake it."""
        if old is not None and old is self._reader:
            self.reactor.removeReader(old)
            self._reader = None
        if new is not None:
            self.reactor.addReader(new)
            self._reader = new

    # Start and end

    def _start(self) -> None:
        if self.reactor.running:
            raise RuntimeError(
                "Twisted's reactor is running already, so a loop cannot run it: use pollux_twisted.attach() inside it"
            )
        self._down.clear()
        self.reactor.addSystemEventTrigger("after", "shutdown", self._has_shut_down)
        # Daemons, so that a process can end whose loop was never closed; Twisted's shutdown ends them.
        self.reactor.getThreadPool().threadFactory = partial(threading.Thread, daemon=True)
        if threading.current_thread() is threading.main_thread():
            self._hear(signal.SIGINT, self._interrupt)
            self._hear(signal.SIGTERM, self.reactor.sigTerm)
            self._hear(signal.SIGCHLD, self._child_ended)
            reapAllProcesses()  # those that ended before
        self.reactor.startRunning(installSignalHandlers=False)

    def _hear(self, number: int, handler: Any) -> None:
        """Handle a signal that nobody else does. In Python: the wake-up descriptor of the process is the loop's."""
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            self._handlers[number] = handler, signal.signal(number, handler)
            signal.siginterrupt(number, False)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """SIGINT. What Python raises in the middle of a Twisted callback, Twisted logs; so it is raised by the wait. A
        second one, while the first has not been heard, is raised where it comes.
        """
        if self._interrupted:
            signal.default_int_handler(number, frame)
        self._interrupted = True
        self.reactor.callFromThread(int)  # ends the wait

    def _child_ended(self, _number: int, _frame: FrameType | None) -> None:
        self.reactor.callFromThread(reapAllProcesses)

    def _shut_down(self) -> None:
        """Fire the shutdown triggers, unless that was done, and leave the reactor as it was before its start."""
        if self._down.is_set() or not self.mine():
            return
        self.reactor.fireSystemEvent("shutdown")
        while not self._down.is_set():
            self._step(None)  # "before" triggers may take their time, as ever with Twisted
        if not self.reactor._startedBefore:
            self.reactor.addSystemEventTrigger("during", "shutdown", self.reactor.crash)
            self.reactor.addSystemEventTrigger("during", "shutdown", self.reactor.disconnectAll)

    def _has_shut_down(self) -> None:
        """The last that happens at a shutdown."""
        self._down.set()
        self._reader = None
        self.over = self.reactor._startedBefore  # it was `reactor.stop()`
        if threading.current_thread() is threading.main_thread():
            for number, (handler, before) in self._handlers.items():
                if signal.getsignal(number) == handler:
                    signal.signal(number, before)
        self._handlers.clear()
        loop = asyncio._get_running_loop()
        if loop is not None:
            loop.stop()


_driver: Driver | None = None
_lock = threading.Lock()  # loops of several threads may begin at once


def driver() -> Driver:
    """Return the process's driver. Imports the reactor, which installs Twisted's default one if there is none."""
    global _driver
    with _lock:
        if _driver is None:
            from twisted.internet import reactor

            _driver = Driver(reactor)
            deferreds.teach()
        return _driver
