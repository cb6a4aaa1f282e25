"""`RequestHandler`: subclass it and define `get`, `post` and so on.

Names and meanings are Tornado 6's. What a handler can do stands in the classes it is made of: `Responder`, `Arguments`,
`Cookies`, `CurrentUser`, `XSRF`, `Localized`, `Templates`; here is how a request runs through it.

A method that returns nothing is finished at once, in the event that brought the request. One that returns a coroutine
becomes a Task, started at once: if it never suspends, it too is finished within the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ClassVar

from pollux.ioloop import IOLoop
from pollux.log import app_log, gen_log
from pollux_http import HTTPInputError
from pollux_http.response import reason_phrase
from pollux_web.error_pages import debug_page, plain_page
from pollux_web.errors import Finish, HTTPError
from pollux_web.streaming import BodyLostError, receive_body
from pollux_web.templates import Templates
from pollux_web.xsrf import SAFE_METHODS


class RequestHandler(Templates):
    """Answers requests; one instance answers one.

    :ivar application: the `Application`.
    :ivar request: the `HTTPServerRequest`.
    :ivar path_args: the positional arguments found in the path.
    :ivar path_kwargs: the keyword arguments found in the path.
    """

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")

    path_args: tuple[Any, ...] = ()
    path_kwargs: dict[str, Any] = {}  # noqa: RUF012  # replaced, never changed
    _auto_finish = True
    _stream_request_body = False

    # To override

    def prepare(self) -> Awaitable[None] | None:
        """Called before the method, whatever it is; may be a coroutine. If it finishes the request, the method is not
        called."""

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take a part of the body, with `stream_request_body`; may be a coroutine: what follows waits for it."""
        raise NotImplementedError(f"{type(self).__name__} streams request bodies and has no data_received()")

    def on_connection_close(self) -> None:
        """Called if the client goes away before the response is finished. An answer may still be wanted by a client
        that has only ended its sending side."""

    def head(self, *args: Any, **kwargs: Any) -> Any:
        """HEAD: 405 unless overridden."""
        raise HTTPError(405)

    get = post = delete = patch = put = options = head

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Make the page for an error. Override it for other pages.

        By default HTML, or JSON for clients that prefer it; with the settings `debug` or `serve_traceback` the
        traceback.

        :param kwargs: `exc_info`, if an exception led here; `reason`.
        """
        settings = self.settings
        request = self.request
        accept = request.headers.get("Accept", "")
        reason = self._reason or reason_phrase(status_code)
        if "exc_info" in kwargs and settings.get("serve_traceback", settings.get("debug")):
            what = f"{request.method} {request.uri}"
            kind, page = debug_page(status_code, reason, accept, what, kwargs["exc_info"])
        else:
            kind, page = plain_page(status_code, reason, accept)
        self.set_header("Content-Type", kind)
        self.finish(page)

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
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._allowed()))  # RFC 9110 15.5.6 requires it
        try:
            self.write_error(status_code, **kwargs)
        except Exception:
            app_log.error("Uncaught exception in write_error", exc_info=True)
        if not self._finished:
            self.finish()

    def _allowed(self) -> list[str]:
        """Return the methods that this handler has."""
        absent = RequestHandler.head
        return [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower(), absent) is not absent]

    def detach(self) -> Any:
        """Take over the connection: nothing is sent for this request any more, and no further request is read.

        :returns: the `IOStream`, to be read; what becomes of it is the caller's affair.
        :raises RuntimeError: the request has been answered, or another has come behind it.
        """
        stream, rest = self.request.connection.detach()
        self._finished = True
        stream.stop_delivery(rest)  # what the client has sent behind the request is the first to be read
        return stream

    # From request to response

    def _execute(self, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Run the request. Called by the application, with the arguments found in the path."""
        try:
            method = self.request.method
            if method not in self.SUPPORTED_METHODS:
                raise HTTPError(405)
            if args or named:
                if type(args) is not tuple:
                    args, named = self._decode_path(args, named)
                self.path_args = args
                self.path_kwargs = named
            if method != "GET" and method not in SAFE_METHODS:
                self._check_forgery(method)
            result = self.prepare()
            if result is not None or self._stream_request_body:
                self._suspend(self._execute_from(result, method))
                return
            if self._finished:
                return
            call = getattr(self, method.lower())
            result = call(*args, **named) if args or named else call()
            if result is not None:
                self._suspend(self._execute_from(result, None))
            elif not self._finished:
                if self._auto_finish:
                    self.finish()
                else:
                    self.request.connection.on_close = self.on_connection_close
        except Exception as error:
            self._handle_exception(error)

    def _decode_path(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode what was found in the path and is still bytes."""
        decode = self.decode_argument
        return (
            tuple([decode(value) if isinstance(value, bytes) else value for value in args]),
            {name: decode(value, name) if isinstance(value, bytes) else value for name, value in named.items()},
        )

    def _suspend(self, rest: Coroutine[Any, Any, None]) -> None:
        """Run `rest` as a task, starting now; it is often done within this call."""
        self.request.connection.on_close = self.on_connection_close
        IOLoop.current().start_task(rest)

    async def _execute_from(self, awaitable: Awaitable[Any] | None, method: str | None) -> None:
        """The rest of `_execute`, from an awaitable on that `prepare` returned (then `method` is still to run) or the
        method."""
        try:
            if awaitable is not None:
                await awaitable
            if method is not None and self._stream_request_body:
                await receive_body(self)
            if method is not None and not self._finished:
                result = getattr(self, method.lower())(*self.path_args, **self.path_kwargs)
                if result is not None:
                    await result
            if self._auto_finish and not self._finished:
                self.finish()
        except BodyLostError:
            pass  # `on_connection_close` was called
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
        if isinstance(error, Finish):
            if not self._finished:
                self.finish(*error.args)
            return
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

    def _check_forgery(self, method: str) -> None:
        """There is nothing to forge."""
