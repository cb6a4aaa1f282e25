"""Responses to bytes (RFC 9112). This module knows no sockets, and the framing rules stand here only.

* A response to HEAD, a 204 and a 304 have no body, 1xx and 204 no Content-Length either (RFC 9110 8.6, RFC 9112 6.3).
* HTTP/1.1 keeps the connection unless someone says "close"; HTTP/1.0 closes it unless both say "keep-alive" (RFC 9112
  9.3).
* A body of unknown length is chunked to an HTTP/1.1 client (RFC 9112 7.1), and ends with the connection for an
  HTTP/1.0 one.
"""

from __future__ import annotations

import http
import re
from collections import defaultdict
from email.utils import formatdate
from functools import lru_cache

from pollux_http.errors import HTTPInputError
from pollux_http.headers import HTTPHeaders, problem_of

SERVER_NAME = "Pollux/0.1.0"
HTML = "text/html; charset=UTF-8"

# What is sent again and again is hashed once a second: up to 256 bodies of a kilobyte for each content type.
SHORT_BODY = 1024  # bytes
MAX_ANSWERS = 256

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_FORBIDDEN_IN_REASON = re.compile(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9112 4: reason-phrase


def reason_phrase(status: int) -> str:
    """Return the usual reason of a status, "Unknown" for one that has none."""
    return _REASONS.get(status, "Unknown")


def check_reason(reason: str) -> str:
    """Return `reason` if it fits into a status line.

    :raises ValueError: it contains CR, LF or another control character.
    """
    if _FORBIDDEN_IN_REASON.search(reason):
        raise ValueError(f"a reason phrase holds no CR, LF or other control character, got {reason!r}")
    return reason


def bodiless(status: int) -> bool:
    """Return whether a response with this status never has a body."""
    return status < 200 or status in (204, 304)


class ResponseHeads:
    """Makes response heads; the parts that stay the same for a second are kept. `refresh` is called each second."""

    __slots__ = ("answers", "date", "plain")

    def __init__(self) -> None:
        self.plain: dict[str, bytes] = {}
        self.answers: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)  # by content type and body
        self.refresh()

    def refresh(self) -> None:
        """Take the time for `Date` (RFC 9110 6.6.1) anew."""
        self.date = formatdate(usegmt=True)
        self.plain.clear()
        self.answers.clear()

    def make_plain(self, content_type: str) -> bytes:
        """Make the head of a 200 to a kept-alive HTTP/1.1 request, without special headers, up to "Content-Length: ".

        It is kept in `plain`, for this second.

        :raises HTTPInputError: a header cannot hold the content type.
        """
        if (problem := problem_of("Content-Type", content_type)) is not None:
            raise HTTPInputError(problem)
        head = (
            f"HTTP/1.1 200 OK\r\nServer: {SERVER_NAME}\r\nContent-Type: {content_type}\r\n"
            f"Date: {self.date}\r\nContent-Length: "
        )
        self.plain[content_type] = result = head.encode("latin-1")
        return result

    def answer(self, content_type: str, body: bytes, etag: str) -> tuple[bytes, bytes]:
        """Make such a response whole, with an entity tag. A short one is kept in `answers`, for this second.

        :param etag: ASCII, with its quotes.
        :returns: head and body, or all of it and nothing.
        """
        length = len(body)
        plain = self.plain.get(content_type) or self.make_plain(content_type)
        head = b"%b%d\r\nEtag: %b\r\n\r\n" % (plain, length, etag.encode("ascii"))
        if length > SHORT_BODY:
            return head, body
        answers = self.answers[content_type]
        if len(answers) >= MAX_ANSWERS:
            answers.clear()
        answers[body] = whole = head + body
        return whole, b""

    def full(
        self,
        status: int,
        reason: str,
        headers: HTTPHeaders,
        *,
        http11: bool,
        keep_alive: bool,
        length: int | None,
        chunked: bool,
    ) -> bytes:
        """Return a whole head. Framing headers the caller has set are replaced by what is true.

        :param length: of the body; None if it is not known.
        """
        lines = [f"HTTP/1.1 {status} {check_reason(reason)}"]
        fields = headers.copy()
        fields.setdefault("Server", SERVER_NAME)
        fields.setdefault("Date", self.date)
        fields.pop("Transfer-Encoding", None)
        if status < 200 or status == 204:
            fields.pop("Content-Length", None)
        elif length is not None and (status != 304 or length):
            fields["Content-Length"] = str(length)
        elif chunked:
            fields["Transfer-Encoding"] = "chunked"
        if not keep_alive:
            fields["Connection"] = "close"
        elif not http11:
            fields["Connection"] = "keep-alive"
        lines += [f"{name}: {value}" for name, value in fields.get_all()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def error_response(status: int, message: str = "") -> bytes:
    """Return a whole response for a request that no application has seen; the connection closes after it."""
    head, body = _error_parts(status, message)
    return b"%bDate: %b\r\n\r\n%b" % (head, formatdate(usegmt=True).encode(), body)


@lru_cache(64)
def _error_parts(status: int, message: str) -> tuple[bytes, bytes]:
    reason = reason_phrase(status)
    body = f"{status} {reason}{': ' if message else ''}{message}\n".encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nServer: {SERVER_NAME}\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return head.encode("latin-1"), body


def as_chunk(data: bytes) -> bytes:
    """Return `data` as one chunk (RFC 9112 7.1); an empty one would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LENGTHS = [b"%d\r\n\r\n" % length for length in range(2048)]  # most bodies are short, and formatting a number is slow
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
