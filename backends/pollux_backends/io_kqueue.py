"""kqueue(2), macOS and the BSDs: cost per poll in proportion to the ready descriptors.

* Interest is one kevent per descriptor and direction: EVFILT_READ, EVFILT_WRITE. Without EV_CLEAR they are
  level-triggered. One descriptor may come back twice in a list; `poll` joins the two.
* EV_EOF on EVFILT_READ means that the peer will send no more, which a half-closed peer does too, so it is `READ`; it is
  `ERROR` as well if `fflags` holds a socket error. EV_EOF on EVFILT_WRITE means that nobody reads any more:
  `WRITE | ERROR`. No filter, no report: a descriptor with empty interest is known to this poller only.
* Changes are submitted at once. Queueing them until `poll` would save calls, but then a descriptor that cannot be
  watched is refused too late, and the kqueue's own descriptor (`fileno`) stays unreadable while events wait.
* EVFILT_READ on a regular file is ready only while the offset is not at the end of the file, and some kernels refuse
  /dev/null (macOS: EINVAL). The contract calls both always ready, so this poller answers for them itself. While one of
  them has interest, the reading end of a pipe without a writer (the bell: at its end for ever) ends each wait.
* close(2) removes a descriptor's kevents; EV_DELETE then says EBADF or ENOENT, which is forgiven.
* The descriptor is not inherited by fork(2).
* NetBSD numbers its filters otherwise: every constant is taken from `select`. Tests on Linux pass a model instead.

https://man.freebsd.org/cgi/man.cgi?query=kqueue&sektion=2
"""

import errno
import os
import select
import stat
from typing import Any

from pollux.poller import ERROR, READ, WRITE, EventList

# Room in the list of one call; what does not fit comes with the next. libuv uses the same number.
_EVENTS_PER_CALL = 1024


class KqueuePoller:
    """`pollux.poller.Poller` on kqueue(2): any descriptor, any number of them.

    :param api: what holds `kqueue`, `kevent` and the `KQ_` constants: the `select` module, or a model of it.
    """

    def __init__(self, api: Any = select) -> None:
        self._kevent = api.kevent
        self._filters = ((READ, api.KQ_FILTER_READ), (WRITE, api.KQ_FILTER_WRITE))
        self._filter_read = api.KQ_FILTER_READ
        self._add, self._delete = api.KQ_EV_ADD, api.KQ_EV_DELETE
        self._eof, self._error = api.KQ_EV_EOF, api.KQ_EV_ERROR
        self._kqueue = api.kqueue()
        self._interest: dict[int, int] = {}
        self._always: set[int] = set()  # those of _interest which the kernel is not asked about
        self._bell = -1

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`; `OSError` if it is not open or cannot be watched."""
        self._kqueue.fileno()  # ValueError if this poller is closed
        if fd in self._interest:
            raise FileExistsError(errno.EEXIST, f"fd {fd} is registered already; use modify to change its events")
        mode = os.fstat(fd).st_mode  # EBADF, also where there is no interest to submit
        always = stat.S_ISREG(mode)
        if not always:
            try:
                self._change(fd, 0, events)
            except OSError as error:
                self._change(fd, events, 0)  # the first direction may have been accepted
                # A character device that is no terminal and cannot be waited for: /dev/null and its kin.
                if error.errno == errno.EBADF or not stat.S_ISCHR(mode) or os.isatty(fd):
                    raise
                always = True
        self._interest[fd] = events
        if always:
            self._always.add(fd)
            self._arrange()

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        if fd not in self._always:
            self._change(fd, self._interest[fd] & ~events, events)
        self._interest[fd] = events
        if fd in self._always:
            self._arrange()

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`, closed or not; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        events = self._interest.pop(fd)
        if fd in self._always:
            self._always.discard(fd)
            self._arrange()
        else:
            self._change(fd, events, 0)

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait up to `timeout` seconds and return what is ready."""
        ready: dict[int, int] = {}
        for event in self._kqueue.control(None, _EVENTS_PER_CALL, timeout):
            fd, flags = event.ident, event.flags
            if flags & self._error:
                bits = ERROR
            elif event.filter == self._filter_read:
                bits = READ | ERROR if flags & self._eof and event.fflags else READ
            else:
                bits = WRITE | ERROR if flags & self._eof else WRITE
            ready[fd] = ready.get(fd, 0) | bits
        if self._bell >= 0:
            ready.pop(self._bell, None)
            for fd in self._always:
                if bits := self._interest[fd] & (READ | WRITE):
                    ready[fd] = bits
        return list(ready.items())

    def fileno(self) -> int:
        """Return the kqueue's descriptor, readable while events wait."""
        fd: int = self._kqueue.fileno()
        return fd

    def close(self) -> None:
        """Close the kqueue's descriptor; may be called again."""
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
        self._always.clear()
        self._interest.clear()
        self._kqueue.close()

    def _change(self, fd: int, delete: int, add: int) -> None:
        """Take out the directions in `delete`, whether or not they are there; then put in or renew those in `add`.

        Adding what is there already changes nothing, and brings back what the kernel forgot when a number was reused.
        """
        for bit, filter_ in self._filters:
            if delete & bit:
                try:
                    self._kqueue.control([self._kevent(fd, filter_, self._delete)], 0, 0)
                except OSError as error:
                    if error.errno not in (errno.EBADF, errno.ENOENT, errno.EINVAL):
                        raise
        changes = [self._kevent(fd, filter_, self._add) for bit, filter_ in self._filters if add & bit]
        if changes:
            self._kqueue.control(changes, 0, 0)

    def _arrange(self) -> None:
        """Let the bell ring exactly while a descriptor that is always ready has interest."""
        ringing = any(self._interest[fd] & (READ | WRITE) for fd in self._always)
        if ringing and self._bell < 0:
            self._bell, writer = os.pipe()
            os.close(writer)
            self._change(self._bell, 0, READ)
        elif not ringing and self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _check_known(self, fd: int) -> None:
        self._kqueue.fileno()  # ValueError if this poller is closed
        if fd not in self._interest:
            raise FileNotFoundError(errno.ENOENT, f"fd {fd} is not registered with this kqueue poller")
