"""`Exchange`: one request and its response on a connection.

The response is read while the request is still being sent: a server may answer early, and refuse the rest of a body. A
connection whose request was not sent to its end is not used again.

The body of a response goes through a decoder if it is compressed, and then into memory, or piece by piece to a
`streaming_callback`. When that returns an awaitable, no more is read until it is done; what one read has brought waits.
The body of a redirect that is followed is read and dropped, up to `DISCARDED_SIZE`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any

from pollux.iostream import StreamClosedError
from pollux_http.client_errors import HTTPResponseError, HTTPStreamClosedError
from pollux_http.decoding import Decoder
from pollux_http.errors import HTTPInputError
from pollux_http.headers import normalize
from pollux_http.response import LAST_CHUNK, as_chunk
from pollux_http.response_parsing import Head, ResponseParser

if TYPE_CHECKING:
    from pollux_http.client_connection import ClientConnection
    from pollux_http.fetching import Fetch

JOINED_SIZE = 64 * 1024  # bytes: to copy a larger body behind its head costs more than a second system call
DISCARDED_SIZE = 64 * 1024  # bytes of a redirect's body: reading more costs more than a new connection


class Exchange:
    """Made for one request; `start` begins it.

    :ivar head: of the final response, with Content-Encoding renamed if it was undone.
    :ivar redirect: the response is a redirect that is followed.
    :ivar first_byte: when that of the response came, by the loop's clock.
    """

    __slots__ = (
        "_body", "_consuming", "_decoder", "_ended", "_left", "_over", "_parser", "_pieces", "_producing", "_sent",
        "_wants_continue", "connection", "fetch", "first_byte", "head", "redirect",
    )  # fmt: skip

    def __init__(self, fetch: Fetch, connection: ClientConnection) -> None:
        client = fetch.client
        self.fetch = fetch
        self.connection = connection
        self.head: Head | None = None
        self.redirect = False
        self.first_byte = 0.0
        limit = client.max_body_size if fetch.streaming is not None else client.max_whole_body
        self._parser = ResponseParser(fetch.current.method, client.max_header_size, limit)
        self._body: list[bytes] = []
        self._decoder: Decoder | None = None
        self._pieces: Iterator[bytes] | None = None  # of what was read, while a callback is waited for
        self._consuming: asyncio.Future[Any] | None = None  # what the callback has returned
        self._producing: asyncio.Future[Any] | None = None  # what body_producer has returned
        self._left = 0  # bytes that body_producer has yet to write, where that is known
        self._wants_continue = False  # the body waits for "100 Continue"
        self._sent = False  # the whole request
        self._ended = False  # the server's side
        self._over = False

    # The request

    def start(self) -> None:
        """Send the request, or what can be sent of it now."""
        fetch = self.fetch
        self.connection.exchange = self
        send = self.connection.stream.send
        body = fetch.current.body
        if body is None and fetch.producer is None:
            self._sent = True
            send(fetch.head.data)
        elif fetch.settings.expect_100_continue and fetch.head.length != 0:
            self._wants_continue = True
            send(fetch.head.data)
        elif body is not None and len(body) <= JOINED_SIZE:
            self._sent = True
            send(fetch.head.data + body)
        else:
            send(fetch.head.data)
            self._send_body()

    def _send_body(self) -> None:
        fetch = self.fetch
        if fetch.producer is None:
            self._sent = True
            self.connection.stream.send(fetch.current.body or b"")
            return
        self._left = fetch.head.length or 0
        try:
            produced = fetch.context.run(fetch.producer, self._write)
        except Exception as error:
            self._fail(error)
            return
        if produced is not None and inspect.isawaitable(produced):
            self._producing = self._future_of(produced)
            self._producing.add_done_callback(self._produced)
        else:
            self._end_body()

    def _write(self, data: bytes) -> Awaitable[None]:
        """What body_producer gets. The result may be awaited: it is done when what was written has left.

        :raises StreamClosedError: the request is over.
        :raises ValueError: it is more than Content-Length has announced.
        """
        stream = self.connection.stream
        if self._over or stream.closed():
            raise StreamClosedError(stream.error)
        if self.fetch.head.chunked:
            data = as_chunk(data)
        else:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError(f"body_producer wrote {-self._left} bytes above Content-Length")
            self._sent = not self._left  # whatever body_producer may do after that
        if data:
            stream.send(data)
        return stream.drained()

    def _produced(self, future: asyncio.Future[Any]) -> None:
        self._producing = None
        error = _error_of(future, "body_producer")
        if self._over:
            return
        if error is None:
            self._end_body()
        elif isinstance(error, StreamClosedError):
            self.lost(error.real_error)
        else:
            self._fail(error)

    def _end_body(self) -> None:
        if self.fetch.head.chunked:
            self.connection.stream.send(LAST_CHUNK)
        elif self._left > 0:
            self._fail(ValueError(f"body_producer wrote {self._left} bytes less than Content-Length"))
            return
        self._sent = True

    # The response

    def received(self, data: bytes) -> None:
        """Take what the server has sent; b"" is the end of its side."""
        parser = self._parser
        if not data:
            try:
                parser.end()
            except HTTPInputError as error:
                self._ended_early(HTTPStreamClosedError(f"Connection closed: {error}"))
                return
            self._ended = True
            pieces = []
        else:
            if not self.first_byte:
                self.first_byte = self.fetch.loop.time()
            try:
                pieces = parser.feed(data)
            except HTTPInputError as error:
                self._fail(HTTPResponseError(f"Connection closed: {error}"))
                return
        if self._wants_continue and 100 in parser.interim and parser.head is None:
            self._wants_continue = False
            self._send_body()
        if self.head is None and parser.head is not None and not self._take_head(parser.head):
            return
        if self.redirect:
            if parser.received > DISCARDED_SIZE:
                self._end(reusable=False)
                return
        elif pieces:
            if self._decoder is None and self.fetch.streaming is None:
                self._body += pieces
            else:
                self._pieces = iter(pieces) if self._decoder is None else self._decoded(self._decoder, pieces)
                self._hand_out()
                return
        if parser.done:
            self._finish()

    def _take_head(self, head: Head) -> bool:
        """Look at the final response's head; return whether to go on."""
        fetch = self.fetch
        self.redirect = fetch.follows(head)
        if not self.redirect:
            if fetch.settings.decompress_response:
                coding = head.value(b"content-encoding")
                if coding is not None and Decoder.decodes(coding):
                    self._decoder = Decoder(coding, self._parser.max_body_size)
                    fields = [
                        (b"x-consumed-" + name if name == b"content-encoding" else name, value)
                        for name, value in head.fields
                    ]
                    head = head._replace(fields=tuple(fields))
            if fetch.header_callback is not None:
                lines = [f"HTTP/1.{int(head.http11)} {head.code} {head.reason}\r\n"]
                lines += [
                    f"{normalize(name.decode('latin-1'))}: {value.decode('latin-1')}\r\n" for name, value in head.fields
                ]
                try:
                    for line in [*lines, "\r\n"]:
                        fetch.context.run(fetch.header_callback, line)
                except Exception as error:
                    self._fail(error)
                if self._over:
                    return False
        self.head = head
        return True

    @staticmethod
    def _decoded(decoder: Decoder, pieces: list[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield from decoder.decode(piece)

    def _hand_out(self) -> bool:
        """Pass on the pieces at hand, until there are no more or somebody has to be waited for; return whether to read
        on."""
        fetch = self.fetch
        try:
            for piece in self._pieces or ():
                if fetch.streaming is None:
                    self._body.append(piece)
                    continue
                consumed = fetch.context.run(fetch.streaming, piece)
                if self._over:
                    return False
                if consumed is not None and inspect.isawaitable(consumed):
                    self.connection.stream.pause_reading()
                    self._consuming = self._future_of(consumed)
                    self._consuming.add_done_callback(self._consumed)
                    return False
        except HTTPInputError as error:
            self._fail(HTTPResponseError(f"Connection closed: {error}"))
            return False
        except Exception as error:
            self._fail(error)
            return False
        self._pieces = None
        if self._parser.done:
            self._finish()
        return not self._over

    def _consumed(self, future: asyncio.Future[Any]) -> None:
        self._consuming = None
        error = _error_of(future, "streaming_callback")
        if self._over:
            return
        if error is not None:
            self._fail(error)
            return
        if self._hand_out():
            self.connection.stream.resume_reading()

    def _future_of(self, awaitable: Any) -> asyncio.Future[Any]:
        """Wait for what a callback has returned, in the context of whoever fetches."""
        return self.fetch.context.run(asyncio.ensure_future, awaitable, loop=self.fetch.loop)

    # The end

    @property
    def body(self) -> bytes:
        """The body, if it was not streamed."""
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    @property
    def phase(self) -> str:
        """Where it is, in words for an error."""
        if self._wants_continue:
            return "while waiting for 100 Continue"
        if not self._parser.begun:
            return "while waiting for the response" if self._sent else "while sending the request"
        if self.head is None:
            return "within the response head"
        if self._consuming is not None:
            return "while waiting for streaming_callback"
        return f"within the response body, after {self._parser.received} bytes"

    def lost(self, error: BaseException | None) -> None:
        """The connection has gone."""
        if self._over or (self._parser.done and self._consuming is not None):
            return  # all is there, somebody still takes it
        self._ended_early(error or HTTPStreamClosedError("Connection closed"))

    def _ended_early(self, error: BaseException) -> None:
        # RFC 9112 9.3.1: an idle connection may be closed just when a request is on its way. Nothing has come back, so
        # it can be sent again if doing it twice is doing it once.
        retry = self.connection.reused and not self._parser.begun and self.fetch.may_retry()
        self._over = True
        self._drop()
        if retry:
            self.fetch.retry()
        else:
            self.fetch.fail(error)

    def _finish(self) -> None:
        decoder = self._decoder
        if decoder is not None and self._parser.received and not decoder.done:
            self._fail(HTTPResponseError("Connection closed: the compressed response body ends early"))
        else:
            self._end(self._parser.reusable and self._sent and not self._ended and not self.fetch.head.close)

    def _end(self, reusable: bool) -> None:
        connection = self.connection
        self._over = True
        if reusable and not connection.stream.unsent and not connection.stream.closed():
            connection.release()
        else:
            self._drop()
        self.fetch.responded(self)

    def _fail(self, error: BaseException) -> None:
        if not self._over:
            self._over = True
            self._drop()
            self.fetch.fail(error)

    def abort(self) -> None:
        """Give up; nobody is told."""
        if not self._over:
            self._over = True
            self._drop()

    def _drop(self) -> None:
        self.connection.close()
        self._pieces = None
        if self._consuming is not None:
            self._consuming.cancel()
        if self._producing is not None and not self._sent:
            self._producing.cancel()


def _error_of(future: asyncio.Future[Any], whose: str) -> BaseException | None:
    if future.cancelled():
        return HTTPStreamClosedError(f"Connection closed: what {whose} returned was cancelled")
    return future.exception()
