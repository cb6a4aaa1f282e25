"""The poller contract. This file alone is enough to write a backend; it knows no loop and no socket.

A poller tells which file descriptors are ready. It does not call anybody, it owns none of the descriptors it
watches, and it knows nothing of callbacks: the loop keeps all of that.

What holds
----------
* Events are bits: `READ`, `WRITE`, and `ERROR` (an error or a hang-up; reported even if it was not asked for).
  The values are those of Linux's EPOLLIN, EPOLLOUT and EPOLLERR|EPOLLHUP, so that epoll needs no translation
  on its hottest path; other pollers translate in `poll`. `poll` may report one bit of `ERROR` or both.
* Readiness is **level-triggered**: what is not consumed is reported again by the next `poll`.
* `poll` returns a list of `(fd, events)`, each fd at most once, each with `events != 0`. The caller may keep it.
* A descriptor that can never block (a regular file, `/dev/null`) is always ready for what was asked, as
  poll(2) has it. A poller whose system call refuses such files (epoll: EPERM) answers for them itself.
* Timeouts are **seconds**: None waits without limit, 0 does not wait. Numbers are from 0 to `LONGEST_WAIT`: the
  caller clamps, so that a poller may hand out a system call's own method as `poll`. They are rounded **up** to the
  resolution of the system call: rounding down would make the loop spin through the last fraction of each wait.
* Interest may be empty (`events == 0`): then only `ERROR` can be reported.

What is *not* promised
----------------------
* Spurious readiness is allowed: a caller's `recv` must cope with `BlockingIOError`. Missed readiness never is.
* `poll` may return an empty list before its timeout has passed (a signal, for instance).
* A select-like poller may report a hang-up as `READ` or `WRITE` readiness instead of `ERROR`, and where there is
  no interest at all may not report it.
* No order among events, no fairness beyond what the level trigger gives.

Errors
------
* `register` of a registered fd: `FileExistsError`; of a number that was closed and opened again without
  `unregister`: that, or success. `modify` or `unregister` of an unknown one: `KeyError` or
  `FileNotFoundError`.
* `register` of a number that is no open descriptor: `OSError` (EBADF) where the system call can tell, else nothing
  until `poll`; `poll` must then not fail because of one bad descriptor: it reports it as `ERROR` or drops it.
* `register` of a descriptor this poller can never watch: `pollux.errors.FdLimitError` or `OSError`; the
  poller goes on working for all others.
* `unregister` of a descriptor its owner has closed already must succeed and forget it, also when the number
  has been handed out again: the kernel may have forgotten it by itself.
* After `close`, every method raises `ValueError` or `OSError`, save `close`, which may be called again.

Threads and forks
-----------------
All methods are called from the loop's thread. `poll` must release the GIL while it waits. A poller is never used on
both sides of a fork.

Porting checklist
-----------------
1. Can the call watch any descriptor number, sockets and pipes and ttys, and more than 1,024 of them?
2. What does it say of a closed peer, a half-closed peer, a refused connect? Each must wake `READ` or `WRITE` interest.
3. What does it do with a closed descriptor, and with a number that is closed and opened again between two polls?
4. Is the timeout rounded up, None without limit, and LONGEST_WAIT not an overflow? Is EINTR retried or returned as an
   empty list?
5. Does it have a descriptor of its own (`fileno`) that is readable when events wait? Then guest mode is cheap.
6. Run `pollux.testing`: the poller suite states all of the above as tests.
"""

from typing import Protocol, runtime_checkable

READ = 0x001
WRITE = 0x004
ERROR = 0x018

LONGEST_WAIT = (
    86_400.0  # seconds: a day. epoll_wait(2) and poll(2) count milliseconds in an int, which ends at 24.8 days.
)

EventList = list[tuple[int, int]]


class Poller(Protocol):
    """What a loop asks of its poller. The module's docstring is the contract."""

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd` for `events` (a bit mask; `ERROR` is implied)."""

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in a watched `fd`."""

    def unregister(self, fd: int, /) -> None:
        """Stop watching `fd`, which may have been closed already."""

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait up to `timeout` seconds (None: no limit) and return what is ready."""

    def close(self) -> None:
        """Release what the poller itself has opened; watched descriptors stay open."""


@runtime_checkable
class HasFileno(Protocol):
    """The optional part of the contract: an fd that is readable while events wait to be polled."""

    def fileno(self) -> int:
        """Return the poller's own descriptor."""
