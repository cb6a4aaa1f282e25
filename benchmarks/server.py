"""Run a server for a while: pinned, in a session of its own, awaited by connecting, killed as a whole.

A session (setsid(2)) of its own is what lets the measuring find a server's workers and the end kill every one of them,
and it keeps the terminal's Ctrl-C for this process alone.
"""

import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import measure

START_SECONDS = 20.0
END_SECONDS = 5.0
ENDINGS = (signal.SIGINT, signal.SIGTERM)


class ServerError(Exception):
    """A server did not start, died or could not be stopped. Carries its command and the end of its stderr."""


def interruptible() -> None:
    """Let SIGINT and SIGTERM both raise KeyboardInterrupt, which ends every server on its way out.

    SIGINT too, since a shell starts its background jobs with that ignored.
    """
    for number in ENDINGS:
        signal.signal(number, signal.default_int_handler)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(label: str, command: Sequence[str], port: int, core: int, cwd: Path | None = None) -> Iterator[int]:
    """Run `command` on one core until the block ends; yield its session id once `port` accepts connections.

    :raises ServerError: it ended, or `port` was not open within 20 s. The message holds the end of its stderr.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: _prepare(core),
        )
        try:
            reason = _await_port(process, port)
            if reason is None:
                yield process.pid
                if process.poll() is not None:
                    reason = f"died while it was measured (status {process.returncode})"
            if reason is not None:
                said.seek(0)
                words = said.read().decode(errors="replace").strip()[-2000:]
                raise ServerError(f"{label} {reason}\n  command: {' '.join(command)}\n  it said: {words or 'nothing'}")
        finally:
            _kill(process)


def _prepare(core: int) -> None:
    """Pin the new process, and let it open as many descriptors as it may: the usual soft limit is 1,024."""
    os.sched_setaffinity(0, {core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _await_port(process: subprocess.Popen[bytes], port: int) -> str | None:
    """Return None once the port is open, else why it will not be."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with status {process.returncode} before it listened"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return None
    return f"did not listen on port {port} within {START_SECONDS:.0f} s"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole session and wait until it is gone: a dying worker must not take the next one's CPU time."""
    # A second Ctrl-C must not leave half of them alive.
    previous = [(number, signal.signal(number, signal.SIG_IGN)) for number in ENDINGS]
    try:
        deadline = time.monotonic() + END_SECONDS
        while True:
            # A worker may have a process group of its own, and may be forked between listing and killing.
            left = measure.processes(process.pid)
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not left:
                break
            if time.monotonic() > deadline:
                raise ServerError(f"processes {left} do not end, even killed")
            time.sleep(0.002)
        process.wait()
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
