"""poll(2): no limit on the descriptor's number, and no state in the kernel.

* Its bits are the contract's own on Linux, macOS and the BSDs (the plugin's `check` proves it), so a list from the
  kernel is handed on as it is. The exception is POLLNVAL, a closed descriptor, which becomes `ERROR`.
* The kernel is given the whole list at each call, so nothing goes stale when a number is closed and opened again, and
  each poll costs in proportion to the watched. CPython rebuilds its array after each change of interest.
* CPython's `poll` takes milliseconds. It rounds up to the next one and retries after EINTR with what is left (PEP 475).

https://man7.org/linux/man-pages/man2/poll.2.html
"""

import errno
import select

from pollux.poller import ERROR, EventList

# <poll.h> of Linux, macOS and the BSDs.
POLLNVAL = 0x20


class PollPoller:
    """`pollux.poller.Poller` on poll(2): any descriptor; each poll costs in proportion to the watched."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: set[int] = set()
        self._closed = False

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`; a closed one is found out by `poll`."""
        self._check_open()
        if fd in self._watched:
            raise FileExistsError(errno.EEXIST, f"fd {fd} is registered already; use modify to change its events")
        self._poll.register(fd, events)
        self._watched.add(fd)

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        self._poll.modify(fd, events)

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`, closed or not; `FileNotFoundError` if it is not watched."""
        self._check_known(fd)
        self._watched.discard(fd)
        self._poll.unregister(fd)

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait up to `timeout` seconds and return what is ready."""
        if self._closed:
            self._check_open()
        events = self._poll.poll(None if timeout is None else timeout * 1000)
        for _, bits in events:
            if bits & POLLNVAL:
                return [(fd, ERROR if bits & POLLNVAL else bits) for fd, bits in events]
        return events

    def close(self) -> None:
        """Forget everything. poll holds no descriptor of its own."""
        self._closed = True
        self._watched.clear()
        self._poll = select.poll()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this poll poller is closed; create a new one")

    def _check_known(self, fd: int) -> None:
        self._check_open()
        if fd not in self._watched:
            raise FileNotFoundError(errno.ENOENT, f"fd {fd} is not registered with this poll poller")
