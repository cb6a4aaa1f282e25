"""`WSGIAdapter`: an application of ours under somebody else's WSGI server (tornado.wsgi had it until Tornado 5).

The server calls from a thread of its choice and waits. So each such thread gets a loop of its own, which runs until the
request is answered; handlers may therefore be coroutines, which Tornado's could not. What needs the client's
connection is not there: streaming, `detach`, WebSocket.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote

from pollux.ioloop import IOLoop
from pollux.rawstream import DONE
from pollux_http.delegates import HTTPConnection
from pollux_http.headers import HTTPHeaders
from pollux_http.request import HTTPServerRequest
from pollux_http.response import HTML, bodiless, reason_phrase

Environ = dict[str, Any]
_PLAIN = "/:@!$&'()*+,;=~"  # RFC 3986 3.3: what a path may hold beside letters and digits


class WSGIAdapter:
    """A WSGI application made of a request callback, such as a `pollux_web.Application`.

    :param application: called with each `HTTPServerRequest`.
    """

    def __init__(self, application: Callable[[HTTPServerRequest], object]) -> None:
        self.application = application
        self._local = threading.local()
        self._loops: list[IOLoop] = []

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""
        loop = getattr(self._local, "loop", None)
        if loop is None:
            loop = self._local.loop = IOLoop(make_current=True)
            self._loops.append(loop)
        answer: _Answer = loop.run_sync(lambda: self._answer(environ))
        reason = answer.reason if answer.reason is not None else reason_phrase(answer.status)
        start_response(f"{answer.status} {reason}", list(answer.headers.get_all()))
        return [b"".join(answer.parts)]

    def close(self) -> None:
        """Close the loops, if the application is not called any more."""
        while self._loops:
            self._loops.pop().close()

    async def _answer(self, environ: Environ) -> _Answer:
        answer = _Answer(environ)
        request = _request(environ)
        request.connection = answer  # type: ignore[assignment]
        answer.request = request
        self.application(request)
        await answer.finished
        return answer


def _request(environ: Environ) -> HTTPServerRequest:
    """Make a request of an environ."""
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe=_PLAIN)
    if environ.get("QUERY_STRING"):
        path += "?" + environ["QUERY_STRING"]
    fields = []
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            fields.append((key[5:].replace("_", "-").lower().encode(), str(value).encode("latin-1")))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            fields.append((key.replace("_", "-").lower().encode(), str(value).encode("latin-1")))
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    request = HTTPServerRequest(environ["REQUEST_METHOD"], path or "/", tuple(fields), host.encode("latin-1"))
    request.http11 = environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
    length = environ.get("CONTENT_LENGTH") or "0"
    request.body = environ["wsgi.input"].read(int(length)) if length != "0" else b""
    request.protocol = environ["wsgi.url_scheme"]
    request.remote_ip = environ.get("REMOTE_ADDR", "")
    return request


class _Answer(HTTPConnection):
    """Takes what a handler answers, in place of a `ServerConnection`."""

    on_close: Callable[[], object] | None = None
    gone = False
    request: HTTPServerRequest

    def __init__(self, environ: Environ) -> None:
        self.address = (environ.get("REMOTE_ADDR", ""), 0)
        self.stream = self
        self.status = 0
        self.reason: str | None = None
        self.headers = HTTPHeaders()
        self.parts: list[bytes] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def respond(
        self,
        status: int = 200,
        reason: str | None = None,
        headers: HTTPHeaders | None = None,
        content_type: str = HTML,
        body: bytes = b"",
    ) -> None:
        """See `ServerConnection.respond`."""
        if headers is None:
            name, _, tag = content_type.partition("\r\nEtag: ")
            headers = HTTPHeaders({"Content-Type": name, **({"Etag": tag} if tag else {})})
        self.start(status, reason, headers)
        if not bodiless(status):
            self.headers["Content-Length"] = str(len(body))
            self.write(body)
        self.finish()

    def start(self, status: int, reason: str | None, headers: HTTPHeaders) -> None:
        """See `ServerConnection.start`."""
        if self.status:
            raise RuntimeError("this request has been answered already")
        self.status, self.reason, self.headers = status, reason, headers.copy()

    def write(self, chunk: bytes) -> Awaitable[None]:
        """See `ServerConnection.write`."""
        if self.request.method != "HEAD":
            self.parts.append(chunk)
        return DONE

    def finish(self, trailers: HTTPHeaders | None = None) -> None:
        """See `ServerConnection.finish`."""
        if not self.finished.done():
            self.finished.set_result(None)

    def abort(self) -> None:
        """See `ServerConnection.abort`: here an error for the server to deal with."""
        if not self.finished.done():
            self.finished.set_exception(RuntimeError("the response was cut off, see the log"))

    def abandon(self, request: HTTPServerRequest) -> None:
        """See `ServerConnection.abandon`."""
        self.abort()

    # What handlers ask of the stream

    unsent = 0

    def closed(self) -> bool:
        """Return False: whether the client is there, only the server knows."""
        return False

    def drained(self) -> Awaitable[None]:
        """Return an awaitable that is done: everything is kept until the end."""
        return DONE
