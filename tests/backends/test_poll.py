"""What is particular to poll(2): the kernel's list is handed on, save POLLNVAL; milliseconds; numbers, not files."""

import os
import select

import pytest

from pollux.poller import ERROR, READ, WRITE
from pollux.testing.descriptors import checked, socket_pair
from pollux_backends import io_poll, plugin
from pollux_backends.io_poll import PollPoller


def test_closed_descriptor_becomes_error_and_leaves_the_others_as_they_are() -> None:
    assert select.POLLNVAL == io_poll.POLLNVAL
    poller = PollPoller()
    with socket_pair() as (ours, _), socket_pair() as (gone, _):
        fd = gone.fileno()
        poller.register(fd, READ)
        poller.register(ours.fileno(), WRITE)
        gone.close()
        assert checked(poller.poll(None)) == {fd: ERROR, ours.fileno(): WRITE}


def test_reused_number_is_watched_for_its_new_owner() -> None:
    """The kernel is told numbers afresh at each call, so nothing is stale."""
    poller = PollPoller()
    with socket_pair() as (old, _), socket_pair() as (new, peer):
        fd = os.dup(old.fileno())
        try:
            poller.register(fd, READ)
            os.dup2(new.fileno(), fd)
            peer.send(b"x")
            assert checked(poller.poll(None)) == {fd: READ}
        finally:
            os.close(fd)


def test_check_refuses_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugin._check_poll() is None
    monkeypatch.setattr(select, "POLLOUT", 2)  # as on AIX
    assert "use select" in (plugin._check_poll() or "")
