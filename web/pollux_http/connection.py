"""`ServerConnection`: one HTTP/1.1 connection, between an `IOStream` and an application.

The fast path: a request that comes in one piece and is answered without suspending goes `data_received`, application,
`respond`, `send` within one event: no Future, no Task, no timer, no callback in between, and no parser of its own.

Everything else is the slow path. Requests are answered in the order in which they came, one at a time (`_advance`):
what was read behind the current one waits in the parser, and nothing more is read meanwhile, so that what a client
can make us hold is one read, whatever it pipelines. Responses made while such a queue is worked off leave in one
write, and while a client does not read what it was sent, no further request of its is answered.

A request whose body is streamed is served when its head is there. Its body is pulled: `take_body` returns what has
come, `wait_for_body` asks to be told of more. What nobody takes stays in the kernel but for `BODY_BUFFER`, and what is
left when the answer is complete is read and dropped up to `DISCARDED_SIZE`: beyond that, closing is cheaper.

Longer than 500 lines, because a connection is one state machine.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, BinaryIO

from pollux.iostream import IOStream
from pollux.log import app_log, gen_log
from pollux_http.delegates import HTTPConnection
from pollux_http.errors import HTTPInputError
from pollux_http.headers import HTTPHeaders
from pollux_http.parsing import RequestParser
from pollux_http.request import HTTPServerRequest
from pollux_http.response import CONTINUE, HTML, LAST_CHUNK, LENGTHS, as_chunk, bodiless, error_response, reason_phrase

if TYPE_CHECKING:
    from pollux_http.server import HTTPServer

CORKED_SIZE = 64 * 1024  # bytes: pipelined responses above this leave before further requests are answered
JOINED_SIZE = 64 * 1024  # bytes: to copy a larger body behind its head costs more than a second system call
BODY_BUFFER = 64 * 1024  # bytes of a streamed body that wait for whoever wants them; one read may come on top
DISCARDED_SIZE = 256 * 1024  # bytes: a client that has begun to send is rarely stopped by the answer before so many


class ServerConnection(HTTPConnection):
    """What `HTTPServer` makes of each stream.

    :ivar address: the peer's, as `socket.accept` gave it.
    :ivar on_close: called once if the client goes away, or ends its side, while a request is being answered.
    :ivar state: for whoever answers: None at first, and kept from request to request.
    """

    __slots__ = (
        "__weakref__", "_chunked", "_context", "_corked", "_corked_size", "_current", "_eof", "_error", "_gone",
        "_last", "_lingering", "_on_body", "_parser", "_remaining", "address", "live", "on_close", "server", "since",
        "state", "stream",
    )  # fmt: skip

    def __init__(self, server: HTTPServer, stream: IOStream, address: Any) -> None:
        self.server = server
        self.stream = stream
        self.address = address
        self.since = server.now  # when the present state began or last made progress, for the deadlines
        self.on_close: Callable[[], object] | None = None
        self.state: Any = None
        self.live = False  # its request is among those that `HTTPServer(limit_concurrency=...)` counts
        self._on_body: Callable[[], object] | None = None  # who waits for more of a streamed body
        self._current: HTTPServerRequest | None = None  # the request that is being answered
        self._parser: RequestParser | None = None  # None: nothing of a next request has come, or it took the fast path
        self._corked: list[bytes] | None = None  # responses that leave together, while `_advance` is at work
        self._corked_size = 0  # bytes
        self._context: Context | None = None  # to serve in what waits behind a suspended handler
        self._error: HTTPInputError | None = None  # what came behind the last good request
        self._chunked: bool | None = None  # of a response in parts; None: its head is not sent
        self._remaining: int | None = None  # bytes of it that Content-Length announces still
        self._last = False  # the current response is the connection's last
        self._lingering = False  # all is said; waiting for the client to see it
        self._eof = False
        self._gone = False  # there is no client that the current request could still be answered to
        stream.set_close_callback(self._closed)
        stream.deliver_to(self.data_received)

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent; b"" is its end of file."""
        if self._parser is None and self._current is None:
            request = self.server.parse_head(data)
            if request is not None:
                self._serve(request)
                return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        if not data:
            self._end_of_file()
            return
        server = self.server
        parser = self._parser
        if parser is None:
            parser = self._parser = RequestParser(server.limits, server.streams_body, server.decompress_request)
            self.since = server.now
        elif parser.in_body:
            self.since = server.now
        self._feed(parser, data)
        self._advance()

    def _feed(self, parser: RequestParser, data: bytes) -> None:
        request = self._current
        streamed = request is not None and not request.complete
        try:
            parser.feed(data)
        except HTTPInputError as error:
            self._error = error
        if streamed:
            self._body_came()
        elif parser.skipped is not None and parser.skipped > DISCARDED_SIZE:
            self._last = True

    def _end_of_file(self) -> None:
        """The peer sends no more. It may still wait for the answer to what it has sent (RFC 9112 9.6)."""
        self._eof = True
        request = self._current
        if request is None:
            self._close_when_sent()
        elif not request.complete:
            self.abort()  # what it has sent is no request
        elif self.on_close is not None:
            callback, self.on_close = self.on_close, None
            callback()

    def _advance(self) -> None:
        """Answer the requests in order, as far as possible, and prepare for what comes next."""
        parser = self._parser
        if parser is None:
            return
        while self._may_answer(parser):
            if self.stream.unsent:
                self._wait_for_drain()
                return
            corked = self._corked = []
            self._corked_size = 0
            while self._may_answer(parser) and self._corked_size < CORKED_SIZE:
                self._serve(parser.requests.popleft())
            self._corked = None
            self.since = self.server.now
            if corked:
                self.stream.send(b"".join(corked))
        request = self._current
        if self._parser is not parser:
            pass  # it was detached, or cut off
        elif request is not None:
            if self._context is None:
                self._context = copy_context()
            if request.complete and (parser.requests or parser.rest or self._error is not None):
                self.stream.pause_reading()
        elif self._last or (self._error is not None and parser.skipped is not None):
            self._parser = self._context = None
            self._close_when_sent(linger=True)  # the client may have sent more, which nobody reads
        elif self._error is not None:
            self._refuse(self._error.status, str(self._error))
        else:
            if parser.take_continue():
                self.stream.send(CONTINUE)
            if parser.idle:
                self._parser = self._context = None
            if self._eof or (not self.server.keep_alive and self._parser is None):
                self._close_when_sent()
            elif self.stream.unsent:
                self._wait_for_drain()
            else:
                self.stream.resume_reading()

    def _wait_for_drain(self) -> None:
        """Read on only when the client has read what it was sent: what is unsent stays bounded."""
        self.stream.pause_reading()
        self.stream.on_drain(self._drained)

    def _may_answer(self, parser: RequestParser) -> bool:
        if self._current is not None or self._last or self.stream.closed():
            return False
        if parser.rest and not parser.requests:  # the offer to upgrade was not taken up
            rest, parser.rest = parser.rest, b""
            self._feed(parser, rest)
        return bool(parser.requests)

    # A body that is streamed

    def take_body(self) -> bytes:
        """Return what has come of the current request's body since the last time, and let more come.

        b"" says that nothing has come: then the body is at its end (`request.complete`), or `wait_for_body`.
        """
        request = self._current
        if request is None or request.incoming is None:
            return b""
        data = b"".join(request.incoming)
        request.incoming.clear()
        if not request.complete:
            self.stream.resume_reading()
        return data

    def wait_for_body(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when more of the body has come, or its end, or the client has gone away.

        A client that waits for "100 Continue" (RFC 9110 10.1.1) gets it now.
        """
        self._on_body = callback
        self.since = self.server.now
        if self._parser is not None and self._chunked is None and self._parser.take_continue():
            self._send_now(CONTINUE)

    def _body_came(self) -> None:
        request = self._current
        if request is None or request.incoming is None:
            return
        if self._error is not None and not request.complete:
            self._fail(self._error.status, str(self._error))
        elif self._on_body is not None:
            self._tell()
        elif not request.complete and sum(map(len, request.incoming)) >= BODY_BUFFER:
            self.stream.pause_reading()

    def _tell(self) -> None:
        """Wake who waits for the body."""
        callback, self._on_body = self._on_body, None
        if callback is not None:
            callback()

    def _fail(self, status: int, message: str) -> None:
        """Answer a fault of the client's within the body of the current request, if that is still possible."""
        if self._chunked is None:
            callback = self.on_close
            self._end_request()
            self._gone = True
            self._refuse(status, message)
            if callback is not None:
                callback()
            self._tell()
        else:
            self.abort()

    def _end_request(self) -> None:
        self._current = self.on_close = self._chunked = self._remaining = None
        if self.live:
            self.live = False
            self.server.live -= 1

    def _serve(self, request: HTTPServerRequest) -> None:
        self._current = request
        request.connection = self
        if self.server.attend is not None:
            self.server.attend(request)
        try:
            self.server.request_callback(request)
        except (SystemExit, KeyboardInterrupt):
            raise
        except Exception:
            app_log.error("Uncaught exception for %s %r", request.method, request.uri, exc_info=True)
            if self._current is request and self._chunked is None:
                self.respond(500, body=b"500 Internal Server Error\n", content_type="text/plain; charset=UTF-8")
            elif self._current is request:
                self.abort()

    # Responding

    def respond(
        self,
        status: int = 200,
        reason: str | None = None,
        headers: HTTPHeaders | None = None,
        content_type: str = HTML,
        body: bytes = b"",
    ) -> None:
        """Answer the current request, whole.

        :param reason: None for the status's usual one.
        :param headers: None for just `content_type`. Framing (Content-Length, Connection, ...) is added here.

        If the client has gone away, nothing happens.

        :raises RuntimeError: there is no request to answer: it was answered before.
        """
        request = self._current
        server = self.server
        is_plain = headers is None and reason is None and status == 200
        if is_plain and request is not None and request.plain and server.keep_alive:
            heads = server.heads
            head = heads.plain.get(content_type) or heads.make_plain(content_type)
            length = len(body)
            if length < len(LENGTHS):
                data = b"".join((head, LENGTHS[length], body))
                body = b""
            else:
                data = b"%b%d\r\n\r\n" % (head, length)
        else:
            if request is None and self.gone:
                return
            request = self._answerable()
            if headers is None:
                headers = HTTPHeaders({"Content-Type": content_type})
            data = self._full_head(request, status, reason, headers, len(body))
            if request.method == "HEAD" or bodiless(status):
                body = b""
        self.send_whole(data, body)

    def send_whole(self, data: bytes, body: bytes = b"") -> None:
        """Send `data` and `body`, together a whole response, and end the current request.

        For whoever makes heads himself, and only where `takes_plain` says so.
        """
        if body:
            if len(body) <= JOINED_SIZE or self._corked is not None:
                data += body
            else:
                self.stream.send(data)
                data = body
        if self._corked is not None:
            self._corked.append(data)
            self._corked_size += len(data)
        elif not self.stream.send(data) and self._parser is None:
            self._wait_for_drain()
        self._responded()

    def takes_plain(self, request: HTTPServerRequest) -> bool:
        """Return whether `request` waits for its answer and that need not say anything about the connection."""
        return self._current is request and request.plain and self._chunked is None and self.server.keep_alive

    def send_interim(self, status: int, headers: HTTPHeaders) -> None:
        """Send a response before the response, such as 103 (RFC 8297), where the client knows what that is: HTTP/1.1.

        :raises RuntimeError: the response was started.
        """
        if self._current is None and self.gone:
            return
        request = self._answerable()
        if request.http11:
            lines = [f"{name}: {value}" for name, value in headers.get_all()]
            head = "\r\n".join([f"HTTP/1.1 {status} {reason_phrase(status)}", *lines, "", ""])
            self._send_now(head.encode("latin-1"))

    def start(self, status: int, reason: str | None, headers: HTTPHeaders) -> None:
        """Send the head of a response whose body comes in parts: `write` them, then `finish`.

        With a Content-Length among `headers` the body goes out as it is, else it is chunked.

        :raises ValueError: that Content-Length is no number, or the head cannot be sent; nothing was sent.
        :raises RuntimeError: there is no request to answer: it was answered before.
        """
        if self._current is None and self.gone:
            return
        request = self._answerable()
        length = None
        if "Content-Length" in headers:
            text = headers["Content-Length"]
            if not (text.isascii() and text.isdigit()):
                raise ValueError(f"Content-Length is a number of bytes in decimal digits, got {text!r}")
            length = int(text)
        chunked = length is None and request.http11 and not bodiless(status) and request.method != "HEAD"
        if length is None and not request.http11:
            self._last = True  # HTTP/1.0: the end of the connection is the end of the body
        head = self._full_head(request, status, reason, headers, length, chunked)
        self._chunked = chunked  # from here on it is started
        self._write(head)
        self._remaining = None if bodiless(status) or request.method == "HEAD" else length

    def write(self, chunk: bytes) -> Awaitable[None]:
        """Send a part of the body of a response that was started.

        :returns: an awaitable that is done when the kernel has taken all that was sent.
        :raises StreamClosedError: from the awaitable: the client goes away before that.
        :raises RuntimeError: it is more than Content-Length says.
        """
        if self._current is not None and self._current.method != "HEAD":
            if self._remaining is not None:
                if len(chunk) > self._remaining:
                    # The rest would be taken for the next response.
                    raise RuntimeError(f"Content-Length leaves {self._remaining} bytes to write, got {len(chunk)}")
                self._remaining -= len(chunk)
            self._write(as_chunk(chunk) if self._chunked else chunk)
        return self.stream.drained()

    def write_file(self, file: BinaryIO, offset: int, count: int) -> Awaitable[None]:
        """Send a part of a file as a part of the body of a response that was started: see `RawStream.send_file`.

        :returns: see `write`. If the file turns out to be shorter, the connection is closed.
        :raises RuntimeError: it is more than Content-Length says; the file is closed.
        """
        request = self._current
        if request is None or request.method == "HEAD" or count <= 0:
            file.close()
            return self.stream.drained()
        if self._remaining is not None:
            if count > self._remaining:
                file.close()
                raise RuntimeError(f"Content-Length leaves {self._remaining} bytes to write, got a file of {count}")
            self._remaining -= count
        if self._chunked:
            self._write(b"%x\r\n" % count)
        elif self._corked:
            self._flush_corked()
        if not self.stream.unsent:
            self.since = self.server.now
        sent = self.stream.send_file(file, offset, count)
        if self.stream.unsent:
            self._corked_size = CORKED_SIZE
        if self._chunked:
            self.stream.send(b"\r\n")
            return self.stream.drained()
        return sent

    def finish(self, trailers: HTTPHeaders | None = None) -> None:
        """End a response that was started.

        :param trailers: fields behind the body (RFC 9110 6.5): sent if it is chunked and the client has said that it
            takes them (`TE: trailers`), else dropped.
        :raises RuntimeError: it was not started.
        """
        request = self._current
        if request is None and self.gone:
            return
        if self._chunked is None:
            raise RuntimeError("finish() is for a response that was begun by start() or write_headers()")
        if self._chunked:
            if trailers and request is not None and "trailers" in request.headers.get("TE", ""):
                lines = [f"{name}: {value}\r\n" for name, value in trailers.get_all()]
                self._write(b"0\r\n%b\r\n" % "".join(lines).encode("latin-1"))
            else:
                self._write(LAST_CHUNK)
        if self._remaining:
            app_log.error("a response ended %d bytes short of its Content-Length", self._remaining)
            self.abort()
        if not self.server.keep_alive:  # since the head was sent
            self._last = True
        if self.stream.unsent and self._parser is None:
            self._wait_for_drain()
        self._responded()

    def detach(self) -> tuple[IOStream, bytes]:
        """Take the stream away from HTTP, in place of an answer to the current request or behind the head of one.

        :returns: the stream, not being read, and what the client has sent behind the request.
        :raises RuntimeError: there is no request that waits for its answer, its body is not complete, or it is chunked,
            or another request has come behind it.
        """
        request, parser = self._current, self._parser
        if request is None or not request.complete or self._chunked:
            raise RuntimeError("detach() is for a request that has come whole, and has no answer but a head")
        if parser is not None and (parser.requests or not parser.idle):
            raise RuntimeError("detach(): another HTTP request came behind this one")
        rest = b"" if parser is None else parser.rest
        if self._corked:
            self._flush_corked()
        self._end_request()
        self._parser = self._context = None
        self._last = self._gone = True  # nothing is answered here any more
        self.stream.pause_reading()
        self.stream.on_drain(None)
        self.stream.set_close_callback(None)
        self.server.forget(self)
        return self.stream, rest

    def _answerable(self) -> HTTPServerRequest:
        if self._current is None or self._chunked is not None:
            raise RuntimeError("this request has been answered already")
        return self._current

    def _full_head(
        self,
        request: HTTPServerRequest,
        status: int,
        reason: str | None,
        headers: HTTPHeaders,
        length: int | None,
        chunked: bool = False,
    ) -> bytes:
        if not request.keep_alive or not self.server.keep_alive or headers.get("Connection", "").lower() == "close":
            self._last = True
        elif self._parser is not None and self._parser.wants_continue and status >= 200:
            self._last = True  # the client may send the body nevertheless, or not: it cannot be told from a request
        return self.server.heads.full(
            status,
            reason if reason is not None else reason_phrase(status),
            headers,
            http11=request.http11,
            keep_alive=not self._last,
            length=length,
            chunked=chunked,
        )

    def _write(self, data: bytes) -> None:
        # Parts are never corked: whoever awaits `drained` between them must see what is unsent.
        if not self.stream.unsent:
            self.since = self.server.now  # the client has had nothing to read until now
        self._send_now(data)

    def _send_now(self, data: bytes) -> None:
        if self._corked:
            self._flush_corked()
        if not self.stream.send(data):
            self._corked_size = CORKED_SIZE  # no further request is answered until the client has read this

    def _flush_corked(self) -> None:
        if self._corked:
            self.stream.send(b"".join(self._corked))
            self._corked.clear()
            self._corked_size = 0

    def _responded(self) -> None:
        request = self._current
        self._end_request()
        if request is not None and not request.complete and self._parser is not None:
            self._on_body = None
            self._parser.skip_body()
        if self._corked is None:  # else `_advance` is at work, and goes on by itself
            self.since = self.server.now
            if self._parser is not None:
                if self._context is not None and (self._parser.requests or self._parser.rest):
                    # Not from here: the next request is not to run within the task and context of this one.
                    self.stream.io_loop.call_soon(self._advance, context=self._context)
                else:
                    self._advance()
            elif self._last or self._eof:
                self._close_when_sent(linger=True)  # the client may have sent more, which nobody reads

    def _drained(self) -> None:
        self.since = self.server.now
        if self._parser is not None:
            self._advance()
        elif self._last or self._eof or not self.server.keep_alive:
            self._close_when_sent(linger=True)
        else:
            self.stream.resume_reading()

    # Closing

    def abort(self) -> None:
        """Cut the connection: the client must not take what it has of the current response for the whole."""
        self._last = True
        self._flush_corked()  # responses to earlier requests, which are whole
        self.stream.close()

    def close(self) -> None:
        """Close the connection, whatever it is at."""
        self.stream.close()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is here, its answer on the way, or the client has yet to see it."""
        if not self.busy and not self._lingering:
            self.stream.deliver_arrived()
        if not self.busy and not self._lingering:
            self.stream.close()

    def abandon(self, request: HTTPServerRequest) -> None:
        """Cut the connection if `request` is still unanswered: the last resort, when even an error page failed."""
        if self._current is request:
            self.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, and close."""
        gen_log.info("Refused %s: %s", self.address or "a client", message)
        self._last = True
        self._parser = self._context = None
        self.stream.send(error_response(status, message))
        self._close_when_sent(linger=True)

    def _close_when_sent(self, linger: bool = False) -> None:
        """Close after what is unsent has left.

        :param linger: read on for a moment: to close a socket with unread data makes the kernel send a reset, which may
            overtake the response (RFC 9112 9.6). Not with TLS, which cannot end one side only.
        """
        self.since = self.server.now
        if self.stream.unsent:
            self.stream.pause_reading()
            self.stream.on_drain(lambda: self._close_when_sent(linger))
        elif linger and not self._eof and not self.stream.closed() and self.server.ssl_options is None:
            self._lingering = True
            self.stream.deliver_to(self._discard)  # what comes now is no request, whatever it looks like
            try:
                self.stream.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.stream.close()
        else:
            self.stream.close()

    def _discard(self, data: bytes) -> None:
        if not data:
            self.stream.close()

    def _closed(self) -> None:
        self.server.forget(self)
        callback = self.on_close
        self._end_request()
        self._gone = True
        self._parser = self._context = None
        if callback is not None:
            callback()
        self._tell()

    @property
    def gone(self) -> bool:
        """Whether there is no client any more that the current request could be answered to."""
        return self._gone or self.stream.closed()

    @property
    def busy(self) -> bool:
        """Whether a request is on its way in, being answered, or its answer on its way out."""
        return self._current is not None or self._parser is not None or self.stream.unsent > 0

    def check_deadline(self, now: float) -> None:
        """Close the connection if the client has kept us waiting for too long. Called by the server's sweep."""
        waited = now - self.since
        server = self.server
        if self.stream.unsent:
            if self.stream.take_progress():
                self.since = now
            elif waited > server.send_timeout:
                self.stream.close(TimeoutError(f"the client has not read for {server.send_timeout} seconds"))
        elif self._lingering:
            if waited > server.linger_timeout:
                self.stream.close()
        elif self._current is not None:
            if self._on_body is not None and waited > server.body_timeout:
                self._fail(408, "the request body is late")  # else it is the application that takes its time
        elif self._parser is None:
            if waited > server.idle_connection_timeout:
                self.stream.close()
        elif self._parser.in_body:
            if waited > server.body_timeout:
                self._refuse(408, "the request body is late")
        elif waited > server.header_timeout:
            self._refuse(408, "the request head is late")
