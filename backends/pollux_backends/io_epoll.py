"""epoll(7), Linux: cost per poll in proportion to the ready descriptors, not to the watched.

* The contract's bits are epoll's own and `select.epoll.poll` returns the contract's list, so the C method **is**
  `poll`: an attribute of the instance, with no Python frame per iteration of the loop. Read it afresh each time: it
  is replaced while a descriptor is watched that epoll refuses.
* It rounds up to the millisecond and retries after EINTR with what is left (PEP 475); one call returns at most 1,023
  events (FD_SETSIZE - 1), the rest follow in the next.
* epoll_ctl(2) refuses with EPERM what can never block (regular files, /dev/null): poll(2) calls these always
  ready, and so does this poller. While one of them has interest, an eventfd that is always readable (the bell) stands
  in the set for them: it ends the wait, and makes the epoll descriptor itself readable, as `fileno` promises.
* The set belongs to open files, not to numbers. A closed descriptor leaves it by itself, so `unregister` forgives
  EBADF and ENOENT for a number it knows; and `modify` adds anew what the kernel has forgotten, because otherwise
  the new owner of a reused number would never be armed.
* If a duplicate (dup, fork) outlives the closed descriptor, the kernel goes on reporting it under the old number and
  offers no way to take it out. Unregister before closing; nothing here can repair the other order.
* So `close` touches nothing but its own two descriptors: after a fork the set is the parent's as well, and taking the
  bell out of it would silence the parent's. If a child has done so all the same, `_arrange` forgives it.
* Rejected: edge triggering (the contract is level-triggered), and queueing changes until `poll` (it would need a frame
  there, and `fileno` would be wrong until then).

https://man7.org/linux/man-pages/man7/epoll.7.html
"""

import errno
import os
import select
from collections.abc import Callable

from pollux.poller import READ, WRITE, EventList

# What epoll_ctl(2) says of a number whose file was closed: not open, open as another file, open as one it refuses.
_FORGOTTEN = (errno.EBADF, errno.ENOENT, errno.EPERM)


class EpollPoller:
    """`pollux.poller.Poller` on epoll(7): any descriptor, any number of them.

    `poll` is an attribute: `poll(timeout: float | None) -> EventList`.
    """

    __slots__ = ("__weakref__", "_always", "_bell", "_epoll", "_watched", "poll")

    poll: Callable[[float | None], EventList]

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._always: dict[int, int] = {}  # fd -> interest, for what epoll refuses; a subset of _watched
        self._bell = -1
        self.poll = self._epoll.poll

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`; `OSError` (EBADF) if it is not open."""
        try:
            self._epoll.register(fd, events)
        except PermissionError:
            if fd in self._always:
                raise FileExistsError(
                    errno.EEXIST, f"fd {fd} is registered already; use modify to change its events"
                ) from None
            self._always[fd] = events
            self._arrange()
        else:
            # The number may have been that of a regular file, closed since without a word.
            if self._always and self._always.pop(fd, None) is not None:
                self._arrange()
        self._watched.add(fd)

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`; `FileNotFoundError` if it is not watched."""
        if fd in self._always:
            self._always[fd] = events
            self._arrange()
            return
        try:
            self._epoll.modify(fd, events)
        except OSError as error:
            if fd not in self._watched:
                raise _unknown(fd) from error
            if error.errno not in (errno.ENOENT, errno.EPERM):
                raise
            self.register(fd, events)

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`, closed or not; `FileNotFoundError` if it is not watched."""
        if fd not in self._watched:
            self._epoll.fileno()  # ValueError if this poller is closed
            raise _unknown(fd)
        self._watched.discard(fd)
        if self._always and self._always.pop(fd, None) is not None:
            self._arrange()
            return
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            if error.errno not in _FORGOTTEN:
                raise

    def fileno(self) -> int:
        """Return the epoll descriptor, readable while events wait."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll descriptor; may be called again."""
        self._always.clear()
        self._watched.clear()
        self._epoll.close()
        self.poll = self._epoll.poll
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _arrange(self) -> None:
        """Fit the bell and `poll` to the table of descriptors that epoll refuses."""
        ringing = any(events & (READ | WRITE) for events in self._always.values())
        if ringing and self._bell < 0:
            self._bell = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll.register(self._bell, READ)
        elif not ringing and self._bell >= 0:
            try:
                self._epoll.unregister(self._bell)
            except FileNotFoundError:  # a forked process took it out of the set that it shares with this one
                pass
            os.close(self._bell)
            self._bell = -1
        self.poll = self._poll_with_always_ready if ringing else self._epoll.poll

    def _poll_with_always_ready(self, _timeout: float | None, /) -> EventList:
        """Never waits: the bell rings as long as this method stands in for `poll`."""
        events = [event for event in self._epoll.poll(0) if event[0] != self._bell]
        for fd, interest in self._always.items():
            if ready := interest & (READ | WRITE):
                events.append((fd, ready))
        return events


def _unknown(fd: int) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"fd {fd} is not registered with this epoll poller")
