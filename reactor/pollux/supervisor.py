"""`Supervisor`: worker processes, kept running by a parent that does nothing else.

What the outside world fixes
----------------------------
* fork(2) copies one thread, and whatever locks and loops the others held: the parent has neither threads nor a loop,
  and loads nothing of the application. A worker that is replaced therefore runs the code as it is on disk by then.
* A signal handler may run between any two instructions, so handlers only note the number; the wake-up descriptor of
  `signal.set_wakeup_fd` ends the wait.
* A worker whose parent is killed would go on for ever, and hold the port. A pipe that only the parent can write to
  tells: it reports the end of file when the parent is gone.

What was decided
----------------
* A worker says when it is ready. One that ends before anything ever was ready is a mistake of the operator's: all
  stop, with its exit code. One that ends later is started again, at once if it has lived for `HEALTHY` seconds, else
  after a pause that doubles up to `LONGEST_PAUSE`.
* SIGHUP replaces the workers one by one: the new one has to be ready before the old one is asked to end, so capacity
  never drops; if it does not get ready, the old one stays, and so do the rest.
* SIGTERM and SIGINT go to all workers, once more for a second one; what is left after `grace` seconds is killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from pollux.log import gen_log
from pollux.poller import READ

if TYPE_CHECKING:
    from pollux.ioloop import IOLoop

HEALTHY = 10.0  # seconds: a worker that has lived for so long did not die of how it starts
FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 30.0  # seconds: a database that is away for minutes should find its clients soon after it is back
WATCH_INTERVAL = 0.5  # seconds between two looks at the files, with a `watch`
INTERRUPTED = 130  # a shell's code for a process that Ctrl-C ended (128 + SIGINT)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Link:
    """A worker's connection to its supervisor.

    :ivar number: of the worker, from 0; a replacement has its predecessor's.
    :ivar fd: becomes readable when the supervisor is gone.
    """

    def __init__(self, number: int, fd: int, ready_fd: int) -> None:
        self.number = number
        self.fd = fd
        self._ready_fd = ready_fd

    def ready(self) -> None:
        """Say that this worker serves from now on. Further calls do nothing."""
        if self._ready_fd >= 0:
            os.write(self._ready_fd, b"\n")
            os.close(self._ready_fd)
            self._ready_fd = -1


@dataclass
class _Worker:
    number: int
    pid: int
    pipe: int  # readable when it is ready, or dead
    started: float
    ready: bool = False
    replaces: _Worker | None = None
    asked: bool = False  # to end
    kill_at: float | None = None


@dataclass
class _Place:
    """One of the numbers: when its next worker is due, and how often in a row one died early."""

    due: float | None = 0.0
    crashes: int = 0


@dataclass
class Supervisor:
    """Runs `work` in `count` processes.

    :param work: called in each worker with its `Link`; returns the exit code. It handles SIGTERM and SIGINT.
    :param count: how many workers.
    :param grace: seconds that a worker gets to end.
    :param watch: asked every `WATCH_INTERVAL` seconds for what has changed: a text for the log, or None. A change
        replaces all workers, and one that does not get ready waits for the next change.
    """

    work: Callable[[Link], int]
    count: int
    grace: float
    watch: Callable[[], str | None] | None = None
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _places: list[_Place] = field(default_factory=list)
    _rolling: list[_Worker] = field(default_factory=list)  # still to be replaced
    _signals: list[int] = field(default_factory=list)
    _ending: int | None = None  # the signal or the exit code that ends it all
    _exit_code: int = 0
    _served: bool = False  # a worker has been ready

    def run(self) -> int:
        """Supervise until a signal ends it; return the exit code: 0 after SIGTERM, 130 after SIGINT, a worker's own if
        it could not start.

        :raises ValueError: not called in the main thread (signal(7) handlers are the main thread's).
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("Supervisor.run() is for the main thread: signals reach no other")
        self._alive_read, self._alive_write = os.pipe()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda received, frame: self._signals.append(received))
        self._places = [_Place() for _ in range(self.count)]
        try:
            while True:
                timeout = self._turn()
                if self._ending is not None and not self._workers:
                    return self._exit_code
                self._wait(timeout)
        finally:
            for worker in list(self._workers.values()):
                self._kill(worker, signal.SIGKILL)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            for fd in (self._alive_read, self._alive_write):
                os.close(fd)
            self._wake_read.close()
            self._wake_write.close()

    # A turn

    def _turn(self) -> float | None:
        """Do what is due; return the seconds until more is, None if only a signal or a worker can bring it."""
        while self._signals:
            self._signalled(self._signals.pop(0))
        self._reap()
        if self._ending is None and self.watch is not None and (changed := self.watch()) is not None:
            gen_log.info("%s has changed: reloading", changed)
            self._reload()
        now = time.monotonic()
        if self._ending is None:
            for number, place in enumerate(self._places):
                if place.due is not None and place.due <= now:
                    place.due = None
                    self._start(number)
            self._roll()
        times = [worker.kill_at for worker in self._workers.values() if worker.kill_at is not None]
        for worker in list(self._workers.values()):
            if worker.kill_at is not None and worker.kill_at <= now:
                gen_log.warning("worker %d does not end: killed", worker.pid)
                worker.kill_at = None
                self._kill(worker, signal.SIGKILL)
        if self._ending is None:
            times += [place.due for place in self._places if place.due is not None]
            if self.watch is not None:
                times.append(now + WATCH_INTERVAL)
        return max(0.0, min(times) - now) if times else None

    def _wait(self, timeout: float | None) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        pipes = {worker.pipe: worker for worker in self._workers.values() if worker.pipe >= 0}
        for pipe in pipes:
            poller.register(pipe, select.POLLIN)
        for fd, _ in poller.poll(None if timeout is None else timeout * 1000 + 1):
            worker = pipes.get(fd)
            if worker is None:
                self._wake_read.recv(4096)
                continue
            if os.read(fd, 1):
                self._became_ready(worker)
            os.close(fd)  # readiness is all it tells; its end comes by SIGCHLD
            worker.pipe = -1

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and self._ending is None:
            gen_log.info("SIGHUP: replacing %d workers", len(self._places))
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._end(INTERRUPTED if number == signal.SIGINT else 0)

    def _end(self, code: int) -> None:
        if self._ending is None:
            self._exit_code = code
        self._ending = code
        for worker in self._workers.values():
            self._ask(worker, again=True)

    # Workers

    def _start(self, number: int, replaces: _Worker | None = None) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._become_worker(Link(number, self._alive_read, writing))
        os.close(writing)
        self._workers[pid] = _Worker(number, pid, reading, time.monotonic(), replaces=replaces)

    def _become_worker(self, link: Link) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal's goes to all: it is the supervisor's to act on
            os.close(self._alive_write)
            self._wake_read.close()
            self._wake_write.close()
            for worker in self._workers.values():
                if worker.pipe >= 0:
                    os.close(worker.pipe)
            code = self.work(link)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)  # not by way of the caller: its `finally` blocks are the supervisor's

    def _became_ready(self, worker: _Worker) -> None:
        worker.ready = self._served = True
        if worker.replaces is not None:
            self._ask(worker.replaces)
            worker.replaces = None

    def _ask(self, worker: _Worker, again: bool = False) -> None:
        """Ask a worker to end; ask it once more to end at once."""
        if not worker.asked or again:
            worker.asked = True
            self._kill(worker, signal.SIGTERM)
            if worker.kill_at is None:
                worker.kill_at = time.monotonic() + self.grace

    def _kill(self, worker: _Worker, number: int) -> None:
        try:
            os.kill(worker.pid, number)
        except ProcessLookupError:
            pass

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                if worker.pipe >= 0:
                    if os.read(worker.pipe, 1):
                        self._became_ready(worker)
                    os.close(worker.pipe)
                del self._workers[pid]
                if worker in self._rolling:
                    self._rolling.remove(worker)
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        place = self._places[worker.number]
        if self._ending is not None:
            return
        if worker.asked:
            if not self._occupied(worker.number):
                place.due = 0.0
            return
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if worker.replaces is not None:
            gen_log.error("worker %d, a replacement, ended %s before it was ready: the old ones stay", worker.pid, how)
            self._rolling.clear()
            return
        if self.watch is not None and not worker.ready:
            gen_log.error("worker %d ended %s before it was ready: waiting for a change", worker.pid, how)
            return
        if not self._served:
            self._end(code if code > 0 else 1)
            return
        lived = time.monotonic() - worker.started
        place.crashes = 0 if lived >= HEALTHY else place.crashes + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (place.crashes - 2)) if place.crashes > 1 else 0.0
        when = f"in {pause:g} s" if pause else "now"
        gen_log.error("worker %d ended %s: another one starts %s", worker.pid, how, when)
        place.due = time.monotonic() + pause

    def _occupied(self, number: int) -> bool:
        return any(worker.number == number and not worker.asked for worker in self._workers.values())

    def _reload(self) -> None:
        if self.watch is None:
            self._rolling = [worker for worker in self._workers.values() if not worker.asked]
        else:  # for development: whoever waits for an answer wants that of the new code
            for number, place in enumerate(self._places):
                if not any(worker.number == number for worker in self._workers.values()):
                    place.due = 0.0
            for worker in self._workers.values():
                self._ask(worker)

    def _roll(self) -> None:
        """Start the next replacement, if none is on its way."""
        if self._rolling and not any(worker.replaces is not None for worker in self._workers.values()):
            old = self._rolling.pop(0)
            if old.pid in self._workers and not old.asked:
                self._start(old.number, old)


def watch_link(link: Link, loop: IOLoop, callback: Callable[[], object]) -> None:
    """Call `callback` once, on `loop`, when the supervisor of `link` is gone."""

    def gone(fd: int, events: int) -> None:
        loop.remove_handler(fd)
        callback()

    loop.add_handler(link.fd, gone, READ)
