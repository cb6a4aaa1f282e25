"""Real descriptors for the conformance suites to watch, and the patience to wait for one.

Everything opened here is closed on leaving the `with` block.
"""

import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from pollux.poller import ERROR, READ, WRITE, EventList, Poller

# A poller that works answers in microseconds. This bound only turns a hang into a failure.
PATIENCE = 10.0

OPEN_FILES = Path("/proc/self/fd")

# What `modify` and `unregister` may raise for a descriptor that is not registered.
UNKNOWN = (KeyError, FileNotFoundError)


def checked(events: EventList) -> dict[int, int]:
    """Return a poller's list as a dict, after checking its form: each fd once, with some of the contract's bits."""
    assert isinstance(events, list), f"poll returned {type(events).__name__}, expected a list of (fd, events)"
    ready = dict(events)
    assert len(ready) == len(events), f"a descriptor stands twice in {events}"
    for fd, bits in events:
        assert bits != 0, f"fd {fd} is reported without events in {events}"
        assert not bits & ~(READ | WRITE | ERROR), f"fd {fd} has bits {bits:#x}, expected READ, WRITE and ERROR only"
    return ready


def wait_for(poller: Poller, fd: int, wanted: int) -> int:
    """Poll until `fd` reports any of the `wanted` bits, and return all of its events."""
    deadline = time.monotonic() + PATIENCE
    ready: dict[int, int] = {}
    while (left := deadline - time.monotonic()) > 0:
        ready = checked(poller.poll(left))
        if ready.get(fd, 0) & wanted:
            return ready[fd]
    pytest.fail(f"fd {fd} did not report any of {wanted:#x} within {PATIENCE} s; the last list was {ready}")


def settle(poller: Poller, fd: int, unwanted: int) -> None:
    """Fail if `fd` goes on reporting any `unwanted` bit: once or twice is spurious readiness, for ever is a spin."""
    for _ in range(100):
        bits = checked(poller.poll(0)).get(fd, 0)
        if not bits & unwanted:
            return
    pytest.fail(
        f"fd {fd} goes on reporting {bits:#x} although {unwanted:#x} is not, or no longer, true: a loop would spin"
    )


def drain(sock: socket.socket) -> int:
    """Read all that is there; return the number of bytes."""
    count = 0
    try:
        while data := sock.recv(65536):
            count += len(data)
    except BlockingIOError:
        pass
    return count


def fill(sock: socket.socket) -> None:
    """Write until the kernel takes no more."""
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        pass


def open_files() -> dict[str, str]:
    """Each open descriptor of this process and what it is; empty where there is no /proc."""
    found = {}
    if OPEN_FILES.is_dir():
        for name in os.listdir(OPEN_FILES):
            try:
                found[name] = os.readlink(OPEN_FILES / name)
            except OSError:  # the descriptor of the listing itself
                pass
    return found


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail if more or fewer descriptors are open afterwards than before."""
    before = open_files()
    yield
    after = open_files()
    leaked = {fd: after[fd] for fd in after.keys() - before.keys()}
    assert len(after) == len(before), f"{len(before)} descriptors before the test, {len(after)} after: {leaked}"


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets, not blocking."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        yield ours, peer


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection over the loopback interface, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), PATIENCE)
        with ours:
            peer, _ = listener.accept()
            with peer:
                ours.setblocking(False)
                peer.setblocking(False)
                yield ours, peer


@contextlib.contextmanager
def refusing_address() -> Iterator[tuple[str, int]]:
    """An address where a connect is refused: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer receives a reset (SO_LINGER of zero seconds, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe; either may be closed early with `close`."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        close(reader)
        close(writer)


def close(fd: int) -> None:
    """Close `fd` if it is open. Nobody can have reused it meanwhile: no other thread of the suites opens anything."""
    try:
        os.close(fd)
    except OSError:
        pass


@contextlib.contextmanager
def files_allowed(count: int) -> Iterator[None]:
    """Allow at least `count` open files, or skip where the hard limit forbids it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < count:
        if hard != unlimited and hard < count:
            pytest.skip(f"needs {count} open files; the hard limit (ulimit -Hn) is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def alarm(seconds: float, handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Deliver SIGALRM to this process after `seconds`; skips in other threads than the main one."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach Python code in the main thread only, and this is another one")
    previous_handler = signal.signal(signal.SIGALRM, handler)
    previous_timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
        signal.setitimer(signal.ITIMER_REAL, *previous_timer)
