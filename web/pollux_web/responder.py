"""`Responder`: the part of a handler that makes the response: status, headers, cookies to set, body, entity tag.

A handler is made for each request, so making one is kept cheap: what most requests never touch (headers of their own, a
status other than 200) is a class attribute until it is touched.

A 200 to GET without headers of its own takes the fast way out of `finish`: its entity tag stands in the remembered head
of the response, and only if the client sent one of its own is there anything to compare.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Sequence
from email.utils import format_datetime
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pollux.rawstream import DONE
from pollux_http import HTTPHeaders, HTTPServerRequest
from pollux_http.headers import problem_of
from pollux_http.response import HTML, SHORT_BODY, bodiless, check_reason
from pollux_web.escape import encode_json
from pollux_web.etag import etag_of, is_conditional, matches

if TYPE_CHECKING:
    from pollux_web.application import Application
    from pollux_web.transforms import OutputTransform

# Bytes. To hash a body costs several times what it costs to send it, and above this more than a request can be worth: a
# tag saves something only if the same client asks again for what has not changed. Tornado hashes whatever it is.
MAX_TAGGED = 64 * 1024

JSON = "application/json; charset=UTF-8"

# RFC 9110 15.4.5 and 6.4.1: what describes content that is not there.
_REPRESENTATION = ("Content-Encoding", "Content-Language", "Content-Type")

_ASCII = "".join(chr(code) for code in range(0x21, 0x7F))


class Responder:
    """What a handler answers with. See `RequestHandler`.

    :ivar application: the `Application`.
    :ivar request: the `HTTPServerRequest`.
    """

    _default_etag = True  # the class makes entity tags as this one does
    _new_cookies: SimpleCookie | None = None
    _transforms: Sequence[OutputTransform] = ()
    _reason: str | None = None
    _headers: HTTPHeaders | None = None  # None: nothing but the content type
    _content_type = HTML
    _finished = False
    _started = False  # part of the response has been sent

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        self.application = application
        self.request = request
        self._status_code = 200
        self._chunks: list[bytes] = []
        self.set_default_headers()
        self.initialize(**kwargs) if kwargs else self.initialize()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._default_etag = (
            cls.compute_etag is Responder.compute_etag
            and cls.set_etag_header is Responder.set_etag_header
            and cls.check_etag_header is Responder.check_etag_header
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The application's settings."""
        return self.application.settings

    # To override

    def initialize(self, *args: Any, **kwargs: Any) -> None:  # so typed, an override may take what it likes
        """Take the keyword arguments of the route. Called before anything else."""

    def set_default_headers(self) -> None:
        """Set headers that every response has, errors too."""

    def on_finish(self) -> None:
        """Called after the response was sent; what happens here no longer concerns the client."""

    # Status and headers

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        """Set the status.

        :param reason: the reason phrase; None for the usual one.
        :raises ValueError: the reason contains CR, LF or another control character.
        """
        self._status_code = int(status_code)
        if reason is None:
            self._reason = None
        else:
            self._reason = check_reason(reason)
            self._own_headers()  # so that this is no plain response

    def get_status(self) -> int:
        """Return the status."""
        return self._status_code

    def _own_headers(self) -> HTTPHeaders:
        headers = self._headers
        if headers is None:
            headers = self._headers = HTTPHeaders({"Content-Type": self._content_type})
        return headers

    def set_header(self, name: str, value: Any) -> None:
        """Set a response header, in place of any of that name.

        :param value: str; other types by `str()`, a datetime in HTTP's form.
        :raises ValueError: the name is no token, or the value contains a control character or one above ISO-8859-1.
        """
        self._own_headers()[name] = _header_text(name, value)

    def add_header(self, name: str, value: Any) -> None:
        """Add a response header, beside those of that name."""
        self._own_headers().add(name, _header_text(name, value))

    def clear_header(self, name: str) -> None:
        """Take back a response header that was set; one that was not is ignored."""
        self._own_headers().pop(name, None)

    def clear(self) -> None:
        """Forget status, headers and what was written, as if nothing had been done yet. Cookies stay."""
        self._status_code = 200
        self._reason = self._headers = None
        self._content_type = HTML
        self._chunks = []
        if self._new_cookies is not None:
            self._own_headers()  # so that this is no plain response
        self.set_default_headers()

    def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
        """End the request by sending the client elsewhere.

        :param url: absolute, or relative to this request's.
        :param status: 3xx; None for 301 if `permanent`, else 302.
        :raises RuntimeError: part of the response has left.
        :raises ValueError: `status` is not 3xx.
        """
        if self._started:
            raise RuntimeError("Cannot redirect after headers have been written")
        if status is None:
            status = 301 if permanent else 302
        elif not 300 <= status <= 399:
            raise ValueError(f"the status of a redirect is 3xx, got {status!r}")
        self.set_status(status)
        # RFC 3986 2: what no URL holds (control characters, spaces, non-ASCII) goes out as %XX; the rest stays.
        self.set_header("Location", quote(url, safe=_ASCII))
        self.finish()

    # Body

    def write(self, chunk: str | bytes | dict[str, Any]) -> None:
        """Add to the response; it is sent by `flush` or `finish`.

        :param chunk: str (sent as UTF-8), bytes, or a dict, which is sent as JSON with its content type. A list is
            refused: JSON arrays at top level could be read by other sites' scripts.
        :raises TypeError: any other type.
        :raises RuntimeError: the response is finished.
        """
        if self._finished:
            raise RuntimeError("Cannot write() after finish()")
        self._chunks.append(chunk.encode() if type(chunk) is str else self._convert(chunk))

    def _convert(self, chunk: Any) -> bytes:
        if isinstance(chunk, dict):
            if self._headers is None:
                self._content_type = JSON
            else:
                self._headers["Content-Type"] = JSON
            return encode_json(chunk).replace("</", "<\\/").encode()  # escape.json_encode, without a call
        if isinstance(chunk, str):
            return chunk.encode()
        if isinstance(chunk, (bytes, bytearray, memoryview)):
            return bytes(chunk)
        hint = "; lists are not accepted for security reasons: write a dict" if isinstance(chunk, list) else ""
        raise TypeError(f"write() accepts str, bytes and dict, got {type(chunk).__name__}{hint}")

    def flush(self, include_footers: bool = False) -> Awaitable[None]:
        """Send what was written so far; the response goes on. It is chunked, unless Content-Length was set.

        :param include_footers: this is the end (for transforms).
        :returns: an awaitable that is done when the client has read enough for the kernel to take the rest: await it
            when you send a lot. It raises `StreamClosedError` if the client goes away first.
        """
        connection = self.request.connection
        data = b"".join(self._chunks)
        self._chunks.clear()
        if not self._started:
            data, headers = self._transformed(data, include_footers)
            connection.start(self._status_code, self._reason, headers)
            self._started = True
        else:
            for transform in self._transforms:
                data = transform.transform_chunk(data, include_footers)
        return connection.stream.drained() if bodiless(self._status_code) else connection.write(data)

    def _transformed(self, data: bytes, finishing: bool) -> tuple[bytes, HTTPHeaders]:
        """Return the first part of the body, and the headers, as they go out."""
        headers = self._own_headers()
        self._transforms = [transform(self.request) for transform in self.application.transforms]
        for transform in self._transforms:
            self._status_code, headers, data = transform.transform_first_chunk(
                self._status_code, headers, data, finishing
            )
        if self._new_cookies is not None:
            for cookie in self._new_cookies.values():
                headers.add("Set-Cookie", cookie.OutputString())
        return data, headers

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Awaitable[None]:
        """End the response, after writing `chunk`.

        :returns: an awaitable, done already, so that `await self.finish()` works as in Tornado.
        :raises RuntimeError: it is finished already.
        """
        if self._finished:
            raise RuntimeError("finish() called twice")
        if chunk is not None:
            self.write(chunk)
        if self._started:
            self.flush(include_footers=True)
            self._finished = True
            self.request.connection.finish()
        else:
            self._finished = True
            try:
                request = self.request
                connection = request.connection
                if (
                    self._headers is None
                    and self._status_code == 200
                    and self._default_etag
                    and request.method == "GET"
                    and connection.takes_plain(request)
                    and not self.application.transforms
                    and not is_conditional(request.fields)
                ):
                    body = b"".join(self._chunks)
                    heads = connection.server.heads
                    if len(body) > MAX_TAGGED:
                        connection.respond(200, None, None, self._content_type, body)
                    elif (
                        len(body) <= SHORT_BODY and (answer := heads.answers[self._content_type].get(body)) is not None
                    ):
                        connection.send_whole(answer)
                    else:
                        connection.send_whole(*heads.answer(self._content_type, body, etag_of([body])))
                else:
                    self._respond()
            except BaseException:
                self._finished = False  # so that an error page may still be sent
                raise
        self._done()
        return DONE

    def _done(self) -> None:
        """The response has left, or was cut off."""
        if self.application.log_function is not None:
            self.application.log_function(self)  # type: ignore[arg-type]  # each responder is a handler
        self.on_finish()

    def _respond(self) -> None:
        """Send a whole response that is not plain."""
        connection = self.request.connection
        is_head = self.request.method == "HEAD"
        if self._status_code == 200 and (is_head or self.request.method == "GET"):
            self.set_etag_header()
            if self.check_etag_header():
                self._chunks = []
                self.set_status(304)
        if bodiless(self._status_code):
            for name in _REPRESENTATION:
                self.clear_header(name)
        elif self._headers is None and not self.application.transforms:
            body = b"".join(self._chunks)
            connection.respond(self._status_code, self._reason, None, self._content_type, body)
            return
        body, headers = self._transformed(b"".join(self._chunks), finishing=True)
        if is_head and "Content-Length" in headers:  # what GET would answer with, known without the body
            connection.start(self._status_code, self._reason, headers)
            self._started = True
            connection.finish()
        else:
            connection.respond(self._status_code, self._reason, headers, self._content_type, body)

    # Entity tags (RFC 9110 8.8.3)

    def compute_etag(self) -> str | None:
        """Return the entity tag of the response, quotes included: a hash of what was written, none above `MAX_TAGGED`.
        Override it for one that is cheaper or knows more; None for none."""
        return etag_of(self._chunks) if sum(map(len, self._chunks)) <= MAX_TAGGED else None

    def set_etag_header(self) -> None:
        """Set `Etag` to what `compute_etag` returns, unless it is set. Called before a whole 200 to GET or HEAD is
        sent."""
        if "Etag" not in self._own_headers() and (etag := self.compute_etag()) is not None:
            self.set_header("Etag", etag)

    def check_etag_header(self) -> bool:
        """Return whether the client has this response already, by its If-None-Match: then 304 is sent."""
        etag = self._own_headers().get("Etag", "")
        wanted = self.request.headers.get("If-None-Match", "")
        return bool(etag and wanted) and matches(wanted, etag)


def _header_text(name: str, value: Any) -> str:
    """Return a header value as text.

    :raises ValueError: the name is no token, or the value contains what a header cannot hold.
    """
    if isinstance(value, bytes):
        text = value.decode("latin-1")
    elif isinstance(value, datetime.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        text = format_datetime(aware.astimezone(datetime.UTC), usegmt=True)
    else:
        text = str(value)
    if (problem := problem_of(name, text)) is not None:
        raise ValueError(problem)
    return text
