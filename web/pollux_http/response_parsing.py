"""Responses from bytes (RFC 9112). This module knows no sockets: bytes in, a head and pieces of a body out.

What the outside world fixes
----------------------------
* llhttp, through httptools, is the grammar, in its strict mode, as for requests (`parsing.py`).
* It cannot be told that a response has no body although its head announces one: HEAD, 2xx to CONNECT (RFC 9112 6.3).
* A server repeats the head of its responses, byte for byte but for `Date`, which changes once a second.

What was decided
----------------
* The head is cut off here, at its empty line, and llhttp validates it; a short one is remembered by its bytes. So most
  responses on a warm connection cost a look-up, and no parser.
* A body with Content-Length, or one that ends with the connection, is counted here. Only a chunked one goes through
  llhttp, by a parser of its own.
* One parser belongs to one exchange: nothing is carried over to the next one on that connection. What comes behind the
  response is `surplus`, and a connection with surplus cannot be used again: it would be taken for the next answer.
* Whatever is ambiguous is an error: Content-Length with Transfer-Encoding, several Content-Lengths, a transfer coding
  that is not just "chunked", Transfer-Encoding in HTTP/1.0, bare CR or LF.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import httptools

from pollux_http.errors import HTTPInputError
from pollux_http.request import Fields

MAX_HEADER_SIZE = 64 * 1024  # bytes: Tornado's limit
REMEMBERED_HEAD_SIZE = 2048  # bytes: longer heads (cookies, policies) tend to differ each time

_END = b"\r\n\r\n"
_VERSION = re.compile(rb"HTTP/1\.[01] [0-9]{3}[ \r]")
_REASON = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9112 4
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"  # what a parser of chunks has to see first


class Head(NamedTuple):
    """A status line and its fields, the names in lower case, and what they say about the body.

    :param length: Content-Length; None if there is none.
    :param chunked: the body is in chunks.
    :param keep_alive: the connection may be used again (RFC 9112 9.3).
    """

    code: int
    reason: str
    http11: bool
    fields: Fields
    length: int | None
    chunked: bool
    keep_alive: bool

    def value(self, name: bytes) -> bytes | None:
        """Return the first value of a field, by its name in lower case."""
        return next((value for key, value in self.fields if key == name), None)


class _Collector:
    """What llhttp finds in a head."""

    def __init__(self) -> None:
        self.reason = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(data: bytes) -> Head:
    """Parse a whole head, from the status line to the empty line.

    :raises HTTPInputError: it is malformed or ambiguous.
    """
    return _remembered(data) if len(data) <= REMEMBERED_HEAD_SIZE else _parse(data)


def _parse(data: bytes) -> Head:
    if not _VERSION.match(data):
        raise HTTPInputError(f"expected a status line of HTTP/1.1 or HTTP/1.0, got {data[:60]!r}")
    found = _Collector()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HTTPInputError(f"malformed response head: {error}") from None
    reason = found.reason.decode("latin-1")
    if not found.complete or not _REASON.fullmatch(reason):
        raise HTTPInputError(f"malformed response head: {data[:60]!r}")
    http11 = data[7:8] == b"1"
    length: int | None = None
    codings, options = [], []
    for name, value in found.fields:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            options += [option.strip(b" \t").lower() for option in value.split(b",")]
    if codings and (codings != [b"chunked"] or not http11):
        version = "1.1" if http11 else "1.0"
        raise HTTPInputError(f"expected Transfer-Encoding: chunked or none, got {codings!r} in HTTP/{version}")
    if codings and length is not None:
        raise HTTPInputError("Content-Length together with Transfer-Encoding")
    keep_alive = b"close" not in options and (http11 or b"keep-alive" in options)
    return Head(parser.get_status_code(), reason, http11, tuple(found.fields), length, bool(codings), keep_alive)


_remembered = lru_cache(256)(_parse)


class _Chunks:
    """A chunked body, on its way through llhttp (RFC 9112 7.1). Trailers are dropped, but count."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes of trailers, and of a line that is not complete yet
        self._idle = 0  # bytes since llhttp last reported something
        self._size = 0  # bytes of trailers
        self.pieces: list[bytes] = []
        self.done = self.surplus = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED)

    def feed(self, data: bytes) -> list[bytes]:
        self.pieces = []
        self._idle += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.done:
                raise HTTPInputError(f"malformed chunked response body: {error}") from None
            self.surplus = True
        if self._size + self._idle > self._limit and not self.done:
            raise HTTPInputError(f"trailers, or the line before a chunk, above {self._limit} bytes")
        return self.pieces

    def on_body(self, piece: bytes) -> None:
        self._idle = 0
        self.pieces.append(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._idle = 0
        self._size += len(name) + len(value)

    def on_message_complete(self) -> None:
        self.done = True

    def on_message_begin(self) -> None:
        self.surplus = self.done


class ResponseParser:
    """One response to one request.

    :param method: the request's.
    :param max_header_size: bytes of all heads (there may be interim ones), and of trailers.
    :ivar head: of the final response, None before it is there.
    :ivar interim: statuses of the interim responses (1xx) that have come.
    :ivar max_body_size: bytes of the body as it comes; may be set when the head is there.
    :ivar done: the response is complete.
    :ivar surplus: bytes came behind it, or it had a body that its status forbids.
    :ivar received: bytes of the body that have come.
    """

    __slots__ = (
        "_chunks", "_left", "_max_header_size", "_method", "_partial", "_size", "done", "head", "interim",
        "max_body_size", "received", "surplus",
    )  # fmt: skip

    def __init__(self, method: str, max_header_size: int, max_body_size: int) -> None:
        self._method = method
        self._max_header_size = max_header_size
        self.max_body_size = max_body_size
        self.head: Head | None = None
        self.interim: list[int] = []
        self.done = self.surplus = False
        self.received = 0
        self._partial = b""  # of a head
        self._size = 0  # bytes of heads so far
        self._left: int | None = 0  # bytes of the body; None: until the connection ends
        self._chunks: _Chunks | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has come; return the pieces of the body in it.

        :raises HTTPInputError: malformed, ambiguous or past a limit; the connection must be closed.
        """
        if self.done:
            self.surplus = True
            return []
        if self.head is None:
            data = self._feed_head(data)
            if not data or self.done:
                return []
        if self._chunks is not None:
            pieces = self._chunks.feed(data)
            self.received += sum(map(len, pieces))
            self.done, self.surplus = self._chunks.done, self._chunks.surplus
        else:
            left = self._left
            if left is not None:
                if len(data) > left:
                    data, self.surplus = data[:left], True
                self._left = left = left - len(data)
                self.done = not left
            self.received += len(data)
            pieces = [data]
        if self.received > self.max_body_size:
            raise HTTPInputError(f"response body above {self.max_body_size} bytes")
        return pieces

    def end(self) -> None:
        """The connection has ended.

        :raises HTTPInputError: within the response.
        """
        if self.done:
            return
        if self.head is not None and self._left is None and self._chunks is None:
            self.done = True
            return
        if self.head is None:
            where = "before the response" if not (self._size or self._partial) else "within the response head"
        elif self._left is None:
            where = "within the chunked response body"
        else:
            where = f"{self._left} of {self.head.length} bytes before the end of the response body"
        raise HTTPInputError(f"the connection ended {where}")

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self._size or self._partial)

    def _feed_head(self, data: bytes) -> bytes:
        """Parse heads, up to the final one; return what comes behind."""
        searched = len(self._partial)
        if searched:
            data = self._partial + data
            self._partial = b""
        while True:
            end = data.find(_END, max(0, searched - 3))
            size = len(data) if end < 0 else end + 4
            if self._size + size > self._max_header_size:
                raise HTTPInputError(f"response head above {self._max_header_size} bytes")
            if end < 0:
                self._partial = data
                return b""
            head = parse_head(data[:size])
            self._size += size
            data = data[size:]
            searched = 0
            if head.code >= 200 or head.code == 101:
                self._take(head)
                if self.done and data:
                    self.surplus = True
                return data
            self.interim.append(head.code)

    def _take(self, head: Head) -> None:
        self.head = head
        code = head.code
        if code == 101:
            raise HTTPInputError("the server changed to another protocol (101), which was not asked for")
        if self._method == "HEAD" or code == 304:
            self.done = True
        elif code == 204:
            self.done = True
            self.surplus = head.chunked or bool(head.length)  # RFC 9110 8.6: who announces a body may well send it
        elif head.chunked:
            self._left = None
            self._chunks = _Chunks(self._max_header_size)
        else:
            self._left = head.length
            self.done = head.length == 0
            if head.length is not None and head.length > self.max_body_size:
                raise HTTPInputError(f"response body of {head.length} bytes, above {self.max_body_size} bytes")

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        head = self.head
        if head is None or not self.done or self.surplus or not head.keep_alive:
            return False
        return self._method == "HEAD" or head.code in (204, 304) or head.chunked or head.length is not None
