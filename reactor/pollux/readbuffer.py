"""`ReadBuffer`: bytes that have come, and the one read that waits for more. No sockets, no loop.

What the outside world fixes
----------------------------
* A stream has no messages: a delimiter may come in pieces, and one chunk may hold a hundred lines.
* `del data[:n]` of a bytearray moves a pointer (CPython: `ob_start`) and copies only when more than half is gone, so
  taking a buffer apart from its head is linear in all.
* `re` cannot go on with a search that ended for want of data.

What was decided
----------------
* A delimiter is searched for from where the last search ended, less what of it may hang over: over a buffer that grows
  slowly each byte is looked at once (and `len(delimiter) - 1` bytes again with each chunk).
* A regular expression resumes likewise, further back by the longest text it can match, if that is bounded and it does
  not look ahead: no match can begin before that. Any other is searched from the start with each chunk, so that the work
  is chunks times bytes: give those `max_bytes`. The width is what Python's own parser of expressions says
  (`re._parser`, private: without it every expression is searched from the start).
* A chunk that comes into an empty buffer and is exactly what was asked for is the answer itself, uncopied: the usual
  case of a protocol of requests and answers.
* Bytes leave the buffer only with an answer. A read that is given up before that has taken nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import index

Answer = bytes | int  # int: the bytes that `into` has put into the caller's buffer
_Bytes = bytes | bytearray

_COPY_BELOW = 2048  # bytes: up to here two small copies cost less than a memoryview


class UnsatisfiableReadError(Exception):
    """What was searched for did not come within `max_bytes`."""


class StreamBufferFullError(Exception):
    """The read buffer has outgrown `max_buffer_size`, or a write does not fit into `max_write_buffer_size`."""


class ReadBuffer:
    """What was received and not yet asked for, and at most one pending read.

    `until`, `until_regex`, `count`, `into` and `everything` start a read: they return its answer if it is here already,
    else None; then `feed` returns it as soon as it has come.

    :param limit: the most bytes to hold.
    """

    __slots__ = ("_count", "_data", "_delimiter", "_into", "_limit", "_max_bytes", "_partial", "_regex", "_searched")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0  # where to search on
        self._max_bytes: int | None = None
        self._delimiter: bytes | None = None  # each of these three is a kind of read; all None: none is pending
        self._regex: re.Pattern[bytes] | None = None
        self._count: int | None = None
        self._partial = False
        self._into: memoryview | None = None

    def __len__(self) -> int:
        return len(self._data)

    # Starting a read

    def until(self, delimiter: bytes, max_bytes: int | None = None) -> bytes | None:
        """Read up to and with `delimiter`.

        :raises UnsatisfiableReadError: more than `max_bytes` would be needed; also from `feed`.
        :raises TypeError: `delimiter` is not bytes.
        :raises ValueError: it is empty, or `max_bytes` is negative.
        """
        if type(delimiter) is not bytes:
            delimiter = _bytes_of(delimiter, "delimiter")
        if not delimiter:
            raise ValueError("the delimiter is empty: expected one byte or more")
        if max_bytes is not None:
            _check_size(max_bytes, "max_bytes")
        self._max_bytes = max_bytes
        self._delimiter = delimiter
        return self._try() if self._data else None  # type: ignore[return-value]  # an int only comes from `into`

    def until_regex(self, regex: bytes | re.Pattern[bytes], max_bytes: int | None = None) -> bytes | None:
        """Read up to the end of the first match of `regex`.

        :raises UnsatisfiableReadError: more than `max_bytes` would be needed; also from `feed`.
        :raises TypeError: `regex` is a str, or a pattern of str.
        :raises re.error: it is malformed.
        """
        pattern = re.compile(regex)
        if not isinstance(pattern.pattern, bytes):
            raise TypeError(f"the regular expression is matched with bytes: expected rb'...', got {pattern.pattern!r}")
        if max_bytes is not None:
            _check_size(max_bytes, "max_bytes")
        self._max_bytes = max_bytes
        self._regex = pattern
        return self._try() if self._data else None  # type: ignore[return-value]

    def count(self, size: int, partial: bool = False) -> bytes | None:
        """Read `size` bytes; with `partial` as many as there are, but at least one.

        :raises ValueError: `size` is negative.
        :raises TypeError: it is no integer.
        """
        self._count = _check_size(size, "the number of bytes to read")
        self._partial = partial
        return self._try() if self._data or not size else None  # type: ignore[return-value]

    def into(self, buffer: memoryview, partial: bool = False) -> int | None:
        """Fill `buffer`, a writable view of bytes; the answer is how many were put there."""
        self._count = len(buffer)
        self._partial = partial
        self._into = buffer
        return self._try() if self._data or not self._count else None  # type: ignore[return-value]

    def forget(self) -> None:
        """Give up the pending read; what has come for it stays here for the next one."""
        self._delimiter = self._regex = self._count = None
        self._searched = 0
        self._release()

    # What comes

    def feed(self, chunk: bytes) -> Answer | None:
        """Take what was received; return the answer of the pending read, None if there is none yet.

        :raises UnsatisfiableReadError: the pending read can no longer be answered.
        :raises StreamBufferFullError: there is more than `limit` now.
        """
        data = self._data
        if data:
            data += chunk
            if len(data) > self._limit:
                raise StreamBufferFullError(
                    f"Reached maximum read buffer size: {len(data)} bytes, max_buffer_size is {self._limit}"
                )
            return self._try()
        delimiter = self._delimiter
        if (
            delimiter is not None
            and self._max_bytes is None
            and 0 <= chunk.find(delimiter) == len(chunk) - len(delimiter)
        ):
            self._delimiter = None
            return chunk  # one line: as most come, and worth a call less
        end = self._end(chunk)
        if end == len(chunk) and self._into is None:
            self._delimiter = self._regex = self._count = None
            self._searched = 0
            return chunk
        data += chunk
        return None if end is None else self._take(end)

    def everything(self) -> bytes:
        """Take all that is here."""
        end = len(self._data)
        self._release()
        return self._take(end)  # type: ignore[return-value]

    def _try(self) -> Answer | None:
        end = self._end(self._data)
        return None if end is None else self._take(end)

    def _end(self, data: _Bytes) -> int | None:
        """Return where the pending read ends in `data`, None if that has not come yet."""
        delimiter = self._delimiter
        if delimiter is not None:
            found = data.find(delimiter, self._searched)
            if found >= 0:
                end = found + len(delimiter)
                if self._max_bytes is not None and end > self._max_bytes:
                    raise self._unsatisfiable(delimiter)
                return end
            self._searched = max(0, len(data) - len(delimiter) + 1)
        elif self._count is not None:
            if len(data) >= self._count or (self._partial and data):
                return min(self._count, len(data))
            return None
        elif self._regex is not None:
            match = self._regex.search(data, self._searched)
            if match is not None:
                if self._max_bytes is not None and match.end() > self._max_bytes:
                    raise self._unsatisfiable(self._regex.pattern)
                return match.end()
            self._searched = max(0, len(data) - _reach(self._regex))
        else:
            return None
        if self._max_bytes is not None and len(data) > self._max_bytes:
            raise self._unsatisfiable(delimiter or self._regex)
        return None

    def _take(self, end: int) -> Answer:
        """Remove the first `end` bytes: the answer. The pending read is over."""
        data = self._data
        answer: Answer
        if self._into is not None:
            with memoryview(data) as view:
                self._into[:end] = view[:end]
            self._release()
            answer = end
        elif end <= _COPY_BELOW:
            answer = bytes(data[:end])
        else:
            with memoryview(data) as view:
                answer = bytes(view[:end])
        del data[:end]
        self._delimiter = self._regex = self._count = None
        self._searched = 0
        return answer

    def _release(self) -> None:
        """Let go of the caller's buffer: while it is viewed, it cannot be resized."""
        if self._into is not None:
            self._into.release()
            self._into = None

    def _unsatisfiable(self, wanted: object) -> UnsatisfiableReadError:
        return UnsatisfiableReadError(f"delimiter {wanted!r} not found within {self._max_bytes} bytes")


def _check_size(size: int, name: str) -> int:
    size = index(size)
    if size < 0:
        raise ValueError(f"{name}: expected 0 or more, got {size}")
    return size


def _bytes_of(data: object, name: str) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"{name}: expected bytes, got {data!r}")


_UNBOUNDED = 1 << 62  # larger than any buffer


@lru_cache(maxsize=64)
def _reach(regex: re.Pattern[bytes]) -> int:
    """Return how far before the end of the data a match may begin that more data would complete, in bytes.

    It is the greatest width of a match; none that begins earlier can depend on what is not here. Looking ahead makes it
    unbounded: its width does not count as the match's. Looking back does not matter: `search(data, pos)` sees what is
    before `pos`.
    """
    if b"(?=" in regex.pattern or b"(?!" in regex.pattern:
        return _UNBOUNDED
    try:
        from re import _parser  # type: ignore[attr-defined]

        return int(_parser.parse(regex.pattern, regex.flags & ~re.DEBUG).getwidth()[1])
    except (ImportError, AttributeError):
        return _UNBOUNDED
