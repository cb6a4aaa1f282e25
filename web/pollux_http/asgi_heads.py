"""From the header fields of an ASGI application to those that are sent. They are bytes, and may be anything.

The framing of a response (Transfer-Encoding, Connection) is the server's; what the application says of it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pollux_http.headers import HTTPHeaders, problem_of
from pollux_http.response import SERVER_NAME, bodiless, reason_phrase


class Head(NamedTuple):
    """A response head that can be sent as it is; it ends with "Content-Length: " if `length` is None.

    `special`: it must not be, as the status allows no body, or the application asks for the end of the connection.
    """

    data: bytes
    length: int | None
    special: bool


def fields_of(fields: Iterable[tuple[bytes, bytes]]) -> HTTPHeaders:
    """Return `checked` fields as headers."""
    headers = HTTPHeaders()
    for name, value in fields:
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def checked(headers: Iterable[Iterable[bytes]]) -> list[tuple[bytes, bytes]]:
    """Return header fields that can go out.

    :raises ValueError: one cannot.
    """
    fields = []
    for name, value in headers:
        if type(name) is not bytes or type(value) is not bytes:
            raise ValueError(f"a header is a pair of bytes, got {name!r}: {value!r}")
        if (problem := problem_of(name.decode("latin-1"), value.decode("latin-1"))) is not None:
            raise ValueError(problem)
        fields.append((name, value))
    return fields


def _length(value: bytes) -> int:
    if not value.isdigit():
        raise ValueError(f"Content-Length is a number of bytes in decimal digits, got {value!r}")
    return int(value)


def make_head(status: int, headers: Iterable[Iterable[bytes]], date: str) -> Head:
    """Return the head of a response with `headers`.

    :raises ValueError: one cannot be sent.
    """
    length = None
    special = bodiless(status)
    names = set()
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status).encode("latin-1"))]
    for name, value in checked(headers):
        lower = name.lower()
        names.add(lower)
        if lower == b"content-length":
            length = _length(value)
        elif lower == b"connection":
            special = special or b"close" in value.lower()
        if lower not in (b"transfer-encoding", b"connection"):  # framing is the server's
            lines.append(b"%b: %b\r\n" % (name, value))
    if b"server" not in names:
        lines.append(b"Server: %b\r\n" % SERVER_NAME.encode())
    if b"date" not in names:
        lines.append(b"Date: %b\r\n" % date.encode())
    lines.append(b"Content-Length: " if length is None else b"\r\n")
    return Head(b"".join(lines), length, special)
