"""The first lines of requests and responses (RFC 9112 3 and 4), by Tornado's names. This module knows no sockets."""

from __future__ import annotations

import re
from typing import NamedTuple

from pollux_http.errors import HTTPInputError

_VERSION = re.compile(r"HTTP/1\.[0-9]")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_RESPONSE_LINE = re.compile(r"(HTTP/1\.[0-9]) ([0-9]{3}) ([\t\x20-\x7e\x80-\xff]*)")


class RequestStartLine(NamedTuple):
    """The first line of a request."""

    method: str
    path: str
    version: str


class ResponseStartLine(NamedTuple):
    """The first line of a response."""

    version: str
    code: int
    reason: str


def parse_request_start_line(line: str) -> RequestStartLine:
    """Take the first line of a request apart.

    :raises HTTPInputError: it is malformed.
    """
    parts = line.split(" ")
    if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]):
        raise HTTPInputError(f"a request begins with 'METHOD target HTTP/1.1', got {line[:200]!r}")
    return RequestStartLine(*parts)


def parse_response_start_line(line: str) -> ResponseStartLine:
    """Take the first line of a response apart.

    :raises HTTPInputError: it is malformed.
    """
    match = _RESPONSE_LINE.fullmatch(line)
    if match is None:
        raise HTTPInputError(f"a response begins with 'HTTP/1.1 200 reason', got {line[:200]!r}")
    return ResponseStartLine(match[1], int(match[2]), match[3])
