"""A model of kqueue(2) for systems without one, in the shape of what Python's `select` module offers of it.

Written from the manual page, over real Linux descriptors: readiness comes from an epoll set, and the rules of kqueue
are applied to it. Modelled: EV_ADD (adding again modifies), EV_DELETE (ENOENT), knotes that vanish with close(2), one
kevent for each filter, EV_EOF and `fflags`, vnodes that are readable only before the end of the file, /dev/null
refused as on macOS, `nevents == 0` returning at once and leaving no room for EV_ERROR, so that the first failed
change raises.
Not modelled: `data`, EV_CLEAR, EV_ONESHOT, EV_DISABLE, EV_RECEIPT, other filters. The errno in `fflags` is always
ECONNRESET: Linux tells it only by consuming it.
"""

import errno
import os
import select as linux
import stat
from collections.abc import Iterable
from dataclasses import dataclass

KQ_FILTER_READ = -1
KQ_FILTER_WRITE = -2
KQ_EV_ADD = 0x0001
KQ_EV_DELETE = 0x0002
KQ_EV_ERROR = 0x4000
KQ_EV_EOF = 0x8000

_MASK = {KQ_FILTER_READ: linux.EPOLLIN | linux.EPOLLRDHUP, KQ_FILTER_WRITE: linux.EPOLLOUT}


@dataclass(frozen=True)
class kevent:  # noqa: N801 - the name in `select`
    ident: int
    filter: int = KQ_FILTER_READ
    flags: int = KQ_EV_ADD
    fflags: int = 0


class kqueue:  # noqa: N801 - the name in `select`
    def __init__(self) -> None:
        self._epoll = linux.epoll()
        self._knotes: dict[int, set[int]] = {}
        self._vnodes: dict[int, tuple[int, int]] = {}  # regular files: epoll refuses them; fd -> (device, inode)

    @property
    def closed(self) -> bool:
        return self._epoll.closed

    def fileno(self) -> int:
        if self._epoll.closed:
            raise ValueError("I/O operation on closed kqueue object")
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def control(
        self, changelist: Iterable[kevent] | None, max_events: int, timeout: float | None = None
    ) -> list[kevent]:
        self.fileno()
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must be positive or None")
        if max_events < 0:
            raise ValueError(f"Length of eventlist must be 0 or positive, got {max_events}")
        for change in changelist or ():
            self._change(change)
        return self._wait(max_events, timeout) if max_events else []

    def _change(self, change: kevent) -> None:
        fd = change.ident
        status = os.fstat(fd)  # EBADF
        if stat.S_ISCHR(status.st_mode) and not os.isatty(fd):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._forget_if_closed(fd)
        filters = self._knotes.get(fd, set())
        if change.flags & KQ_EV_DELETE:
            if change.filter not in filters:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            wanted = filters - {change.filter}
        else:
            wanted = filters | {change.filter}
        if stat.S_ISREG(status.st_mode):
            self._vnodes[fd] = status.st_dev, status.st_ino
        else:
            mask = sum(_MASK[filter_] for filter_ in wanted)
            if not filters:
                self._epoll.register(fd, mask)
            elif wanted:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.unregister(fd)
        if wanted:
            self._knotes[fd] = wanted
        else:
            del self._knotes[fd]

    def _forget_if_closed(self, fd: int) -> None:
        """close(2) has removed the knotes: ask the real kernel, whose set does the same."""
        if fd not in self._knotes:
            return
        if fd in self._vnodes:
            status = os.fstat(fd)
            gone = self._vnodes[fd] != (status.st_dev, status.st_ino)
        else:
            try:
                self._epoll.modify(fd, sum(_MASK[filter_] for filter_ in self._knotes[fd]))
                gone = False
            except OSError:
                gone = True
        if gone:
            self._vnodes.pop(fd, None)
            del self._knotes[fd]

    def _wait(self, max_events: int, timeout: float | None) -> list[kevent]:
        events = [event for fd in self._vnodes for event in self._vnode_events(fd)]
        for fd, bits in self._epoll.poll(0 if events else timeout, max_events):
            failed = errno.ECONNRESET if bits & linux.EPOLLERR else 0
            gone = bits & (linux.EPOLLHUP | linux.EPOLLERR)
            if KQ_FILTER_READ in self._knotes[fd] and (gone or bits & (linux.EPOLLIN | linux.EPOLLRDHUP)):
                flags = KQ_EV_EOF if gone or bits & linux.EPOLLRDHUP else 0
                events.append(kevent(fd, KQ_FILTER_READ, flags, failed))
            if KQ_FILTER_WRITE in self._knotes[fd] and (gone or bits & linux.EPOLLOUT):
                events.append(kevent(fd, KQ_FILTER_WRITE, KQ_EV_EOF if gone else 0, failed))
        return events[:max_events]

    def _vnode_events(self, fd: int) -> Iterable[kevent]:
        try:
            remaining = os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:
            return
        for filter_ in self._knotes.get(fd, ()):
            if filter_ == KQ_FILTER_WRITE or remaining:
                yield kevent(fd, filter_, 0)
