"""ASGI 3 applications on `HTTPServer` (https://asgi.readthedocs.io/en/stable/specs/www.html).

The fast path: an application that answers without suspending runs from `recv` to `send` within one event. Its task is
started at once, its body is there already, and start and body leave in one write. What repeats is kept: the part of
the scope that belongs to the connection, and the response heads of this second, by the headers they were made of.

What the specification leaves open
----------------------------------
* The end of the client's sending counts as its disconnect for `receive`, but what is sent still goes out: a client that
  has only closed its sending side gets its answer (RFC 9112 9.6).
* Trailers are offered to every HTTP/1.1 request, and dropped where the client did not ask for them (RFC 9110 6.5.1).
* `http.response.push` is not offered: no HTTP/1.1 client can be pushed to, and HTTP/2 has given it up.

WebSockets
----------
This room may not import the one of WebSocket, which stands above it. Who serves scopes of another type than
"http" is found by the entry points of the group `pollux.asgi`, which have the type's name, when the first handshake
comes: that costs a start without WebSockets nothing. `pollux_websocket.asgi` is found in the same way as another's.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pollux.iostream import StreamClosedError
from pollux.log import app_log
from pollux_http.asgi_heads import Head, checked, fields_of, make_head
from pollux_http.headers import HTTPHeaders
from pollux_http.lifespan import Lifespan
from pollux_http.response import LENGTHS, bodiless, reason_phrase

if TYPE_CHECKING:
    from pollux_http.connection import ServerConnection
    from pollux_http.request import HTTPServerRequest

Message = dict[str, Any]
ASGIApplication = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

VERSIONS = {"version": "3.0", "spec_version": "2.4"}  # 2.4: `send` raises OSError once the client has gone
EXTENSIONS: dict[str, dict[str, object]] = {
    "http.response.trailers": {},
    "http.response.pathsend": {},
    "http.response.early_hint": {},
}
REMEMBERED_HEADS = 512  # a second's: an application that answers each request with other headers must not fill memory
HIGH_WATER = 64 * 1024  # bytes unsent above which `send` waits until the client has read

# Where the response is.
_NOTHING, _HELD, _BODY, _TRAILERS, _DONE = range(5)


class ClientDisconnectedError(StreamClosedError):
    """The client has gone: what was to be sent reaches nobody."""


Serve = Callable[["ASGIAdapter", "HTTPServerRequest"], Coroutine[Any, Any, None] | None]
"""Serves one request as a scope of another type than "http": returns what is to run as its task, or has answered it."""


@functools.cache
def _serving(kind: str) -> Serve | None:
    """Return who serves scopes of type `kind`; None if nobody is installed who does."""
    for found in metadata.entry_points(group="pollux.asgi", name=kind):
        serve: Serve = found.load()
        return serve
    return None


def _asks_for_websocket(request: HTTPServerRequest) -> bool:
    offered = ",".join(request.headers.get_list("Upgrade")).lower().split(",")
    return request.method == "GET" and "websocket" in [each.strip(" \t") for each in offered]


class ASGIAdapter:
    """Makes an ASGI 3 application a request callback for `HTTPServer`.

    :param application: called with scope, receive and send.
    :param root_path: where the application is mounted; put before each path, as a proxy that strips it expects.
    :param lifespan: "auto", "on" or "off", see `Lifespan`.
    :param settings: of its WebSockets, see `pollux_websocket.asgi`.
    :ivar log_function: called with request and status after each response; None: no log.
    """

    log_function: Callable[[HTTPServerRequest, int], object] | None = None

    def __init__(
        self,
        application: ASGIApplication,
        root_path: str = "",
        lifespan: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.application = application
        self.root_path = root_path
        self.settings = settings or {}
        self.lifespan = Lifespan(application, lifespan)
        self._started = lifespan == "off"
        self._starting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # of requests that are being served, or whose task goes on
        self._heads: dict[object, Head] = {}
        self._date = ""  # for which `_heads` holds

    def streams_body(self, request: HTTPServerRequest) -> bool:
        """Every body is streamed."""
        return True

    def __call__(self, request: HTTPServerRequest) -> None:
        """Serve a request."""
        connection = request.connection
        if request.upgrade and _asks_for_websocket(request):
            serve = _serving("websocket")
            if serve is None:
                body = b"WebSocket is not served here: no plugin does\n"
                connection.respond(501, content_type="text/plain; charset=UTF-8", body=body)
                return
            serving = serve(self, request)
            if serving is None:
                return
        else:
            exchange = Exchange(self, request)
            connection.on_close = exchange.closed
            serving = exchange.run()
        task = connection.server.io_loop.start_task(serving)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def startup(self) -> None:
        """Run the application's startup, once; requests that come earlier wait for it.

        :raises pollux_http.lifespan.LifespanError: the application could not start.
        """
        if not self._started:
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(self.lifespan.startup())
            await asyncio.shield(self._starting)
            self._started = True

    async def shutdown(self, timeout: float | None = None) -> None:
        """Let tasks that outlive their response finish, cancel what is left after `timeout` seconds, and run the
        application's shutdown."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=timeout)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=1.0)
        if self._starting is not None:
            await self.lifespan.shutdown()

    def log(self, request: HTTPServerRequest, status: int) -> None:
        """Log what a request was answered, if somebody wants that."""
        if self.log_function is not None:
            self.log_function(request, status)

    @property
    def started(self) -> bool:
        """Whether requests need not wait for the application's startup."""
        return self._started

    def scope(self, request: HTTPServerRequest, connection: ServerConnection) -> dict[str, Any]:
        """Return a new scope."""
        base = connection.state
        if base is None:
            base = connection.state = self._base(connection)
        path, mark, query = request.uri.partition("?")
        scope: dict[str, Any] = base.copy()
        scope["method"] = request.method
        scope["raw_path"] = path.encode()
        if "%" in path:
            path = unquote(path)
        scope["path"] = self.root_path + path if self.root_path else path
        if mark:
            scope["query_string"] = query.encode()
        scope["headers"] = list(request.fields)
        scope["state"] = self.lifespan.state.copy()
        if request.http11:
            scope["extensions"] = EXTENSIONS.copy()
        else:
            scope["http_version"] = "1.0"
            scope["extensions"] = {}
        if connection.server.forwarded is not None:
            scope["scheme"] = request.protocol
            if base["client"] is None or request.remote_ip != base["client"][0]:
                scope["client"] = (request.remote_ip, 0)  # its port is not known
        return scope

    def _base(self, connection: ServerConnection) -> dict[str, Any]:
        address, own = connection.address, connection.stream.socket.getsockname()
        return {
            "type": "http",
            "asgi": VERSIONS.copy(),
            "http_version": "1.1",
            "query_string": b"",
            "method": "GET",  # this and what follows differs from request to request; to replace is quicker than to add
            "raw_path": b"",
            "path": "",
            "headers": [],
            "state": {},
            "extensions": {},
            "scheme": connection.server.protocol,
            "server": tuple(own[:2]) if isinstance(own, tuple) else (own, None),
            "client": tuple(address[:2]) if isinstance(address, tuple) else None,
            "root_path": self.root_path,
        }

    def head(self, status: int, headers: tuple[Iterable[bytes], ...], date: str) -> Head:
        """Return the head of a response that says nothing of its connection; heads of this second are kept.

        :raises ValueError: a name or value that no header can hold.
        """
        if date is not self._date:
            self._date = date
            self._heads.clear()
        key: object = (status, headers)
        try:
            known = self._heads.get(key)
        except TypeError:  # pairs that are lists
            key = (status, tuple([tuple(pair) for pair in headers]))
            known = self._heads.get(key)
        if known is None:
            if len(self._heads) >= REMEMBERED_HEADS:
                self._heads.clear()
            known = self._heads[key] = make_head(status, headers, date)
        return known


class Exchange:
    """One request and its response: the application's `receive` and `send`."""

    # What most requests never change is a class attribute until it is changed.
    _phase = _NOTHING
    _status = 0
    _headers: tuple[Iterable[bytes], ...] = ()
    _asked = False  # the body was received to its end
    _disconnected = False
    _wake: asyncio.Event | None = None  # set when there may be something to receive
    _trailing = False
    _trailers: HTTPHeaders | None = None

    def __init__(self, adapter: ASGIAdapter, request: HTTPServerRequest) -> None:
        self._adapter = adapter
        self._request = request
        self._connection = request.connection

    async def run(self) -> None:
        """Call the application, and answer in its place where it did not."""
        adapter, request = self._adapter, self._request
        try:
            if not adapter.started:
                await adapter.startup()
            await adapter.application(adapter.scope(request, self._connection), self.receive, self.send)
        except Exception as error:
            if not (self._connection.gone and is_disconnect(error)):
                app_log.error("Exception in the application: %s %r", request.method, request.uri, exc_info=True)
        except BaseException:  # cancelled, or the end of the process
            if self._phase != _DONE:
                self.give_up(503)
            raise
        if self._phase != _DONE:
            if not self._connection.gone:
                app_log.error("the application has not completed its response: %s %r", request.method, request.uri)
            self.give_up(500)

    def give_up(self, status: int) -> None:
        """Answer `status`, or if a part of the response has left, cut the connection."""
        connection = self._connection
        if self._phase in (_NOTHING, _HELD):
            if not connection.gone:
                body = f"{status} {reason_phrase(status)}\n".encode()
                connection.respond(status, content_type="text/plain; charset=UTF-8", body=body)
                self._done(status)
        else:
            connection.abandon(self._request)
        self._phase = _DONE

    # Receiving

    def closed(self) -> None:
        """The client has gone away, or ended its side."""
        self._disconnected = True
        if self._wake is not None:
            self._wake.set()

    async def receive(self) -> Message:
        """Return the next event: parts of the body, then the client's disconnect."""
        request, connection = self._request, self._connection
        if request.incoming is None:
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": request.body, "more_body": False}
        else:
            while not self._asked and self._phase != _DONE and not connection.gone:
                data = connection.take_body()
                if data or request.complete:
                    self._asked = request.complete
                    return {"type": "http.request", "body": data, "more_body": not self._asked}
                connection.wait_for_body(self._more)
                await self._woken()
        while self._phase != _DONE and not self._disconnected and not connection.gone:
            await self._woken()
        return {"type": "http.disconnect"}

    def _more(self) -> None:
        if self._wake is not None:
            self._wake.set()

    async def _woken(self) -> None:
        if self._wake is None:
            self._wake = asyncio.Event()
        self._wake.clear()
        await self._wake.wait()

    # Sending

    async def send(self, message: Message) -> None:
        """Take an event of the application.

        :raises ClientDisconnectedError: there is nobody to send it to.
        :raises RuntimeError: it does not come at its place.
        :raises ValueError: what it holds cannot be sent.
        """
        kind = message["type"]
        phase = self._phase
        if kind == "http.response.body":
            more = message.get("more_body", False)
            if phase == _HELD:
                if not more and not self._trailing:
                    self._respond(message.get("body", b""))
                    return
                self._start()
            elif phase != _BODY:
                raise self._unexpected(kind)
            await self._send_part(message.get("body", b""), more)
        elif kind == "http.response.start":
            if phase != _NOTHING:
                raise self._unexpected(kind)
            self._status = message["status"]
            self._headers = tuple(message.get("headers", ()))
            if "trailers" in message:
                self._trailing = bool(message["trailers"])
            self._phase = _HELD
        elif kind == "http.response.trailers" and phase == _TRAILERS:
            self._take_trailers(message)
        elif kind == "http.response.early_hint" and phase == _NOTHING:
            links = checked((b"Link", link) for link in message.get("links", ()))
            self._connection.send_interim(103, fields_of(links))
        elif kind == "http.response.pathsend" and phase == _HELD:
            await self._send_file(message["path"])
        else:
            raise self._unexpected(kind)

    def _unexpected(self, kind: str) -> Exception:
        if self._phase != _DONE and self._connection.gone:
            return ClientDisconnectedError()
        expected = {
            _NOTHING: "'http.response.start'", _HELD: "'http.response.body'", _BODY: "'http.response.body'",
            _TRAILERS: "'http.response.trailers'", _DONE: "nothing: the response is complete",
        }  # fmt: skip
        return RuntimeError(f"unexpected ASGI message {kind!r}, expected {expected[self._phase]}")

    def _respond(self, body: bytes) -> None:
        """Send the whole response."""
        connection, request, status = self._connection, self._request, self._status
        if connection.takes_plain(request):
            data, announced, special = self._adapter.head(status, self._headers, connection.server.heads.date)
            length = len(body)
            if not special and (announced is None or announced == length):
                if announced is None:
                    data += LENGTHS[length] if length < len(LENGTHS) else b"%d\r\n\r\n" % length
                self._phase = _DONE
                connection.send_whole(data, body)
                if self._wake is not None or self._adapter.log_function is not None:
                    self._done(status)
                return
        self._start()
        if body and not bodiless(status):
            connection.write(bytes(body))
        self._finish()

    def _start(self) -> None:
        if self._connection.gone:
            raise ClientDisconnectedError
        self._connection.start(self._status, None, fields_of(checked(self._headers)))
        self._phase = _BODY

    async def _send_part(self, body: bytes, more: bool) -> None:
        connection = self._connection
        if connection.gone:
            raise ClientDisconnectedError
        if body and not bodiless(self._status):
            connection.write(bytes(body))
        if not more:
            if self._trailing:
                self._phase = _TRAILERS
            else:
                self._finish()
        elif connection.stream.unsent > HIGH_WATER:
            await self._drained()

    async def _drained(self) -> None:
        try:
            await self._connection.stream.drained()
        except StreamClosedError as error:
            raise ClientDisconnectedError(error.real_error) from None

    def _take_trailers(self, message: Message) -> None:
        if self._connection.gone:
            raise ClientDisconnectedError
        if self._trailers is None:
            self._trailers = HTTPHeaders()
        for name, value in checked(message.get("headers", ())):
            self._trailers.add(name.decode("latin-1"), value.decode("latin-1"))
        if not message.get("more_trailers", False):
            self._finish()

    async def _send_file(self, path: str) -> None:
        """Extension `http.response.pathsend`: the file is the body. It is opened in a thread: a disk may be slow."""
        loop = self._connection.server.io_loop
        file = await loop.run_in_executor(None, open, path, "rb")
        try:
            size = os.fstat(file.fileno()).st_size
            if not any(name.lower() == b"content-length" for name, _ in self._headers):
                self._headers = (*self._headers, (b"content-length", b"%d" % size))
            self._start()
        except BaseException:
            file.close()
            raise
        if bodiless(self._status):
            file.close()
        else:
            self._connection.write_file(file, 0, size)  # which closes it
            await self._drained()
        self._finish()

    def _finish(self) -> None:
        self._phase = _DONE
        self._connection.finish(self._trailers)
        self._done(self._status)

    def _done(self, status: int) -> None:
        """The response is complete: who receives learns that there will be no more."""
        if self._wake is not None:
            self._wake.set()
        self._adapter.log(self._request, status)


def is_disconnect(error: BaseException | None) -> bool:
    """Return whether `error` is our news of a client that has gone, or was made of it: frameworks wrap it."""
    while error is not None:
        if isinstance(error, ClientDisconnectedError):
            return True
        error = error.__cause__ or error.__context__
    return False
