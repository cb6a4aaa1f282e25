"""Requests from bytes (RFC 9112). This module knows no sockets: bytes in, requests or `HTTPInputError` out.

What the outside world fixes
----------------------------
* llhttp, through httptools, is the grammar, in its strict mode: it refuses bare LF and CR, obs-fold, space before a
  colon, control characters, signs and duplicates in Content-Length, Content-Length together with Transfer-Encoding,
  bad chunk sizes.
* It does not know limits, Host, nor which transfer codings we can undo. Those rules are `RequestParser`'s, below.
* Each llhttp callback into Python costs about as much as all of llhttp's own work on a short request.

What was decided
----------------
* `RequestParser` handles everything: pieces of any size, bodies, pipelining, trailers. One belongs to one connection.
* `HeadParser` handles the common case and nothing else: a chunk that is exactly one request head, without a body,
  with the connection kept alive. llhttp only validates it, without calling back. There is no state between two calls,
  so one `HeadParser` serves all connections of a server, and an idle connection needs no parser at all. In any doubt
  it answers None, and `RequestParser` gets the very same bytes: only that one ever reports an error.
* The header fields of a short head are remembered by their bytes: a client repeats them with each request.
* Field names are lower-cased once, here: comparing them is then cheap everywhere, and ASGI wants them so.
* A body is kept until it is whole, unless whoever answers wants it as it comes (`streams`): then the request is
  handed out with its head, and the parser fills `request.incoming`.
* An offer to upgrade ends `feed`: what follows is HTTP only if the offer is not taken up (RFC 9110 7.8), and only the
  connection knows that. It is kept in `rest`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from io import SEEK_END, BytesIO
from typing import NamedTuple

import httptools

from pollux_http.errors import HTTPInputError
from pollux_http.inflating import Inflater
from pollux_http.request import Fields, HTTPServerRequest

MAX_HEADER_SIZE = 64 * 1024  # bytes of request line and fields: Tornado's limit
MAX_BODY_SIZE = 100 * 1024 * 1024  # bytes: Tornado's limit (its max_buffer_size)
REMEMBERED_HEAD_SIZE = 2048  # bytes: longer heads (big cookies) differ from user to user, remembering them is a waste

# RFC 9110 7.2: Host = uri-host [ ":" port ]; RFC 3986 3.2.2: a name, an IPv4 or a bracketed IPv6 address; may be empty.
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
# RFC 9112 3.2.2, the absolute form. Scheme and authority only say where the client thinks it is talking to.
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)

_END = b"\r\n\r\n"

# Bytes of a head beside the target and the field lines, which are what the limit counts: method, version, line ends.
UNCOUNTED = 64


class Limits(NamedTuple):
    """How much of one request is taken."""

    header_size: int = MAX_HEADER_SIZE
    body_size: int = MAX_BODY_SIZE


def check_host(fields: Fields, http11: bool) -> bytes:
    """Return the value of Host. RFC 9112 3.2: exactly one, and valid; HTTP/1.0 may leave it out.

    :raises HTTPInputError: none, several, or an invalid one.
    """
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1:
        raise HTTPInputError("several Host headers")
    if not hosts:
        if http11:
            raise HTTPInputError("no Host header")
        return b""
    if not _HOST.fullmatch(hosts[0]):
        raise HTTPInputError(f"invalid Host header {hosts[0]!r}")
    return hosts[0]


# Fields that say how the message or the connection goes on: not for the common case.
_SPECIAL = frozenset(
    {b"connection", b"content-length", b"expect", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


@lru_cache(512)
def _plain_fields(block: bytes) -> tuple[Fields, bytes] | None:
    """Split the header lines of one head; return them and Host. That the lines are well-formed, llhttp will find out.

    None: there is more than one head, a field is special, or Host is not as it should be.
    """
    if block.find(_END) != len(block) - 4 or block[:2] == b"\r\n":  # a head without any field, and a second head
        return None
    lines = [line.partition(b":") for line in block.split(b"\r\n") if line]
    fields = tuple([(name.lower(), value.strip(b" \t")) for name, _, value in lines])
    for name, value in fields:
        if name in _SPECIAL and not (name == b"connection" and value.lower() == b"keep-alive"):
            return None
    try:
        return fields, check_host(fields, True)
    except HTTPInputError:
        return None


class HeadParser:
    """The common case, without state between two calls."""

    __slots__ = ("_max_size", "_validate")

    def __init__(self, limits: Limits) -> None:
        self._max_size = min(limits.header_size, REMEMBERED_HEAD_SIZE)
        self._renew()

    def _renew(self) -> None:
        self._validate = httptools.HttpRequestParser(None).feed_data

    def parse(self, data: bytes) -> HTTPServerRequest | None:
        """Return the request that `data` is, or None if it is not exactly one simple request."""
        if data[-4:] != _END or len(data) > self._max_size:
            return None
        line, _, block = data.partition(b"\r\n")
        found = _plain_fields(block)
        try:
            method, target, version = line.split(b" ")
        except ValueError:
            return None
        if found is None or version != b"HTTP/1.1" or not target or target[0] != 47:  # 47: "/"
            return None
        try:
            self._validate(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the latter for CONNECT
            self._renew()
            return None
        # Without the call of the class, which costs as much as the rest of making one.
        request = HTTPServerRequest.__new__(HTTPServerRequest)
        request.method = name = method.decode()
        request.uri = target.decode()
        request.fields, request.raw_host = found
        if name == "HEAD":
            request.plain = False
        return request


class RequestParser:
    """Any requests in pieces of any size. `requests` holds those that can be answered.

    After an error no more may be fed: the connection is to be closed once what is in `requests` is answered.

    :param streams: called with each request whose head is complete and whose body is not: True hands it out at once
        (`request.complete` is False then).
    :param decompress: undo a Content-Encoding of gzip or deflate; the limit holds for what comes out.
    :ivar rest: what came behind an offer to upgrade, for `feed` if the offer was not taken up.
    :ivar skipped: bytes of the present body that were dropped, after `skip_body`; None before it.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_decompress",
        "_fed",
        "_fields",
        "_head_done",
        "_inflater",
        "_length",
        "_limits",
        "_parser",
        "_received",
        "_refused",
        "_request",
        "_room",
        "_size",
        "_streams",
        "_target",
        "_wants_continue",
        "requests",
        "rest",
        "skipped",
    )

    def __init__(
        self,
        limits: Limits,
        streams: Callable[[HTTPServerRequest], bool] | None = None,
        decompress: bool = False,
    ) -> None:
        self._limits = limits
        self._streams = streams
        self._decompress = decompress
        self.requests: deque[HTTPServerRequest] = deque()
        self.rest = b""
        self._refused: HTTPInputError | None = None
        self._fed = 0  # bytes that came since llhttp last reported something: of a line that is not complete yet
        self._begun = False  # whether anything of a next request has come
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._received = 0  # bytes of the body, as they came
        self._body: BytesIO | None = None
        self._room = 0  # bytes for which it has room
        self._length = 0  # that it will have, if it was announced and is not compressed
        self.skipped: int | None = None
        self._inflater: Inflater | None = None
        self._head_done = False
        self._wants_continue = False
        self._request: HTTPServerRequest | None = None

    def feed(self, data: bytes) -> None:
        """Parse the next piece. It ends behind a request that offers to upgrade, see `rest`.

        :raises HTTPInputError: malformed, or past a limit.
        """
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
            self._begin()
        except httptools.HttpParserError as error:
            raise self._refused or HTTPInputError(f"malformed request: {error}") from None
        # Limits must hold across reads: an unfinished line, of a head, of trailers or before a chunk, is kept or
        # skipped without a word.
        if self._size + self._fed > self._limits.header_size + UNCOUNTED:
            raise HTTPInputError(f"request head above {self._limits.header_size} bytes", 431)

    @property
    def idle(self) -> bool:
        """Whether nothing of a next request has come."""
        return not self._begun

    @property
    def in_body(self) -> bool:
        """Whether a head is complete, and its body is not."""
        return self._head_done

    @property
    def received(self) -> int:
        """Bytes that have come of the present body."""
        return self._received

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for "100 Continue" before it sends the present body."""
        return self._wants_continue and not self._received

    def take_continue(self) -> bool:
        """Return `wants_continue`, once for each such request."""
        wants, self._wants_continue = self.wants_continue, False
        return wants

    def skip_body(self) -> None:
        """Drop what comes of the present body: nobody wants it."""
        self.skipped = 0
        self._inflater = None

    def _refuse(self, message: str, status: int = 400) -> HTTPInputError:
        """Keep the error for `feed`: httptools wraps what a callback raises."""
        self._refused = HTTPInputError(message, status)
        return self._refused

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begun = True

    def on_url(self, piece: bytes) -> None:
        """A part of the request target."""
        self._fed = 0
        self._target += piece
        self._size += len(piece)
        if self._size > self._limits.header_size:
            raise self._refuse(f"request target above {self._limits.header_size} bytes", 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field: those are dropped (RFC 9110 6.5.1), but count."""
        self._fed = 0
        self._size += len(name) + len(value) + 4
        if self._size > self._limits.header_size:
            raise self._refuse(f"request head above {self._limits.header_size} bytes", 431)
        if not self._head_done:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete: check what llhttp does not, and make the request."""
        self._fed = 0
        self._head_done = True
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._refuse(f"HTTP version {version} is not supported", 505)
        http11 = version == "1.1"
        codings = []
        encoding = b""
        length = 0
        for name, value in self._fields:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"content-encoding":
                encoding = value.lower()
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise self._refuse(f"expectation {value!r} cannot be met", 417)
                self._wants_continue = http11  # RFC 9110 10.1.1: an HTTP/1.0 client does not know it
        if length > self._limits.body_size:
            raise self._refuse(f"request body above {self._limits.body_size} bytes", 413)
        if codings and codings != [b"chunked"]:
            raise self._refuse(f"transfer coding {b', '.join(codings)!r} is not supported", 501)
        if codings and not http11:
            raise self._refuse("Transfer-Encoding in HTTP/1.0")
        upgrade = parser.should_upgrade()
        if (codings or length) and upgrade:
            raise self._refuse("an Upgrade with a body")
        request = self._request = self._make_request(http11)
        request.upgrade = upgrade
        self._length = length
        if codings or length:
            if self._decompress and encoding in Inflater.CODINGS:
                self._inflater = Inflater(encoding)
                self._length = 0
                # As Tornado has it: the body is no longer what Content-Encoding says.
                request.fields = tuple(
                    (b"x-consumed-" + name if name == b"content-encoding" else name, value)
                    for name, value in request.fields
                )
            if self._streams is not None and self._streams(request):
                request.incoming = []
                request.complete = request.plain = False
                self.requests.append(request)

    def _make_request(self, http11: bool) -> HTTPServerRequest:
        parser = self._parser
        fields = tuple(self._fields)
        target = self._target
        method = parser.get_method()
        try:
            host = check_host(fields, http11)
        except HTTPInputError as error:
            self._refused = error
            raise
        if absolute := _ABSOLUTE.fullmatch(target):
            host, target = absolute[1], absolute[2] if absolute[2][:1] == b"/" else b"/" + absolute[2]
            if not _HOST.fullmatch(host):
                raise self._refuse(f"invalid authority {host!r} in the request target")
        elif target[:1] != b"/" and target != b"*" and method != b"CONNECT":
            raise self._refuse(f"invalid request target {target[:80]!r}")
        request = HTTPServerRequest(method.decode(), target.decode("latin-1"), fields, host)
        request.http11 = http11
        request.keep_alive = parser.should_keep_alive()
        request.plain = http11 and request.keep_alive and request.method != "HEAD"
        return request

    def on_body(self, piece: bytes) -> None:
        """A part of the body, whatever its coding."""
        self._fed = 0
        self._received += len(piece)
        limit = self._limits.body_size
        if self._received > limit:
            raise self._refuse(f"request body above {limit} bytes", 413)
        if self.skipped is not None:
            self.skipped += len(piece)
            return
        if self._inflater is not None:
            try:
                piece = self._inflater.inflate(piece, limit)
            except HTTPInputError as error:
                self._refused = error
                raise
        request = self._request
        if request is None or request.incoming is None:
            self._collect(piece)
        elif piece:
            request.incoming.append(piece)

    def _collect(self, piece: bytes) -> None:
        """Keep a part of a body that is wanted whole.

        A BytesIO hands out what it holds without copying it, for a mebibyte of new memory costs more than its bytes. As
        it grows by an eighth, which copies a large body ten times, room for four times what has come is made at once,
        up to the length that was announced: to announce a lot costs us nothing.
        """
        body = self._body
        if body is None:
            self._body = body = BytesIO(piece)
            body.seek(0, SEEK_END)
            return
        size = body.tell()
        room, self._room = self._room, max(self._room, size + len(piece))
        if room < self._room < self._length:
            self._room = min(self._length, 4 * self._room)
            body.seek(self._room - 1)
            body.write(b"\0")
            body.seek(size)
        body.write(piece)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._fed = 0
        self._begun = False
        if self._inflater is not None and not self._inflater.done:
            raise self._refuse("the compressed request body ends early")
        request = self._request
        if request is not None:  # always
            if request.incoming is None:
                if self._body is not None:
                    request.body = self._body.getvalue()
                self.requests.append(request)
            else:
                request.complete = True
                request.plain = request.http11 and request.keep_alive and request.method != "HEAD"
        self._reset()
