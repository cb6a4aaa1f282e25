"""What is particular to epoll(7): `poll` is the C method, and what stands in for it while a regular file is watched."""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pollux.poller import READ, WRITE
from pollux.testing.descriptors import checked, socket_pair

if sys.platform != "linux":
    pytest.skip("epoll is a system call of Linux", allow_module_level=True)

from pollux_backends.io_epoll import EpollPoller


@pytest.fixture
def poller() -> Iterator[EpollPoller]:
    poller = EpollPoller()
    yield poller
    poller.close()


@pytest.fixture
def regular(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def is_c_method(poller: EpollPoller) -> bool:
    return isinstance(getattr(poller.poll, "__self__", None), select.epoll)


def test_poll_is_the_c_method_unless_an_always_ready_descriptor_has_interest(poller: EpollPoller, regular: int) -> None:
    with socket_pair() as (ours, _):
        poller.register(ours.fileno(), READ | WRITE)
        assert is_c_method(poller)
        poller.register(regular, READ)
        assert not is_c_method(poller)
        poller.modify(regular, 0)
        assert is_c_method(poller)
        poller.modify(regular, WRITE)
        assert not is_c_method(poller)
        poller.unregister(regular)
        assert is_c_method(poller)


def test_the_bell_is_opened_and_closed_with_the_need_for_it(poller: EpollPoller, regular: int) -> None:
    before = os.listdir("/proc/self/fd")
    poller.register(regular, READ)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    poller.unregister(regular)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    poller.register(regular, READ)
    poller.close()
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1, "the epoll descriptor is closed, and the bell with it"


def test_a_forked_child_that_closes_leaves_the_set_of_its_parent_alone(poller: EpollPoller, regular: int) -> None:
    """fork(2) shares the set: what the child took out of it, the parent would miss."""
    poller.register(regular, READ)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            poller.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert select.select([poller.fileno()], [], [], 0)[0], "the bell still rings in the parent"
    assert checked(poller.poll(None)) == {regular: READ}
    poller.unregister(regular)
    assert is_c_method(poller)
    poller.close()


def test_a_bell_that_another_process_took_out_of_the_set_is_forgiven(poller: EpollPoller, regular: int) -> None:
    poller.register(regular, READ)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            poller.unregister(regular)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not select.select([poller.fileno()], [], [], 0)[0], "the child has silenced the bell"
    poller.unregister(regular)
    assert is_c_method(poller)


def test_a_socket_that_takes_the_number_of_a_regular_file_is_watched_by_the_kernel(
    poller: EpollPoller, tmp_path: Path
) -> None:
    """Registered over the old entry, which nobody took out: the kernel's word counts."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        with socket_pair() as (new, peer):
            poller.register(fd, READ)
            os.dup2(new.fileno(), fd)
            poller.register(fd, READ)
            assert is_c_method(poller)
            assert poller.poll(0) == []
            peer.send(b"x")
            assert checked(poller.poll(None)) == {fd: READ}
            poller.unregister(fd)
    finally:
        os.close(fd)


def test_modify_follows_a_number_from_socket_to_regular_file_and_on(poller: EpollPoller, regular: int) -> None:
    with socket_pair() as (old, _):
        fd = os.dup(old.fileno())
        try:
            poller.register(fd, READ)
            old.close()
            os.dup2(regular, fd)
            poller.modify(fd, READ | WRITE)
            assert checked(poller.poll(None)) == {fd: READ | WRITE}
            poller.unregister(fd)
            assert poller.poll(0) == []
        finally:
            os.close(fd)
