"""What is particular to io_uring: the system calls counted, files let go of in time, and refusals in the user's words.

The system calls are real ones everywhere: counted on their way, or refused by a real seccomp filter.
Past 500 lines because the ways to count and to refuse system calls stand beside the tests, their only users.
"""

import contextlib
import ctypes
import errno
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pollux.poller import READ, WRITE
from pollux.testing.descriptors import (
    alarm,
    checked,
    drain,
    fill,
    nothing_left_open,
    pipe,
    settle,
    socket_pair,
    wait_for,
)

if sys.platform != "linux":
    pytest.skip("io_uring is an interface of Linux", allow_module_level=True)

from pollux_backends import io_uring, uring_ring
from pollux_backends.io_uring import UringPoller

if reason := uring_ring.why_not():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def poller() -> Iterator[UringPoller]:
    with nothing_left_open():
        poller = UringPoller()
        yield poller
        poller.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the system calls made from now on."""
    made: list[int] = []
    real: Callable[..., int] = uring_ring._syscall

    def counting(number: int, *arguments: object) -> int:
        made.append(number)
        return real(number, *arguments)

    monkeypatch.setattr(uring_ring, "_syscall", counting)
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[UringPoller]:
    """A poller whose queues hold four requests and eight completions."""
    monkeypatch.setattr(io_uring, "Ring", functools.partial(uring_ring.Ring, 4, 8))
    with nothing_left_open():
        poller = UringPoller()
        yield poller
        poller.close()


# System calls


def test_changes_and_wait_cost_one_call(poller: UringPoller, calls: list[int]) -> None:
    """A hundred new descriptors, some of them modified and unregistered again, and the wait."""
    with ExitStack() as stack:
        pairs = [stack.enter_context(socket_pair()) for _ in range(100)]
        for ours, _ in pairs:
            poller.register(ours.fileno(), READ)
        for ours, _ in pairs[:20]:
            poller.modify(ours.fileno(), READ | WRITE)
        for ours, _ in pairs[10:30]:
            poller.unregister(ours.fileno())
        assert calls == []
        assert checked(poller.poll(None)) == {ours.fileno(): WRITE for ours, _ in pairs[:10]}
        assert calls == [uring_ring.ENTER]


def test_an_iteration_costs_one_call(poller: UringPoller, calls: list[int]) -> None:
    """Reported, consumed, changed, armed again: with the wait. Nor does it cost one to drop what was just reported."""
    with socket_pair() as (ours, peer), socket_pair() as (other, _):
        poller.register(ours.fileno(), READ)
        poller.register(other.fileno(), READ)
        peer.send(b"x")
        assert checked(poller.poll(None)) == {ours.fileno(): READ}
        for number in range(10):
            calls.clear()
            drain(ours)
            peer.send(b"x")
            poller.modify(ours.fileno(), READ | (WRITE if number % 2 else 0))
            ready = checked(poller.poll(None))
            assert ready == {ours.fileno(): READ | (WRITE if number % 2 else 0)}
            assert calls == [uring_ring.ENTER]
        calls.clear()
        poller.unregister(ours.fileno())
        assert calls == []
        poller.unregister(other.fileno())
        assert calls == [uring_ring.ENTER], "the kernel held the other one's file"


# Files that the kernel holds


def is_served(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


def test_unregister_lets_go_of_the_file(poller: UringPoller) -> None:
    """A listener that is closed next must not go on accepting: not even until the next poll."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    poller.register(listener.fileno(), READ)
    assert poller.poll(0) == []
    poller.modify(listener.fileno(), READ | WRITE)
    poller.unregister(listener.fileno())
    listener.close()
    assert not is_served(address)


def test_unregister_of_a_closed_descriptor_closes_the_file(poller: UringPoller) -> None:
    """Closed first: the peer learns of it when it is unregistered."""
    with socket_pair() as (ours, peer):
        fd = ours.fileno()
        poller.register(fd, READ)
        assert poller.poll(0) == []
        ours.close()
        with pytest.raises(BlockingIOError):
            peer.recv(1)
        poller.unregister(fd)
        assert peer.recv(1) == b""


def test_close_lets_go_of_all_files() -> None:
    """Before it returns, and not by and by as the kernel does when a ring goes."""
    for _ in range(20):
        poller = UringPoller()
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        poller.register(listener.fileno(), READ)
        assert poller.poll(0) == []
        listener.close()
        poller.close()
        assert not is_served(address)


def test_collected_unclosed_poller_closes_its_descriptors() -> None:
    with nothing_left_open():
        UringPoller()


# Completions


def test_stale_completion_is_not_the_new_owners(poller: UringPoller) -> None:
    """Ready, armed, unregistered, and the number reused, all between two polls."""
    with socket_pair() as (new, new_peer):
        for _ in range(20):
            with socket_pair() as (old, peer):
                fd = os.dup(old.fileno())
                poller.register(fd, READ)
                assert poller.poll(0) == []
                peer.send(b"x")
                os.dup2(new.fileno(), fd)
                poller.unregister(fd)
                poller.register(fd, READ)
                assert poller.poll(0) == []
                new_peer.send(b"y")
                assert wait_for(poller, fd, READ) == READ
                drain(new)
                poller.unregister(fd)
                os.close(fd)


def test_half_closed_peer_does_not_make_a_writer_spin(poller: UringPoller) -> None:
    """EPOLLRDHUP completes requests that did not ask for it. The wait must last until there is room to write."""
    with socket_pair() as (ours, peer):
        fill(ours)
        poller.register(ours.fileno(), WRITE)
        peer.shutdown(socket.SHUT_WR)
        for _ in range(5):
            assert poller.poll(0) == []

        def make_room(_number: int, _frame: object) -> None:
            while drain(peer):
                pass

        empty = 0
        with alarm(0.1, make_room):
            while not (events := poller.poll(None)):
                empty += 1
        assert checked(events) == {ours.fileno(): WRITE}
        assert empty <= 3, "an early return or two, not a spin"
        for _ in range(3):
            assert checked(poller.poll(None)) == {ours.fileno(): WRITE}, "level-triggered all the same"
        fill(ours)
        settle(poller, ours.fileno(), WRITE)
        poller.modify(ours.fileno(), READ)
        assert checked(poller.poll(None)) == {ours.fileno(): READ}


def test_half_closed_peer_without_interest(poller: UringPoller) -> None:
    """The same, and `ERROR` still comes."""
    with socket_pair() as (ours, peer):
        poller.register(ours.fileno(), 0)
        peer.shutdown(socket.SHUT_WR)
        settle(poller, ours.fileno(), READ | WRITE)
        peer.close()
        wait_for(poller, ours.fileno(), 0x10)
        poller.unregister(ours.fileno())


def test_full_queues_lose_nothing(small: UringPoller) -> None:
    """More requests than entries, more completions than room, cancellations on top, and both queues wrapping."""
    with ExitStack() as stack:
        watched: dict[int, tuple[socket.socket, socket.socket]] = {}
        for _ in range(100):
            ours, peer = stack.enter_context(socket_pair())
            watched[ours.fileno()] = ours, peer
            small.register(ours.fileno(), READ)
        settle(small, -1, 0)
        for turn in range(5):
            for _, peer in watched.values():
                peer.send(b"x")
            seen: set[int] = set()
            while seen != watched.keys():
                for fd, _ in small.poll(None):
                    assert drain(watched[fd][0]), "reported for nothing"
                    seen.add(fd)
            for fd in list(watched)[turn::7]:
                del watched[fd]
                small.unregister(fd)
        assert small.poll(0) == []


def test_closed_while_cancellations_fill_the_queue(small: UringPoller) -> None:
    with ExitStack() as stack:
        pairs = [stack.enter_context(socket_pair()) for _ in range(50)]
        for ours, _ in pairs:
            small.register(ours.fileno(), READ)
        small.poll(0)
        for ours, _ in pairs:
            small.modify(ours.fileno(), WRITE)
        assert {fd for fd, _ in small.poll(None)} <= {ours.fileno() for ours, _ in pairs}
        for ours, peer in pairs:
            small.unregister(ours.fileno())
            ours.close()
            assert peer.recv(1) == b""


# Threads and processes


def test_ring_follows_the_loop_into_another_thread(poller: UringPoller) -> None:
    """Armed here, polled there, and here again when that thread is gone and its requests with it."""
    with socket_pair() as (ours, peer):
        poller.register(ours.fileno(), READ)
        assert poller.poll(0) == []

        def elsewhere() -> None:
            peer.send(b"x")
            wait_for(poller, ours.fileno(), READ)
            drain(ours)
            settle(poller, ours.fileno(), READ)

        for _ in range(3):
            failed: list[BaseException] = []

            def run(failed: list[BaseException] = failed) -> None:
                try:
                    elsewhere()
                except BaseException as error:
                    failed.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            assert not failed
            peer.send(b"y")
            wait_for(poller, ours.fileno(), READ)
            drain(ours)
            settle(poller, ours.fileno(), READ)


@pytest.mark.parametrize("method", ["unregister", "close", "fileno"])
def test_other_methods_in_another_thread(method: str) -> None:
    """A loop is often closed by another thread than the one that ran it."""
    with nothing_left_open(), socket_pair() as (ours, _):
        poller = UringPoller()
        poller.register(ours.fileno(), READ)
        thread = threading.Thread(target=poller.poll, args=(0,))
        thread.start()
        thread.join()
        match method:
            case "unregister":
                poller.unregister(ours.fileno())
                assert poller.poll(0) == []
            case "fileno":
                fd = poller.fileno()
                os.fstat(fd)
                assert poller.poll(0) == []
                assert poller.fileno() == fd
        poller.close()


def test_child_leaves_the_parents_ring_alone() -> None:
    """A forked child closes its copy; what the parent watches stays watched."""
    program = """
import os, socket
from pollux.poller import READ
from pollux_backends.io_uring import UringPoller
poller = UringPoller()
ours, peer = socket.socketpair()
poller.register(ours.fileno(), READ)
assert poller.poll(0) == []
pid = os.fork()
if not pid:
    poller.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
peer.send(b"x")
print(dict(poller.poll(10)) == {ours.fileno(): READ})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


# A host that watches the ring


def test_descriptor_asked_for_once_stays_true(poller: UringPoller) -> None:
    """A host that calls `fileno` only once hears of what is registered later, and of what was not consumed."""
    watch = select.poll()
    watch.register(poller.fileno(), select.POLLIN)
    with socket_pair() as (ours, peer), pipe() as (reader, writer):
        poller.register(ours.fileno(), READ)
        poller.register(reader, READ)
        assert watch.poll(0) == []
        peer.send(b"xx")
        assert watch.poll(10_000)
        assert checked(poller.poll(0)) == {ours.fileno(): READ}
        assert ours.recv(1)
        assert watch.poll(0), "one byte is left"
        assert checked(poller.poll(0)) == {ours.fileno(): READ}
        drain(ours)
        assert poller.poll(0) == [], "what it was armed for is consumed, and that is not reported"
        assert watch.poll(0) == []
        poller.modify(ours.fileno(), WRITE)
        assert watch.poll(10_000)
        poller.unregister(ours.fileno())
        assert poller.poll(0) == []
        assert watch.poll(0) == []
        os.write(writer, b"x")
        assert watch.poll(10_000)
        assert checked(poller.poll(0)) == {reader: READ}


# The kernel's forms


def test_forms_have_the_kernels_sizes() -> None:
    """<linux/io_uring.h>: struct io_uring_params, io_sqring_offsets, io_uring_sqe, io_uring_cqe."""
    assert ctypes.sizeof(uring_ring._Parameters) == 120
    assert ctypes.sizeof(uring_ring._QueueOffsets) == 40
    assert io_uring._ENTRY.size == uring_ring.SUBMISSION_SIZE == 64
    assert uring_ring._COMPLETION.size == 16


# Refusals

DENY = """
import ctypes, struct, sys
number, error = map(int, sys.argv[1:3])
# seccomp(2), <linux/filter.h>: load the number of the call; if it is ours, fail with the errno; else allow.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
zero = ctypes.c_ulong(0)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
if prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) or prctl(
    PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero
):
    sys.exit(f"no filter: errno {ctypes.get_errno()}")
import pollux
from pollux.cli import main
try:
    pollux.new_event_loop(backend="io_uring")
except pollux.BackendError as refusal:
    print(refusal, file=sys.stderr)
sys.exit(main(["backends", "--json"]))
"""


@pytest.mark.parametrize("call", [uring_ring.SETUP, uring_ring.ENTER], ids=["setup", "enter"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errno.EPERM, "seccomp filter"),
        (errno.EACCES, "seccomp filter"),
        (errno.ENOSYS, "a sandbox hides it"),
        (errno.EINVAL, "expected Linux 6.1 or newer"),
        (errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=["EPERM", "EACCES", "ENOSYS", "EINVAL", "ENOMEM"],
)
def test_denied_system_call(call: int, error: int, expected: str) -> None:
    """A real filter denies it. Both the list and the choice by name say why; nothing else is affected."""
    command = [sys.executable, "-c", DENY, str(call), str(error)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no filter" in done.stderr:
        pytest.skip(f"this machine has no seccomp: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    listed = {backend["name"]: backend for backend in json.loads(done.stdout)["backends"]}
    reason = listed["io_uring"]["reason"]
    assert listed["io_uring"]["available"] is False
    assert expected in reason
    assert "io_uring_setup" in reason or "io_uring_enter" in reason
    assert "\n" not in reason
    assert listed["epoll"]["chosen"] is True
    assert done.stderr.startswith("backend 'io_uring'")
    assert reason in done.stderr


@pytest.mark.parametrize(("value", "expected"), [("1\n", "CAP_SYS_ADMIN"), ("2\n", "is 2, expected 0")])
def test_switched_off_by_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    """The words for the kernel's own switch. It is the whole machine's, so a file stands in for it here."""
    switch = tmp_path / "io_uring_disabled"
    switch.write_text(value)
    monkeypatch.setattr(uring_ring, "_SYSCTL", switch)
    reason = uring_ring._reason(PermissionError(errno.EPERM, "io_uring_setup: Operation not permitted"))
    assert expected in reason
    assert "seccomp" not in reason


def test_no_descriptor_left_for_it() -> None:
    """Out of descriptors: an error with words, and none leaked half way."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with nothing_left_open(), ExitStack() as stack:
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
        for fd in held:
            stack.callback(os.close, fd)
        try:
            for room in (1, 2):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + room, hard))
                with contextlib.suppress(OSError):  # from Python 3.13 on, one is enough
                    UringPoller().close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_interrupted_wait_keeps_what_was_reported(poller: UringPoller) -> None:
    """An exception of a signal handler, raised when the wait is over and before its completions are taken."""

    class FromHandlerError(Exception):
        pass

    def handler(_number: int, _frame: object) -> None:
        peer.send(b"x")
        raise FromHandlerError

    with socket_pair() as (ours, peer):
        poller.register(ours.fileno(), READ)
        for _ in range(5):
            with pytest.raises(FromHandlerError), alarm(0.01, handler):
                while True:
                    poller.poll(None)
            assert wait_for(poller, ours.fileno(), READ) == READ
            drain(ours)
            settle(poller, ours.fileno(), READ)
        assert signal.getsignal(signal.SIGALRM) is not handler
