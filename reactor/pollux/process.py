"""Several processes: workers made by fork(2), and subprocesses whose pipes are streams.

What the outside world fixes
----------------------------
* A loop does not survive fork(2): its poller's descriptor is shared with the parent (see `forking.py`). So workers are
  forked before a loop runs.
* An exit is told by SIGCHLD, of which a process has one handler, in its main thread; or by a process descriptor
  (pidfd_open(2), Linux 5.3), which a poller reports as readable once the process has exited, in any thread.

What was decided
----------------
* `Subprocess` watches a process descriptor and, where there is none, lets a thread wait. Tornado's SIGCHLD handler
  conflicts with everybody else's; `initialize` and `uninitialize` are kept, and have nothing to do.
* The process that forked its workers takes them along when it ends, by an error or by SIGTERM: workers without it would
  go on to hold the port.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from io import FileIO
from typing import Any, NoReturn

from pollux.ioloop import IOLoop
from pollux.iostream import PipeIOStream
from pollux.log import gen_log
from pollux.poller import READ
from pollux.stack_context import wrap

MAX_RESTARTS = 100  # Tornado's: enough for years of rare crashes, and the end of a worker that crashes at its start

_task_id: int | None = None


def cpu_count() -> int:
    """Return the number of processors that this process may use, at least 1 (sched_getaffinity(2), on Linux)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def task_id() -> int | None:
    """Return the number that `fork_processes` gave to this worker; None in a process that it did not make."""
    return _task_id


def fork_processes(num_processes: int | None, max_restarts: int | None = None) -> int:
    """Fork workers and watch over them. It returns in each worker, and never in the calling process.

    A worker that ends with an exit code other than 0, or by a signal, is started again under its number. When all
    have ended with 0, the calling process exits with 0; on SIGTERM it sends that to its workers, and ends by it too.

    :param num_processes: how many; None or a number below 1 means `cpu_count`.
    :param max_restarts: how many restarts in all; None means 100.
    :returns: in a worker: its number, from 0, also what `task_id` returns.
    :raises RuntimeError: a loop is running; or, in the calling process, there were too many restarts: the workers that
        are left have been sent SIGTERM.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("fork_processes: a loop is running, and a loop does not survive fork(): fork before start()")
    if num_processes is None or num_processes <= 0:
        num_processes = cpu_count()
    restarts = MAX_RESTARTS if max_restarts is None else max_restarts
    gen_log.info("starting %d workers", num_processes)
    workers: dict[int, int] = {}  # pid -> number
    pass_on = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and (
        threading.current_thread() is threading.main_thread()
    )
    if pass_on:
        signal.signal(signal.SIGTERM, _exit_by)

    def start(number: int) -> bool:
        """Fork; return whether this is the worker."""
        global _task_id
        pid = os.fork()
        if pid:
            workers[pid] = number
            return False
        workers.clear()
        if pass_on:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _task_id = number
        return True

    try:
        for number in range(num_processes):
            if start(number):
                return number
        while workers:
            pid, status = os.wait()
            if pid not in workers:
                continue  # somebody else's child
            number = workers.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                gen_log.info("worker %d (pid %d) exited normally", number, pid)
                continue
            how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
            if restarts == 0:
                raise RuntimeError(f"worker {number} (pid {pid}) {how}, and there were too many restarts: giving up")
            restarts -= 1
            gen_log.warning("worker %d (pid %d) %s: starting it again", number, pid, how)
            if start(number):
                return number
    except BaseException:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        raise
    sys.exit(0)


def _exit_by(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


class Subprocess:
    """`subprocess.Popen`, with streams for pipes and the exit in the loop.

    :param args: and `kwargs`: as `subprocess.Popen` takes them. `stdin`, `stdout` and `stderr` may also be
        `Subprocess.STREAM`: the attribute of that name is then a `pollux.iostream.PipeIOStream`; the caller closes it.
        `io_loop`, up to Tornado 4, is the loop that is told of the exit; by default the current one.
    :raises OSError: the program cannot be started; nothing is left open.

    `proc` is the Popen, `pid` its number, and `returncode` None until its exit was told of.
    """

    STREAM = object()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.io_loop: IOLoop = kwargs.pop("io_loop", None) or IOLoop.current()
        self.returncode: int | None = None
        self._callback: Callable[[int], Any] | None = None
        self._waiters: list[tuple[asyncio.Future[int], bool]] = []
        self._watching = False
        ours: dict[str, int] = {}
        theirs: list[int] = []
        try:
            for name in ("stdin", "stdout", "stderr"):
                if kwargs.get(name) is Subprocess.STREAM:
                    reader, writer = os.pipe()
                    ours[name], kwargs[name] = (writer, reader) if name == "stdin" else (reader, writer)
                    theirs.append(kwargs[name])
            self.proc = subprocess.Popen(*args, **kwargs)
        except BaseException:
            for fd in ours.values():
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.pid = self.proc.pid
        self.stdin: Any = PipeIOStream(ours["stdin"]) if "stdin" in ours else self.proc.stdin
        self.stdout: Any = PipeIOStream(ours["stdout"]) if "stdout" in ours else self.proc.stdout
        self.stderr: Any = PipeIOStream(ours["stderr"]) if "stderr" in ours else self.proc.stderr

    def set_exit_callback(self, callback: Callable[[int], Any]) -> None:
        """Call `callback(returncode)` in the loop once the process has exited, also if it has by now.

        The code is negative for a signal, as `subprocess.Popen.returncode` has it. A second call replaces the callback.
        """
        self._callback = wrap(callback)
        self._watch()

    def wait_for_exit(self, raise_error: bool = True) -> asyncio.Future[int]:
        """Wait until the process has exited.

        :param raise_error: treat a code other than 0 as an error.
        :returns: a future of the return code. Cancelling it leaves the process alone.
        :raises subprocess.CalledProcessError: from the future.
        """
        future: asyncio.Future[int] = self.io_loop.create_future()
        self._waiters.append((future, raise_error))
        self._watch()
        return future

    @staticmethod
    def initialize(io_loop: IOLoop | None = None) -> None:
        """Do nothing: Tornado's programs call this to set its SIGCHLD handler, and there is none here."""

    @staticmethod
    def uninitialize() -> None:
        """Do nothing, as `initialize`."""

    def _watch(self) -> None:
        if self.returncode is not None:
            self.io_loop.add_callback(self._exited)
        elif not self._watching:
            self._watching = True
            pidfd = None
            try:
                pidfd = FileIO(
                    os.pidfd_open(self.pid)
                )  # an object: it is closed with a loop that ends before the process
                self.io_loop.add_handler(pidfd, self._on_pidfd, READ)
            except (AttributeError, OSError, ValueError):  # no such call; no more descriptors; one too high for select
                if pidfd is not None:
                    pidfd.close()
                threading.Thread(target=self._wait_in_thread, daemon=True).start()

    def _on_pidfd(self, pidfd: Any, events: int) -> None:
        self.io_loop.remove_handler(pidfd)
        pidfd.close()
        self._exited()

    def _wait_in_thread(self) -> None:
        self.proc.wait()
        self.io_loop.add_callback(self._exited)

    def _exited(self) -> None:
        self.returncode = code = self.proc.wait()  # it has exited: this only collects the code
        waiters, self._waiters = self._waiters, []
        for future, raise_error in waiters:
            if future.done():
                continue
            if code != 0 and raise_error:
                future.set_exception(subprocess.CalledProcessError(code, self.proc.args))
            else:
                future.set_result(code)
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(code)
