"""WSGI applications on `HTTPServer` (PEP 3333).

WSGI blocks: an application returns when it has answered. Each request therefore occupies a thread of a bounded pool,
and what is beyond the pool waits; the loop itself never blocks. The thread and the loop meet in three places only: a
part of the body is wanted, a part of the response is there, the response is complete.

What was decided
----------------
* A short body is waited for before a thread is occupied, so that a slow client holds none; a long one is streamed, and
  `wsgi.input` blocks its thread, not the client's kernel buffer.
* A response that is complete with its first part leaves in one write, without the thread waiting for the loop. Any
  other part is waited for until the client has read enough: that is the backpressure.
* Fields whose names contain an underscore are dropped: `X_Real_Ip` would become the same variable as `X-Real-Ip`, which
  a proxy vouches for. So is `Proxy`, which would become HTTP_PROXY (CVE-2016-5385).
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from pollux.iostream import StreamClosedError
from pollux.log import app_log
from pollux_http.headers import HTTPHeaders
from pollux_http.response import check_reason

if TYPE_CHECKING:
    from types import TracebackType

    from pollux_http.request import HTTPServerRequest

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

T = TypeVar("T")
Environ = dict[str, Any]
WSGIApplication = Callable[[Environ, Callable[..., Callable[[bytes], object]]], Iterable[bytes]]

STREAMED_ABOVE = 256 * 1024  # bytes of a body: below, it waits for its end in memory and not in a thread
HIGH_WATER = 64 * 1024  # bytes unsent above which the application waits until the client has read

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"})


class WSGIContainer:
    """Makes a WSGI application a request callback for `HTTPServer`. Tornado's name (tornado.wsgi).

    Unlike Tornado's it does not run the application on the loop's thread when no executor is given.

    :param application: called with environ and start_response.
    :param executor: runs the application; None for threads of its own.
    :param threads: how many of its own: None for the number of processors and four, at most 32, as
        `concurrent.futures` has it.
    :param root_path: where the application is mounted (SCRIPT_NAME); a path that begins so loses it.
    :ivar log_function: called with request and status after each response; None: no log.
    """

    log_function: Callable[[HTTPServerRequest, int], object] | None = None

    def __init__(
        self,
        application: WSGIApplication,
        executor: Executor | None = None,
        *,
        threads: int | None = None,
        root_path: str = "",
    ) -> None:
        self.wsgi_application = application
        self.root_path = root_path
        self._own = executor is None
        self._executor = executor or ThreadPoolExecutor(
            threads or min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="pollux-wsgi"
        )
        self._calls: set[asyncio.Future[None]] = set()

    def streams_body(self, request: HTTPServerRequest) -> bool:
        """Return whether the body is long, or may be."""
        length = request.headers.get("Content-Length")
        return length is None or int(length) > STREAMED_ABOVE

    def __call__(self, request: HTTPServerRequest) -> None:
        """Serve a request."""
        loop = request.connection.server.io_loop
        call = _Call(self, request, loop)
        running = loop.run_in_executor(self._executor, copy_context().run, call.run)
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Wait for the calls that are running; those that have not begun are dropped."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=timeout)
        if self._own:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def environ(self, request: HTTPServerRequest) -> Environ:
        """Return a request's environ, but for `wsgi.input`."""
        connection = request.connection
        own = connection.stream.socket.getsockname()
        path = unquote_to_bytes(request.path).decode("latin-1")
        if self.root_path and (path + "/").startswith(self.root_path + "/"):
            path = path[len(self.root_path) :]
        environ: Environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": self.root_path,
            "PATH_INFO": path,
            "QUERY_STRING": request.query,
            "RAW_URI": request.uri,
            "REMOTE_ADDR": request.remote_ip if isinstance(connection.address, tuple) else "",
            "REMOTE_PORT": str(connection.address[1]) if isinstance(connection.address, tuple) else "",
            "SERVER_NAME": own[0] if isinstance(own, tuple) else request.host_name,
            "SERVER_PORT": str(own[1]) if isinstance(own, tuple) else "",
            "SERVER_PROTOCOL": request.version,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.protocol,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,  # read() ends with the body, also of a chunked one
            "wsgi.file_wrapper": FileWrapper,
        }
        for raw, value in request.fields:
            name = raw.decode("latin-1").upper()
            if "_" in name or name == "PROXY":
                continue
            name = name.replace("-", "_")
            key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
            text = value.decode("latin-1")
            if key in environ:
                text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
            environ[key] = text
        return environ


class _Call:
    """One call of the application. `run` is for its thread, what begins with `_on_loop` for the loop's."""

    def __init__(self, container: WSGIContainer, request: HTTPServerRequest, loop: Any) -> None:
        self.container = container
        self.request = request
        self.connection = request.connection
        self.loop = loop
        self.status = 0
        self.reason = ""
        self.headers: HTTPHeaders | None = None  # None: start_response was not called
        self.sent = False  # the head is, or is about to be
        self.complete = False
        self.environ = container.environ(request)
        whole = request.body if request.incoming is None else None
        self.environ["wsgi.input"] = io.BytesIO(whole) if whole is not None else io.BufferedReader(_Body(self))

    # In the application's thread

    def run(self) -> None:
        """Call the application and send what it returns."""
        try:
            result = self.container.wsgi_application(self.environ, self.start_response)
            try:
                for part in result:
                    if part:
                        self.write(part, alone=isinstance(result, (list, tuple)) and len(result) == 1)
                if not self.complete:
                    self.end()
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except StreamClosedError:
            self.loop.call_soon_threadsafe(self._on_loop_cut)
        except BaseException as error:
            app_log.error("Exception in the application: %s %r", self.request.method, self.request.uri, exc_info=True)
            self.loop.call_soon_threadsafe(self._on_loop_failed)
            if not isinstance(error, Exception):
                raise

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable".

        :raises RuntimeError: it was called before, and no error is being handled.
        :raises ValueError: status or headers cannot be sent.
        """
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the frame would refer to itself
        elif self.headers is not None:
            raise RuntimeError("start_response() was called before: only with exc_info may it be called again")
        code, _, reason = status.partition(" ")
        if len(code) != 3 or not (code.isascii() and code.isdigit()):
            raise ValueError(f"a status is a number of three digits and a reason, as in '200 OK', got {status!r}")
        self.reason = check_reason(reason)
        self.status = int(code)
        fields = HTTPHeaders()
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:  # the server's own
                fields.add(name, value)
        self.headers = fields
        return self.write

    def write(self, part: bytes, alone: bool = False) -> None:
        """Send a part of the body; returns when the client has read enough.

        :param alone: it is the whole.
        :raises StreamClosedError: the client has gone.
        """
        if self.headers is None:
            raise RuntimeError("the application has to call start_response() before it sends a body")
        if self.complete:
            raise RuntimeError(f"the response has as many bytes as its Content-Length says, got {len(part)} more")
        if not isinstance(part, bytes):
            raise TypeError(f"a part of a WSGI body is bytes, got {type(part).__name__}")
        if not self.sent and (alone or self.headers.get("Content-Length") == str(len(part))):
            self.sent = self.complete = True
            self.loop.call_soon_threadsafe(self._on_loop_whole, part)
        elif part:
            self.await_(self._on_loop_part(part))

    def end(self) -> None:
        """The application has returned its last part."""
        if self.headers is None:
            raise RuntimeError("the application has not called start_response()")
        self.complete = True
        if self.sent:
            self.loop.call_soon_threadsafe(self._on_loop_end)
        else:
            self.sent = True
            self.loop.call_soon_threadsafe(self._on_loop_whole, b"")

    def await_(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for it.

        :raises StreamClosedError: the loop ends first.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            raise StreamClosedError from None
        try:
            return future.result()
        except asyncio.CancelledError:
            raise StreamClosedError from None

    # In the loop's thread

    def _on_loop_whole(self, body: bytes) -> None:
        connection, headers = self.connection, self.headers
        if connection.gone or headers is None:
            return
        try:
            if self.request.method == "HEAD" or (not body and headers.get("Content-Length", "0") != "0"):
                connection.start(self.status, self.reason, headers)  # the length is that of a body which is not there
                connection.finish()
            else:
                connection.respond(self.status, self.reason, headers, body=body)
        except Exception:
            app_log.error("Cannot send the response: %s %r", self.request.method, self.request.uri, exc_info=True)
            connection.abandon(self.request)
        self._log()

    async def _on_loop_part(self, part: bytes) -> None:
        connection = self.connection
        if connection.gone:
            raise StreamClosedError
        if not self.sent and self.headers is not None:
            self.sent = True
            connection.start(self.status, self.reason, self.headers)
        connection.write(part)
        if connection.stream.unsent > HIGH_WATER:
            await connection.stream.drained()

    def _on_loop_end(self) -> None:
        self.connection.finish()
        self._log()

    def _on_loop_failed(self) -> None:
        if self.sent:
            self.connection.abandon(self.request)
        elif not self.connection.gone:
            self.status = 500
            self.connection.respond(500, content_type="text/plain; charset=UTF-8", body=b"500 Internal Server Error\n")
            self._log()

    def _on_loop_cut(self) -> None:
        self.connection.abandon(self.request)

    def _log(self) -> None:
        if self.container.log_function is not None:
            self.container.log_function(self.request, self.status)

    async def take(self) -> bytes:
        """Return the next part of the body, b"" at its end.

        :raises StreamClosedError: the client has gone.
        """
        while True:
            if self.connection.gone:
                raise StreamClosedError
            data = self.connection.take_body()
            if data or self.request.complete:
                return data
            came = asyncio.Event()
            self.connection.wait_for_body(came.set)
            await came.wait()


class _Body(io.RawIOBase):
    """`wsgi.input` of a body that is streamed, read in the application's thread."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._call.await_(self._call.take()))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
