"""The loop on every backend that is usable here, and a poller that counts."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from pollux import registry
from pollux.backend import Backend
from pollux.poller import EventList, Poller

BACKENDS = {backend.name: backend for backend in registry.backends()}


def usable(name: str) -> Backend:
    """Return the backend, or skip with its own reason."""
    if reason := registry.unusable(BACKENDS[name]):
        pytest.skip(f"{name}: {reason}")
    return BACKENDS[name]


class CountingPoller:
    """A poller that counts its polls, and can be held back before one."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self.register, self.modify, self.unregister = poller.register, poller.modify, poller.unregister
        self.close = poller.close
        self.polls = 0
        self.falls_asleep: Callable[[], None] = lambda: None

    def poll(self, timeout: float | None, /) -> EventList:
        self.polls += 1
        if timeout is None:
            self.falls_asleep()
        return self._poller.poll(timeout)


class Counted:
    """A backend whose only poller is at hand."""

    def __init__(self, backend: Backend) -> None:
        self.poller = CountingPoller(backend.create())
        self.backend = Backend(backend.name, "counts its polls", lambda: self.poller)


class CountingWaker:
    """Stands in for the socket that wakes the loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.writes = sock, 0

    def send(self, data: bytes) -> int:
        self.writes += 1
        return self.sock.send(data)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


def run_script(backend: str, script: str) -> str:
    """Run `script` in a process of its own, with `backend` as its `sys.argv[1]`; return what it prints."""
    usable(backend)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def in_thread(target: Callable[[], object]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=target)
    thread.start()
    return thread
