"""The entry point of the shipped pollers. It imports none of them: each is imported when it is created.

`select` itself is a small C module that asyncio imports anyway; looking into it tells what this Python was built
with, which is all that `check` needs to know.
"""

import select
import sys

from pollux.backend import Backend
from pollux.hookspec import hookimpl
from pollux.poller import ERROR, READ, WRITE, Poller


def _check_poll() -> str | None:
    if not hasattr(select, "poll"):
        return "this platform has no poll: it is POSIX's poll(2); use select"
    # AIX is the one system known to number them otherwise.
    if (select.POLLIN, select.POLLOUT, select.POLLERR | select.POLLHUP) != (READ, WRITE, ERROR):
        return "this platform's <poll.h> numbers its events unlike Linux, macOS and BSD; use select"
    return None


def _check_epoll() -> str | None:
    if not hasattr(select, "epoll"):
        return "this platform has no epoll: it is a system call of Linux; use kqueue on macOS and BSD"
    return None


def _check_kqueue() -> str | None:
    if not hasattr(select, "kqueue"):
        return "this platform has no kqueue: it is a system call of macOS and BSD; use epoll on Linux"
    return None


def _check_io_uring() -> str | None:
    if sys.platform != "linux":
        return "this platform has no io_uring: it is an interface of Linux; use kqueue on macOS and BSD"
    from pollux_backends.uring_ring import why_not

    return why_not()


def _create_select() -> Poller:
    from pollux_backends.io_select import SelectPoller

    return SelectPoller()


def _create_poll() -> Poller:
    from pollux_backends.io_poll import PollPoller

    return PollPoller()


def _create_epoll() -> Poller:
    from pollux_backends.io_epoll import EpollPoller

    return EpollPoller()


def _create_kqueue() -> Poller:
    from pollux_backends.io_kqueue import KqueuePoller

    return KqueuePoller()


def _create_io_uring() -> Poller:
    from pollux_backends.io_uring import UringPoller

    return UringPoller()


@hookimpl
def pollux_backends() -> tuple[Backend, ...]:
    """Return the shipped pollers, best first. No system has both epoll and kqueue, so they share a priority."""
    return (
        Backend("epoll", "Linux epoll(7): any number of descriptors", _create_epoll, 100, _check_epoll),
        Backend("kqueue", "macOS and BSD kqueue(2): any number of descriptors", _create_kqueue, 100, _check_kqueue),
        Backend("poll", "POSIX poll(2): cost grows with the descriptors watched", _create_poll, 50, _check_poll),
        Backend("select", "select(2): everywhere, descriptors below 1,024 only", _create_select, 10),
        # Never chosen by itself: containers often deny it, and readiness is not what it is best at.
        Backend(
            "io_uring", "Linux io_uring(7): changes and wait in one system call", _create_io_uring, 0, _check_io_uring
        ),
    )
