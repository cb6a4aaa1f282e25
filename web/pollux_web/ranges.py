"""Byte ranges (RFC 9110 14): which part of a file a client asks for."""

from __future__ import annotations

import re

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRange(Exception):  # noqa: N818  # it is the client's, and answered 416
    """There is nothing in the range."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one behind the last that a Range header asks for; None for the whole.

    Several ranges, other units and what is malformed are ignored, as RFC 9110 14.2 lets us: the answer is the whole.

    :param size: of the file, in bytes.
    :raises UnsatisfiableRange: nothing of the file is in it.
    """
    match = _RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last bytes
        start, end = max(0, size - int(match[2])), size
        if not int(match[2]):
            raise UnsatisfiableRange
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= size or start >= end:  # RFC 9110 14.2 lets us refuse or ignore one that ends before it begins
        raise UnsatisfiableRange
    return start, end


def content_range(start: int, end: int, size: int) -> str:
    """Return the value of Content-Range for a part of a file."""
    return f"bytes {start}-{end - 1}/{size}"
