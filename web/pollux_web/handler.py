"""`RequestHandler`: subclass it and define `get`, `post` and so on.

Names and meanings are Tornado 6's. A handler is made for each request, so making one is kept cheap: what most
requests never touch (headers of their own, a status other than 200) is a class attribute until it is touched.

A method that returns nothing is finished at once, in the event that brought the request. One that returns a coroutine
becomes a Task, started at once: if it never suspends, it too is finished within the event.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import re
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import format_datetime
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from pollux.ioloop import IOLoop
from pollux.iostream import DONE
from pollux.log import app_log, gen_log
from pollux_http import HTTPHeaders, HTTPInputError, HTTPServerRequest
from pollux_http.response import HTML, bodiless, check_reason, reason_phrase
from pollux_web.errors import HTTPError, MissingArgumentError

if TYPE_CHECKING:
    from pollux_web.application import Application

JSON = "application/json; charset=UTF-8"

_REQUIRED: Any = object()  # the default of get_argument: there is none
_FORBIDDEN_IN_HEADER = re.compile(r"[^\t\x20-\x7e\x80-\xff]")  # RFC 9110 5.5: field-value
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2: field-name


def _json_encoder() -> Callable[[Any], str]:
    """Return `json.dumps` with its defaults, made ready once: `dumps` makes a new C encoder for each call, which
    takes four times as long as encoding a small dict.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    plain = json.JSONEncoder()
    if make is None:  # a Python without it
        return plain.encode
    encode = make(
        None, plain.default, json.encoder.encode_basestring_ascii, None, plain.key_separator, plain.item_separator,
        plain.sort_keys, plain.skipkeys, plain.allow_nan,
    )  # fmt: skip
    return lambda value: "".join(encode(value, 0))


_encode_json = _json_encoder()


class RequestHandler:
    """Answers requests; one instance answers one.

    :ivar application: the `Application`.
    :ivar request: the `HTTPServerRequest`.
    """

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")

    path_args: tuple[Any, ...] = ()
    path_kwargs: dict[str, Any] = {}  # noqa: RUF012  # replaced, never changed

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        self.application = application
        self.request = request
        self._status_code = 200
        self._reason: str | None = None
        self._headers: HTTPHeaders | None = None  # None: nothing but the content type
        self._content_type = HTML
        self._chunks: list[bytes] = []
        self._finished = False
        self._started = False  # part of the response has been sent
        self._auto_finish = True
        self.set_default_headers()
        self.initialize(**kwargs) if kwargs else self.initialize()

    @property
    def settings(self) -> dict[str, Any]:
        """The application's settings."""
        return self.application.settings

    # To override

    def initialize(self, *args: Any, **kwargs: Any) -> None:  # so typed, an override may take what it likes
        """Take the keyword arguments of the route. Called before anything else."""

    def prepare(self) -> Awaitable[None] | None:
        """Called before the method, whatever it is; may be a coroutine. If it finishes the request, the method is not
        called."""

    def on_finish(self) -> None:
        """Called after the response was sent; what happens here no longer concerns the client."""

    def on_connection_close(self) -> None:
        """Called if the client goes away before the response is finished. An answer may still be wanted by a client
        that
        has only ended its sending side."""

    def set_default_headers(self) -> None:
        """Set headers that every response has, errors too."""

    def head(self, *args: Any, **kwargs: Any) -> Any:
        """HEAD: 405 unless overridden."""
        raise HTTPError(405)

    get = post = delete = patch = put = options = head

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Make the page for an error. Override it for other pages.

        :param kwargs: `exc_info`, if an exception led here; `reason`.
        """
        if self.settings.get("debug") and "exc_info" in kwargs:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish("".join(traceback.format_exception(*kwargs["exc_info"])))
        else:
            title = f"{status_code}: {escape(self._reason or reason_phrase(status_code))}"
            self.finish(f"<html><title>{title}</title><body>{title}</body></html>")

    # The response

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        """Set the status.

        :param reason: the reason phrase; None for the usual one.
        :raises ValueError: the reason contains CR, LF or another control character.
        """
        self._status_code = int(status_code)
        self._reason = None if reason is None else check_reason(reason)

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
        """Forget status, headers and what was written, as if nothing had been done yet."""
        self._status_code = 200
        self._reason = self._headers = None
        self._content_type = HTML
        self._chunks = []
        self.set_default_headers()

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
            # "</" in a script element would end it (Tornado's escape.json_encode does the same).
            return _encode_json(chunk).replace("</", "<\\/").encode()
        if isinstance(chunk, str):
            return chunk.encode()
        if isinstance(chunk, (bytes, bytearray, memoryview)):
            return bytes(chunk)
        hint = "; lists are not accepted for security reasons: write a dict" if isinstance(chunk, list) else ""
        raise TypeError(f"write() accepts str, bytes and dict, got {type(chunk).__name__}{hint}")

    def flush(self) -> Awaitable[None]:
        """Send what was written so far; the response goes on. It is chunked, unless Content-Length was set.

        :returns: an awaitable that is done when the client has read enough for the kernel to take the rest: await it
            when you send a lot. It raises `StreamClosedError` if the client goes away first.
        """
        connection = self.request.connection
        if not self._started:
            connection.start(self._status_code, self._reason, self._own_headers())
            self._started = True
        data = b"".join(self._chunks)
        self._chunks.clear()
        if not bodiless(self._status_code):
            connection.write(data)
        return connection.stream.drained()

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
            self.flush()
            self._finished = True
            self.request.connection.finish()
        else:
            self._finished = True
            try:
                self.request.connection.respond(
                    self._status_code,
                    self._reason,
                    self._headers,
                    self._content_type,
                    b"".join(self._chunks),
                )
            except BaseException:
                self._finished = False  # so that an error page may still be sent
                raise
        self._done()
        return DONE

    def _done(self) -> None:
        """The response has left, or was cut off."""
        if self.application.log_function is not None:
            self.application.log_function(self)
        self.on_finish()

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """End the request with an error page made by `write_error`; if part of the response has left, cut it off.

        :param kwargs: for `write_error`.
        """
        if self._started:
            connection = self.request.connection
            if not connection.stream.closed():
                gen_log.error("Cannot send error response after headers written")
            if not self._finished:
                self._finished = True
                connection.abort()
                self._done()
            return
        self.clear()
        reason = kwargs.get("reason")
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, HTTPError) and error.reason:
            reason = error.reason
        self.set_status(status_code, reason=reason)
        try:
            self.write_error(status_code, **kwargs)
        except Exception:
            app_log.error("Uncaught exception in write_error", exc_info=True)
        if not self._finished:
            self.finish()

    # Arguments

    def get_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """Return the last value of an argument of query or body, as str.

        :param default: returned if there is none.
        :param strip: without white space at its ends.
        :raises MissingArgumentError: (400) there is none, and no default.
        """
        return self._last(self.request.arguments, name, default, strip)

    def get_arguments(self, name: str, strip: bool = True) -> list[str]:
        """Return all values of an argument of query and body, [] if there is none."""
        return self._decode(self.request.arguments.get(name, []), name, strip)

    def get_query_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """As `get_argument`, of the query only."""
        return self._last(self.request.query_arguments, name, default, strip)

    def get_query_arguments(self, name: str, strip: bool = True) -> list[str]:
        """As `get_arguments`, of the query only."""
        return self._decode(self.request.query_arguments.get(name, []), name, strip)

    def get_body_argument(self, name: str, default: Any = _REQUIRED, strip: bool = True) -> Any:
        """As `get_argument`, of the body only."""
        return self._last(self.request.body_arguments, name, default, strip)

    def get_body_arguments(self, name: str, strip: bool = True) -> list[str]:
        """As `get_arguments`, of the body only."""
        return self._decode(self.request.body_arguments.get(name, []), name, strip)

    def _last(self, source: dict[str, list[bytes]], name: str, default: Any, strip: bool) -> Any:
        values = source.get(name)
        if values:
            return self._decode(values[-1:], name, strip)[0]
        if default is _REQUIRED:
            raise MissingArgumentError(name)
        return default

    def _decode(self, values: list[bytes], name: str, strip: bool) -> list[str]:
        texts = [self.decode_argument(value, name) for value in values]
        return [text.strip() for text in texts] if strip else texts

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Decode an argument; override it for other encodings than UTF-8.

        :raises HTTPError: (400) it is not UTF-8.
        """
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise HTTPError(400, "Invalid unicode in %s: %r", name or "url", value[:40]) from None

    # From request to response

    def _execute(self, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Run the request. Called by the application, with the arguments found in the path."""
        try:
            method = self.request.method
            if method not in self.SUPPORTED_METHODS:
                raise HTTPError(405)
            if args or named:
                self.path_args = args
                self.path_kwargs = named
            result = self.prepare()
            if result is not None:
                self._suspend(self._execute_from(result, method))
                return
            if self._finished:
                return
            call = getattr(self, method.lower())
            result = call(*args, **named) if args or named else call()
            if result is not None:
                self._suspend(self._execute_from(result, None))
            elif self._auto_finish and not self._finished:
                self.finish()
        except Exception as error:
            self._handle_exception(error)

    def _suspend(self, rest: Coroutine[Any, Any, None]) -> None:
        """Run `rest` as a task, starting now; it is often done within this call."""
        self.request.connection.on_close = self.on_connection_close
        IOLoop.current().start_task(rest)

    async def _execute_from(self, awaitable: Awaitable[Any], method: str | None) -> None:
        """The rest of `_execute`, from an awaitable on that `prepare` returned (then `method` is still to run) or the
        method."""
        try:
            await awaitable
            if method is not None and not self._finished:
                result = getattr(self, method.lower())(*self.path_args, **self.path_kwargs)
                if result is not None:
                    await result
            if self._auto_finish and not self._finished:
                self.finish()
        except Exception as error:
            self._end(self._handle_exception, error)
        except asyncio.CancelledError:
            if not self._finished:
                self._end(self.send_error, 503)
            raise

    def _end(self, handle: Callable[[Any], None], what: Exception | int) -> None:
        """Call `handle(what)`, which is to answer: what it raises would be lost with the task, and the client wait."""
        try:
            handle(what)
        except Exception:
            request = self.request
            app_log.error("Uncaught exception in error handling of %s %r", request.method, request.uri, exc_info=True)
            request.connection.abandon(request)

    def _handle_exception(self, error: Exception) -> None:
        """Log what a method raised, and turn it into a response."""
        if isinstance(error, HTTPInputError):  # raised while arguments were parsed
            error = HTTPError(error.status, "%s", error)
        self.log_exception(type(error), error, error.__traceback__)
        if not self._finished:
            status = error.status_code if isinstance(error, HTTPError) else 500
            self.send_error(status, exc_info=(type(error), error, error.__traceback__))

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log an exception that ended a request: an `HTTPError` with a message as a warning, others with their
        traceback."""
        summary = f"{self.request.method} {self.request.uri!r} ({self.request.remote_ip})"
        if isinstance(value, HTTPError):
            if value.log_message:
                gen_log.warning("%s: %s", summary, value)
        else:
            app_log.error("Uncaught exception %s", summary, exc_info=(typ, value, tb))  # type: ignore[arg-type]


class ErrorHandler(RequestHandler):
    """Answers every request with one status: what the application uses where no route matches."""

    def initialize(self, status_code: int) -> None:
        """Take the status."""
        self.set_status(status_code)

    def prepare(self) -> None:
        """Raise it."""
        raise HTTPError(self._status_code)


def _header_text(name: str, value: Any) -> str:
    """Return a header value as text.

    :raises ValueError: the name is no token, or the value contains what a header cannot hold.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"a header name is made of token characters, got {name!r}")
    if isinstance(value, bytes):
        text = value.decode("latin-1")
    elif isinstance(value, datetime.datetime):
        text = format_datetime(value.astimezone(datetime.UTC), usegmt=True)
    else:
        text = str(value)
    if not (text.isascii() and text.isprintable()) and _FORBIDDEN_IN_HEADER.search(text):
        raise ValueError(f"a header value is ISO-8859-1 without CR, LF or other control characters, got {text!r}")
    return text
