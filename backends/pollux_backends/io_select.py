"""select(2), the poller that exists everywhere.

* An fd_set is a bitmap of FD_SETSIZE bits, 1,024 in every C library CPython is built with by default. A higher number
  would be written past its end; CPython raises ValueError in `select.select` instead, which would take the whole loop
  down at each poll. So the limit is enforced here at registration, where it hurts one descriptor only.
* One closed descriptor makes the call fail with EBADF and say nothing about the others or about which one it
  is. fstat(2) finds it; it is reported as `ERROR`, and the rest is asked again.
* The third set means out-of-band data, not errors. A hang-up or an error makes the descriptor readable (and writable),
  so it is reported as the interest it wakes, which the contract allows of a poller like this.
* CPython retries after EINTR with what is left of the timeout (PEP 475), and rounds up to the microsecond.

https://man7.org/linux/man-pages/man2/select.2.html
"""

import errno
import os
import select

from pollux.errors import FdLimitError
from pollux.poller import ERROR, READ, WRITE, EventList

FD_SETSIZE = 1024


class SelectPoller:
    """`pollux.poller.Poller` on select(2): descriptors below 1,024; each poll costs in proportion to the watched."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._read: set[int] = set()
        self._write: set[int] = set()
        self._closed = False

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`; `FdLimitError` from 1,024 on."""
        self._check_open()
        if fd >= FD_SETSIZE:
            raise FdLimitError(
                f"select cannot watch fd {fd}: its descriptors must be below FD_SETSIZE ({FD_SETSIZE}); "
                "choose the poll, epoll or kqueue backend (POLLUX_BACKEND=poll), or keep fewer files open"
            )
        if fd < 0:
            raise ValueError(f"a file descriptor is 0 or more, not {fd}; was the file closed already?")
        if fd in self._watched:
            raise FileExistsError(errno.EEXIST, f"fd {fd} is registered already; use modify to change its events")
        self._watched.add(fd)
        self._set(fd, events)

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        self._set(fd, events)

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`, closed or not; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        self._watched.discard(fd)
        self._set(fd, 0)

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait up to `timeout` seconds and return what is ready."""
        self._check_open()
        try:
            return self._select(self._read, self._write, timeout)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return self._poll_around_closed()

    def close(self) -> None:
        """Forget everything. select holds no descriptor of its own."""
        self._closed = True
        self._watched.clear()
        self._read.clear()
        self._write.clear()

    @staticmethod
    def _select(read: set[int], write: set[int], timeout: float | None) -> EventList:
        readable, writable, _ = select.select(read, write, (), timeout)
        if not writable:
            return [(fd, READ) for fd in readable]
        events = dict.fromkeys(readable, READ)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITE
        return list(events.items())

    def _poll_around_closed(self) -> EventList:
        """Answer for the closed descriptors, and ask without waiting about those that are left."""
        closed = {fd for fd in self._read | self._write if not _is_open(fd)}
        events = [(fd, ERROR) for fd in closed]
        try:
            events += self._select(self._read - closed, self._write - closed, 0)
        except OSError as error:
            # Another thread closed one more since; the next poll starts over.
            if error.errno != errno.EBADF:
                raise
        return events

    def _set(self, fd: int, events: int) -> None:
        if events & READ:
            self._read.add(fd)
        else:
            self._read.discard(fd)
        if events & WRITE:
            self._write.add(fd)
        else:
            self._write.discard(fd)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this select poller is closed; create a new one")

    def _check_known(self, fd: int) -> None:
        self._check_open()
        if fd not in self._watched:
            raise FileNotFoundError(errno.ENOENT, f"fd {fd} is not registered with this select poller")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
