"""What is particular to select(2): FD_SETSIZE, and EBADF for the whole call because of one descriptor."""

import os

import pytest

from pollux.errors import FdLimitError
from pollux.poller import ERROR, READ, WRITE
from pollux.testing.descriptors import checked, socket_pair
from pollux_backends.io_select import SelectPoller


def test_refuses_fd_setsize_and_says_what_to_do() -> None:
    poller = SelectPoller()
    poller.register(1023, 0)  # the last one; whether it is open does not matter here
    with pytest.raises(FdLimitError, match=r"fd 1024: .* below FD_SETSIZE \(1024\); choose the poll, epoll or kqueue"):
        poller.register(1024, READ)
    with pytest.raises(FileNotFoundError):
        poller.unregister(1024)
    assert poller.poll(0) == []


def test_negative_descriptor_is_refused_at_once() -> None:
    """A closed socket's fileno() is -1; later it would fail every poll."""
    with pytest.raises(ValueError, match="not -1; was the file closed already"):
        SelectPoller().register(-1, READ)


def test_closed_descriptors_are_reported_beside_the_ready_ones() -> None:
    poller = SelectPoller()
    with socket_pair() as (ours, peer), socket_pair() as (a, b):
        closed = {a.fileno(), b.fileno()}
        poller.register(a.fileno(), READ)
        poller.register(b.fileno(), WRITE)
        poller.register(ours.fileno(), READ | WRITE)
        a.close()
        b.close()
        peer.send(b"x")
        expected = {ours.fileno(): READ | WRITE} | dict.fromkeys(closed, ERROR)
        assert checked(poller.poll(None)) == expected, "and without waiting, even if the caller sets no limit"
        for fd in closed:
            poller.unregister(fd)
        assert checked(poller.poll(None)) == {ours.fileno(): READ | WRITE}


def test_closed_descriptor_without_interest_is_not_asked_about() -> None:
    poller = SelectPoller()
    fd = os.dup(0)
    poller.register(fd, 0)
    os.close(fd)
    assert poller.poll(0) == []
