"""`Ring`: io_uring's system calls and its two queues in shared memory. This file knows no poller.

* Bound with ctypes, which adds about 0.5 us to each `enter`; everything else is reading and writing memory. Rejected:
  the `liburing` package (2026.3.30, alpha). It wants Linux 6.14, comes as a wheel for x86-64 without its source, and
  takes several calls for each entry where `struct` packs or unpacks a batch in one.
* The kernel has no C library wrapper for these calls. Their numbers, 425 to 427, are those of every architecture but
  Alpha and MIPS, which add an offset of their own; `why_not` refuses these two.
* **Nobody but this thread touches the queues.** There is no submission thread (SQPOLL is never asked for), and the
  kernel posts completions in the context of this very thread: inside `enter` (DEFER_TASKRUN), or inside any system
  call (COOP_TASKRUN). So both ends of a queue are ordered by program order, and plain 32-bit loads and stores through
  a memoryview are enough, on ARM's weak memory model too: no atomics, no barriers.
* Neither mode interrupts Python code with an inter-processor interrupt. DEFER_TASKRUN also collects completions rather
  than to work on each as it comes, but does not wake who waits for the ring's descriptor (the kernel checks it on
  entry to poll(2) or epoll_wait(2), and no more): so `waitable` rings do without.
* SINGLE_ISSUER, which DEFER_TASKRUN asks for: `enter` from another thread than the one that made the ring fails with
  EEXIST, and the owner makes a new ring. DEFER_TASKRUN came with Linux 6.1, the oldest kernel accepted.
* SUBMIT_ALL: one bad entry does not keep those behind it from being submitted.
* NODROP: what does not fit into the completion queue is kept by the kernel, and every `enter` with GETEVENTS (each of
  ours is one) moves it into the queue as room is made.
* The `mmap` module duplicates the descriptor it maps (until Python 3.13, which can be told not to): a ring is three
  open files before. In return the memory cannot be unmapped under a view that is still in use.

https://man7.org/linux/man-pages/man7/io_uring.7.html, io_uring_setup(2), io_uring_enter(2), <linux/io_uring.h>
"""

import ctypes
import errno
import math
import mmap
import os
import platform
import struct
import sys
from pathlib import Path

SETUP, ENTER = 425, 426

# io_uring_setup(2): flags and features.
CQSIZE, CLAMP, SUBMIT_ALL, COOP_TASKRUN, SINGLE_ISSUER, DEFER_TASKRUN = (1 << bit for bit in (3, 4, 7, 8, 12, 13))
SINGLE_MMAP, NODROP, EXT_ARG = 1 << 0, 1 << 1, 1 << 8
FEATURES = {SINGLE_MMAP: "SINGLE_MMAP", NODROP: "NODROP", EXT_ARG: "EXT_ARG"}

# io_uring_enter(2)
GETEVENTS, ENTER_EXT_ARG = 1 << 0, 1 << 3

OFFSET_RINGS, OFFSET_ENTRIES = 0, 0x1000_0000

# Submissions in one call: more take another. Completions in one drain: more stay with the kernel until the next.
# 64 KiB each; 1,024 is what epoll and kqueue report in one call, and the rest is room for cancellations.
SUBMISSIONS, COMPLETIONS = 1024, 4096

SUBMISSION_SIZE = 64
_COMPLETION = struct.Struct("=QiI")  # user_data, res, flags

_SYSCTL = Path("/proc/sys/kernel/io_uring_disabled")
_OLDEST = "Linux 6.1"


class _QueueOffsets(ctypes.Structure):
    """`struct io_sqring_offsets`, and `struct io_cqring_offsets`, which has the same form and other names."""

    _fields_ = (
        ("head", ctypes.c_uint32),
        ("tail", ctypes.c_uint32),
        ("ring_mask", ctypes.c_uint32),
        ("ring_entries", ctypes.c_uint32),
        ("flags_or_overflow", ctypes.c_uint32),
        ("dropped_or_entries", ctypes.c_uint32),
        ("array_or_flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("user_addr", ctypes.c_uint64),
    )
    head: int
    tail: int
    dropped_or_entries: int
    array_or_flags: int


class _Parameters(ctypes.Structure):
    """`struct io_uring_params`."""

    _fields_ = (
        ("sq_entries", ctypes.c_uint32),
        ("cq_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("sq_thread_cpu", ctypes.c_uint32),
        ("sq_thread_idle", ctypes.c_uint32),
        ("features", ctypes.c_uint32),
        ("wq_fd", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
        ("sq", _QueueOffsets),
        ("cq", _QueueOffsets),
    )
    sq_entries: int
    cq_entries: int
    flags: int
    features: int
    sq: _QueueOffsets
    cq: _QueueOffsets


# It releases the GIL while it runs. No `argtypes`: they cost 2.5 us a call. Without them a Python int is passed as a C
# int. That will do for all arguments but the pointers, and the last one: a size_t that may lie on the stack, with
# nothing to fill its upper half. Those are made once.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_ARGUMENT_SIZE = ctypes.c_size_t(24)


def _error(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


class Ring:
    """A submission queue and a completion queue.

    To be used from the thread that made it; `enter` from another one raises `FileExistsError`.

    :param waitable: whether a completion wakes who waits for `fd` to be readable.
    :raises OSError: the kernel refuses; `why_not` has the words for it.
    """

    def __init__(
        self, submissions: int = SUBMISSIONS, completions: int = COMPLETIONS, *, waitable: bool = False
    ) -> None:
        self.fd = -1
        self._mappings: list[mmap.mmap] = []
        self._views: list[memoryview] = []
        parameters = _Parameters(
            flags=CQSIZE | CLAMP | SUBMIT_ALL | SINGLE_ISSUER | (COOP_TASKRUN if waitable else DEFER_TASKRUN),
            cq_entries=completions,
        )
        self.fd = _syscall(SETUP, submissions, ctypes.byref(parameters))
        if self.fd < 0:
            raise _error("io_uring_setup")
        try:
            if missing := [name for bit, name in FEATURES.items() if not parameters.features & bit]:
                raise OSError(errno.EOPNOTSUPP, f"io_uring lacks {', '.join(missing)}")
            self._map(parameters)
        except BaseException:
            self.close()
            raise

        # struct io_uring_getevents_arg: signal mask, its size and padding, address of a struct __kernel_timespec.
        self._timespec = (ctypes.c_int64 * 2)()
        self._with_limit = ctypes.byref((ctypes.c_uint64 * 3)(0, 0, ctypes.addressof(self._timespec)))
        self._without_limit = ctypes.byref((ctypes.c_uint64 * 3)())

    def _map(self, parameters: _Parameters) -> None:
        sq, cq = parameters.sq, parameters.cq
        self.submissions = parameters.sq_entries
        self.completions = parameters.cq_entries
        rings = self._mmap(
            max(
                sq.array_or_flags + 4 * self.submissions,
                cq.dropped_or_entries + _COMPLETION.size * self.completions,
            ),
            OFFSET_RINGS,
        )
        self.words = self._view(rings.cast("I"))
        self._sq_head, self.sq_tail = sq.head // 4, sq.tail // 4
        self.cq_head, self._cq_tail = cq.head // 4, cq.tail // 4
        array = sq.array_or_flags // 4
        for index in range(self.submissions):
            self.words[array + index] = index  # entries are used in their order, once and for all
        first = cq.dropped_or_entries
        self._completions = self._view(rings[first : first + _COMPLETION.size * self.completions])
        self._entries = self._mmap(SUBMISSION_SIZE * self.submissions, OFFSET_ENTRIES)

    def _mmap(self, length: int, offset: int) -> memoryview:
        options = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        mapping = mmap.mmap(
            self.fd,
            length,
            mmap.MAP_SHARED | mmap.MAP_POPULATE,
            mmap.PROT_READ | mmap.PROT_WRITE,
            offset=offset,
            **options,
        )
        self._mappings.append(mapping)
        return self._view(memoryview(mapping))

    def _view(self, view: memoryview) -> memoryview:
        self._views.append(view)
        return view

    def room(self) -> int:
        """Return how many entries the submission queue can take."""
        words = self.words
        return self.submissions - ((words[self.sq_tail] - words[self._sq_head]) & 0xFFFF_FFFF)

    def write(self, entries: bytes) -> int:
        """Write `entries` (64 bytes each, at most `room()` of them) behind the tail of the submission queue.

        They count as soon as the caller stores what this returns as `words[sq_tail]`.
        """
        tail = self.words[self.sq_tail]
        start = (tail & (self.submissions - 1)) * SUBMISSION_SIZE
        stop = start + len(entries)
        if stop <= len(self._entries):
            self._entries[start:stop] = entries
        else:
            before_wrap = len(self._entries) - start
            self._entries[start:] = entries[:before_wrap]
            self._entries[: len(entries) - before_wrap] = entries[before_wrap:]
        return (tail + len(entries) // SUBMISSION_SIZE) & 0xFFFF_FFFF

    def enter(self, timeout: float | None) -> None:
        """Submit what is queued, and wait up to `timeout` seconds (None: no limit) until a completion is there.

        The timeout is rounded up to the nanosecond. Returns early after a signal, and if not all could be submitted.

        :raises FileExistsError: this is another thread than the one that made the ring.
        """
        words = self.words
        queued = (words[self.sq_tail] - words[self._sq_head]) & 0xFFFF_FFFF
        argument = self._without_limit
        if timeout:
            self._timespec[0], self._timespec[1] = divmod(math.ceil(timeout * 1e9), 1_000_000_000)
            argument = self._with_limit
        if _syscall(ENTER, self.fd, queued, timeout != 0, GETEVENTS | ENTER_EXT_ARG, argument, _ARGUMENT_SIZE) < 0:
            number = ctypes.get_errno()
            # ETIME: the timeout. EINTR: a signal, whose handler runs as soon as Python goes on. EAGAIN, EBUSY: no
            # memory, or too much to be collected first; what was not submitted stays queued for the next call.
            if number not in (errno.ETIME, errno.EINTR, errno.EAGAIN, errno.EBUSY):
                raise _error("io_uring_enter")

    def completed(self) -> tuple[list[tuple[int, int, int]], int]:
        """Return the completions, each as (user_data, res, flags), and the tail of their queue.

        They are collected as soon as the caller stores that tail as `words[cq_head]`.
        """
        words = self.words
        head, tail = words[self.cq_head], words[self._cq_tail]
        count = (tail - head) & 0xFFFF_FFFF
        if not count:
            return [], tail
        start = (head & (self.completions - 1)) * _COMPLETION.size
        stop = start + count * _COMPLETION.size
        found = list(_COMPLETION.iter_unpack(self._completions[start:stop]))
        if stop > len(self._completions):
            found += _COMPLETION.iter_unpack(self._completions[: stop - len(self._completions)])
        return found, tail

    def close(self) -> None:
        """Unmap the queues and close the descriptor; may be called again."""
        while self._views:
            self._views.pop().release()
        while self._mappings:
            self._mappings.pop().close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def why_not() -> str | None:
    """Return None if this process may use io_uring as `Ring` does, else the reason, found out by doing so."""
    if platform.machine().startswith(("alpha", "mips")):
        return f"not supported on {platform.machine()}, which numbers its system calls in its own way; use epoll"
    try:
        ring = Ring(1, 1)
        try:
            ring.enter(0)  # a filter may allow the one call and deny the other
        finally:
            ring.close()
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: OSError) -> str:
    what, kernel = error.strerror, f"this is Linux {platform.release()}"
    if error.errno == errno.ENOSYS:
        return (
            f"no io_uring here ({what}): the kernel is older than {_OLDEST} or built without it, or a sandbox hides "
            f"it; {kernel}; use epoll"
        )
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return f"this kernel's io_uring is too old ({what}): expected {_OLDEST} or newer, {kernel}; use epoll"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return f"{what}; use epoll"
    disabled = _disabled()
    if disabled == "2":
        return f"switched off on this machine ({what}): kernel.io_uring_disabled is 2, expected 0; use epoll"
    if disabled == "1":
        return (
            f"reserved for the privileged on this machine ({what}): kernel.io_uring_disabled is 1, expected 0, "
            "CAP_SYS_ADMIN, or membership in the group kernel.io_uring_group; use epoll"
        )
    return (
        f"this process may not use io_uring ({what}): most likely a seccomp filter, as container runtimes install by "
        "default; allow io_uring_setup and io_uring_enter there, or use epoll"
    )


def _disabled() -> str:
    try:
        return _SYSCTL.read_text().strip()
    except OSError:  # before Linux 6.6, or no /proc
        return ""
