"""io_uring(7), Linux 6.1 and newer: changes of interest and the wait cost one system call together. Only by name.

What the kernel does
--------------------
* IORING_OP_POLL_ADD asks about one descriptor. If it is ready, the request completes inside the call that submits it;
  if not, when it becomes so. It then is over (one-shot), or goes on (multishot).
* Multishot is edge-triggered: it reports again only when something new happens, not what was left unread. (Nor does
  IORING_POLL_ADD_LEVEL make it level-triggered: that flag leaves out the first look.)
* A request that waits **holds its open file**, also when the last descriptor of it is closed: a listener goes on
  accepting, a peer never sees the end.
* EPOLLRDHUP completes a request that did not ask for it, too.

What follows, and what was decided
----------------------------------
* **One-shot requests, armed again in the next `poll`** for the descriptors reported by the last one. The kernel looks
  at each when it is armed, so what is left over is reported again and what was consumed is not: the level trigger,
  exactly. All are submitted by the call that waits. While handlers run, the kernel holds none of *their* files.
* Rejected: multishot for all. Each reported descriptor would have to be asked about once more all the same, and to
  renew a multishot request (IORING_POLL_UPDATE_EVENTS) takes an entry as a new one-shot does, costs more (measured:
  5.0 us against 3.0 for one descriptor, 1.3 against 1.2 for each of 16), and the file is held all the time. Multishot
  is used where edges are wanted: a descriptor of which only EPOLLRDHUP is to be said (a half-closed peer, and
  interest in `WRITE`) would complete one-shots for ever. It waits for news instead, and is one-shot again after the
  first report that counts.
* Each request has a number of its own (`user_data`), never used twice, under which the table finds what to report. A
  completion whose number is not in the table is stale: its descriptor was modified or unregistered meanwhile, and
  nobody hears of it, whoever owns the descriptor's number by then.
* `register` and `modify` only take note; the next `poll` submits. `unregister` must let go of the file before it
  returns, because its caller closes the descriptor next: if the kernel holds a request, it is cancelled at once, by a
  system call. None is held of what the last `poll` reported, or was registered since, and that is the usual case.
* Regular files and /dev/null need no care: the kernel finds them ready when they are armed.
* `fileno` is the ring's descriptor. The first call makes a ring that can be waited for; from then on changes are
  submitted at once, and `poll` arms what it reports before it returns: so the ring is readable as long as events
  wait, at the price of up to two more system calls. Who calls `fileno` before each wait rather than once gets an
  answer of that moment, and fewer idle wake-ups. Another thread that polls gets another ring.
* Exceptions of signal handlers (KeyboardInterrupt) can come between any two calls of Python. CPython looks for
  signals after calls and at backward jumps, so stores that follow each other happen all or not at all; where this
  file relies on it, it says so.

https://man7.org/linux/man-pages/man3/io_uring_prep_poll_add.3.html, io_uring_enter(2), io_uring_prep_cancel(3)
"""

import errno
import os
import struct
import sys

from pollux.poller import ERROR, EventList
from pollux_backends.uring_ring import Ring

# <linux/io_uring.h>
POLL_ADD, POLL_REMOVE, ASYNC_CANCEL = 6, 7, 14
POLL_ADD_MULTI = 1 << 0
CANCEL_ALL, CANCEL_ANY = 1 << 0, 1 << 2
CQE_F_MORE = 1 << 1

# struct io_uring_sqe: opcode, flags, ioprio, fd, off, addr, len, the operation's flags, user_data; the rest is 0.
_ENTRY = struct.Struct("=BBHiQQIIQ24x")

_ANSWER = 0  # the user_data of cancellations: of no interest, and never that of a request
_CANCEL_EVERYTHING = _ENTRY.pack(ASYNC_CANCEL, 0, 0, -1, 0, 0, 0, CANCEL_ALL | CANCEL_ANY, _ANSWER)


class UringPoller:
    """`pollux.poller.Poller` on io_uring: any descriptor, any number of them.

    :raises OSError: this process may not use it; `pollux_backends.uring_ring.why_not` has the words.
    """

    def __init__(self) -> None:
        self._ring = Ring()
        self._process = os.getpid()
        self._closed = False
        self._last_token = _ANSWER
        self._tokens: dict[int, int] = {}  # fd -> number of its request
        self._table: dict[int, tuple[int, int, bytes]] = {}  # number -> fd, interest and ERROR, the request itself
        # What the kernel has yet to be told. A request of _table that is not in _unarmed is with the kernel.
        self._unarmed: dict[int, bytes] = {}
        self._removals: list[bytes] = []
        self._hosted = False

    def register(self, fd: int, events: int, /) -> None:
        """Watch `fd`; a closed one is found out by `poll`."""
        self._check_open()
        if fd < 0:
            raise ValueError(f"a file descriptor is 0 or more, not {fd}; was the file closed already?")
        if fd in self._tokens:
            raise FileExistsError(errno.EEXIST, f"fd {fd} is registered already; use modify to change its events")
        self._watch(fd, events | ERROR, 0)
        if self._hosted:
            self._publish()

    def modify(self, fd: int, events: int, /) -> None:
        """Replace the interest in `fd`, whoever owns the number by now; `FileNotFoundError` if it is not watched."""
        token = self._token_of(fd)
        self._watch(fd, events | ERROR, 0)
        self._forget(token)
        if self._hosted:
            self._publish()

    def unregister(self, fd: int, /) -> None:
        """Forget `fd`, closed or not; `FileNotFoundError` if it is not watched."""
        token = self._token_of(fd)
        del self._tokens[fd]
        self._forget(token)
        if self._hosted:
            self._publish()
        elif self._removals:
            self._cancel()

    def poll(self, timeout: float | None, /) -> EventList:
        """Wait up to `timeout` seconds and return what is ready."""
        if self._closed:
            self._check_open()
        if self._hosted:
            self._collect()  # armed when last reported, and probably consumed since: ask again
        if not self._queue():
            timeout = 0  # the rest follows in the next poll
        self._enter(timeout)
        events = self._collect()
        if self._hosted:
            self._publish()
        return events

    def fileno(self) -> int:
        """Return the ring's descriptor, readable while events wait."""
        self._check_open()
        if not self._hosted:
            self._hosted = True
            self._renew()
        self._publish()
        return self._ring.fd

    def close(self) -> None:
        """Let go of all watched files and close the ring; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._retire(self._ring)
        self._tokens.clear()
        self._table.clear()
        self._unarmed = {}
        self._removals = []

    def _watch(self, fd: int, interest: int, mode: int) -> None:
        """Have a new request for `fd` armed by the next call."""
        token = self._last_token = self._last_token + 1
        # The mask is in 16 bits of a field of 32, and of those the first two bytes on any machine.
        mask = (interest & ~ERROR) << (16 if sys.byteorder == "big" else 0)
        entry = _ENTRY.pack(POLL_ADD, 0, 0, fd, 0, 0, mode, mask, token)
        self._table[token] = fd, interest, entry
        self._unarmed[token] = entry
        self._tokens[fd] = token

    def _forget(self, token: int) -> None:
        """Make all completions of a request stale, and have it cancelled by the next call if the kernel has it."""
        del self._table[token]
        if self._unarmed.pop(token, None) is None:
            self._removals.append(_ENTRY.pack(POLL_REMOVE, 0, 0, -1, 0, token, 0, 0, _ANSWER))

    def _queue(self, arm: bool = True) -> bool:
        """Put cancellations, and requests if `arm`, into the submission queue; return whether all found room."""
        unarmed = self._unarmed if arm else {}
        removals = self._removals
        if not unarmed and not removals:
            return True
        ring = self._ring
        room = ring.room()
        if len(removals) + len(unarmed) <= room:
            tail = ring.write(b"".join([*removals, *unarmed.values()]))
            left = {} if arm else self._unarmed
            # No signal comes between the three: what is in the queue is not in the lists.
            ring.words[ring.sq_tail] = tail
            self._unarmed = left
            self._removals = []
            return True
        tokens = list(unarmed)[: max(0, room - len(removals))]
        tail = ring.write(b"".join([*removals[:room], *(unarmed[token] for token in tokens)]))
        left = {token: entry for token, entry in self._unarmed.items() if token not in set(tokens)}
        removals = removals[room:]
        ring.words[ring.sq_tail] = tail
        self._unarmed = left
        self._removals = removals
        return False

    def _enter(self, timeout: float | None) -> None:
        """Submit and wait. In another thread than the last time, make a ring of this thread's, and return at once."""
        try:
            self._ring.enter(timeout)
        except FileExistsError:
            self._renew()

    def _renew(self) -> None:
        """Go over to a new ring, with all requests to be armed there."""
        ring = Ring(waitable=self._hosted)
        unarmed = {token: entry for token, (_, _, entry) in self._table.items()}
        old = self._ring
        # No signal comes between the three.
        self._ring = ring
        self._unarmed = unarmed
        self._removals = []
        self._retire(old)

    def _retire(self, ring: Ring) -> None:
        """Close a ring and, if it is this thread's, have it let go of all files before this returns.

        The kernel does so by itself when a ring is closed, but some time later, on a thread of its own, and until then
        a port is in use. In a forked child the queues are those of its parent: hands off.
        """
        if os.getpid() == self._process:
            try:
                while not ring.room():
                    ring.enter(0)
                ring.words[ring.sq_tail] = ring.write(_CANCEL_EVERYTHING)
                ring.enter(0)
            except OSError:  # EEXIST: another thread than the last one that polled
                pass
        ring.close()

    def _collect(self) -> EventList:
        """Take the completions, return what they tell, and have their requests armed again."""
        ring = self._ring
        completions, tail = ring.completed()
        events: EventList = []
        if not completions:
            return events
        table = self._table
        again: dict[int, bytes] = {}
        for token, result, flags in completions:
            watch = table.get(token)
            if watch is None:
                continue  # stale, or the answer to a cancellation
            fd, interest, entry = watch
            if not flags:
                again[token] = entry
                if result > 0 and (ready := result & interest):
                    events.append((fd, ready))
                    continue
            self._collect_odd(token, result, flags, events, again)
        # No signal comes between the two: nothing is lost, and nothing armed twice.
        self._unarmed = {**self._unarmed, **again}
        ring.words[ring.cq_head] = tail
        return events

    def _collect_odd(self, token: int, result: int, flags: int, events: EventList, again: dict[int, bytes]) -> None:
        """Deal with one that reports no readiness, or is of a multishot. If interrupted, it comes again."""
        fd, interest, _ = self._table[token]
        if flags & CQE_F_MORE:
            if ready := result & interest:
                events.append((fd, ready))
                self._watch(fd, interest, 0)
                self._forget(token)
        elif result > 0:
            # Only EPOLLRDHUP, which is no news to an interest that is not in READ.
            self._watch(fd, interest, POLL_ADD_MULTI)
            del self._table[token], again[token]
        elif result == -errno.EBADF:
            events.append((fd, ERROR))
        elif result == -errno.EINVAL:
            del again[token]  # not ready, and it never wakes anybody: a regular file without interest
        # Else it was cancelled with the thread that submitted it, or memory is short: it is armed again.

    def _cancel(self) -> None:
        """Have the kernel let go of what was forgotten, now."""
        completions, _ = self._ring.completed()
        if len(completions) > self._ring.completions // 2:
            self._collect()  # what is ready comes again when it is armed again
        while not self._queue(arm=False):
            self._enter(0)
        self._enter(0)

    def _publish(self) -> None:
        """Submit everything, so that the ring is readable if and only if something is ready."""
        if self._removals:
            self._cancel()
        self._collect()
        ring = None
        while ring is not self._ring:  # a new ring starts over
            ring = self._ring
            while not self._queue():
                self._enter(0)
            self._enter(0)

    def _token_of(self, fd: int) -> int:
        self._check_open()
        try:
            return self._tokens[fd]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"fd {fd} is not registered with this io_uring poller") from None

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this io_uring poller is closed; create a new one")
