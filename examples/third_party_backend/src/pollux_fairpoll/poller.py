"""poll(2) that serves descriptors in turn: each report begins behind the descriptor that began the one before.

poll(2) has the contract's bits on Linux and BSD and takes milliseconds. It reports a closed descriptor as POLLNVAL, a
bit the contract does not have; here that is `ERROR`.
"""

import math
import select

from pollux.poller import ERROR, READ, WRITE, EventList

ANY = READ | WRITE | ERROR


class FairPoller:
    """`pollux.poller.Poller` on poll(2), in order of descriptor, starting where the last report left off."""

    def __init__(self) -> None:
        self._poll: select.poll | None = select.poll()
        self._watched: set[int] = set()
        self._first = -1

    def _open(self) -> select.poll:
        if self._poll is None:
            raise ValueError("this poller is closed")
        return self._poll

    def register(self, fd: int, events: int, /) -> None:
        poll = self._open()
        if fd in self._watched:
            raise FileExistsError(f"fd {fd} is registered already: use modify")
        poll.register(fd, events & (READ | WRITE))
        self._watched.add(fd)

    def modify(self, fd: int, events: int, /) -> None:
        self._open().modify(fd, events & (READ | WRITE))  # FileNotFoundError if unknown

    def unregister(self, fd: int, /) -> None:
        self._open().unregister(fd)  # KeyError if unknown
        self._watched.discard(fd)

    def poll(self, timeout: float | None, /) -> EventList:
        wait = None if timeout is None else math.ceil(timeout * 1000)
        ready = sorted((fd, events & ANY or ERROR) for fd, events in self._open().poll(wait))
        start = next((i for i, (fd, _) in enumerate(ready) if fd > self._first), 0)
        ready = ready[start:] + ready[:start]
        self._first = ready[0][0] if ready else -1
        return ready

    def close(self) -> None:
        self._poll = None
