"""What Tornado has beneath handlers: delegates, routers that return them, and functions that write raw responses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.httputil
import tornado.routing

import pollux_web.httputil
import pollux_web.routing
from pollux_http import HTTPHeaders, HTTPServerRequest
from pollux_web import Application, RequestHandler
from tests.web.client import Answer, Web, get, post
from tests.web.oracle import ask_all, tornado_server


def own_router(httputil: Any, routing: Any) -> Any:
    """Return a router as the documentation of tornado.routing has it, written once for both."""

    class Delegate(httputil.HTTPMessageDelegate):  # type: ignore[misc]
        def __init__(self, connection: Any) -> None:
            self.connection = connection
            self.told: list[str] = []

        def headers_received(self, start_line: Any, headers: Any) -> Any:
            self.told.append(f"{start_line.method} {start_line.path} {start_line.version} {headers.get('X')}")
            return asyncio.sleep(0) if start_line.path == "/waits" else None

        def data_received(self, chunk: bytes) -> Any:
            self.told.append(chunk.decode())
            return asyncio.sleep(0)

        def finish(self) -> None:
            body = "|".join(self.told).encode()
            if "chunked" in self.told[0]:
                self.connection.write_headers(
                    httputil.ResponseStartLine("", 201, "Mine"), httputil.HTTPHeaders({"A": "b"})
                )
                self.connection.write(body)
            else:
                headers = httputil.HTTPHeaders({"Content-Length": str(len(body))})
                self.connection.write_headers(httputil.ResponseStartLine("HTTP/1.1", 200, "OK"), headers, body)
            self.connection.finish()

    class OwnRouter(routing.Router):  # type: ignore[misc]
        def find_handler(self, request: Any, **kwargs: Any) -> Any:
            return Delegate(request.connection)

    return OwnRouter()


def raw(httputil: Any) -> Any:
    """Return a function that answers without a handler."""

    def answer(request: Any) -> None:
        body = f"You requested {request.uri}\n".encode()
        line = httputil.ResponseStartLine("HTTP/1.1", 404 if "not" in request.uri else 200, "As I say")
        request.connection.write_headers(line, httputil.HTTPHeaders({"Content-Length": str(len(body))}))
        request.connection.write(body)
        request.connection.finish()

    return answer


REQUESTS = [
    get("/", "X: y"), post("/p", b"body"), get("/waits"), get("/chunked"), get("/not?x"),
    post("/waits", b"b" * 1000, "X: z"),
]  # fmt: skip


@pytest.fixture(scope="module", params=["router", "raw"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    if request.param == "router":
        ours: Any = own_router(pollux_web.httputil, pollux_web.routing)
        theirs = own_router(tornado.httputil, tornado.routing)
    else:
        ours, theirs = raw(pollux_web.httputil), raw(tornado.httputil)
    with tornado_server(callback=theirs) as address:
        yield ours, address


def test_they_answer_as_on_tornado(web: Web, pair: tuple[Any, Any]) -> None:
    server = web.serve(pair[0])

    async def main() -> list[list[Answer]]:
        head = await web.ask(server, get(method="HEAD"), "HEAD")  # which Tornado cuts off, if a body is written
        assert int(head.one("Content-Length") or 0) > 0
        return [await ask_all(web, where, REQUESTS) for where in (server.sockets[0].getsockname(), pair[1])]

    ours, theirs = web.run(main())
    for our, their in zip(ours, theirs, strict=True):
        added = ("Date", "Server")  # Tornado leaves them to the one who answers
        assert our._replace(headers=[each for each in our.headers if each[0] not in added]) == their


def test_delegates_stand_beside_handlers(web: Web) -> None:
    class Hello(RequestHandler):
        def get(self) -> None:
            self.write("handler")

    router = own_router(pollux_web.httputil, pollux_web.routing)
    application = Application([("/hello", Hello), ("/(.*)", router)])
    server = web.serve(application)

    async def main() -> None:
        assert (await web.ask(server, get("/hello"))).body == b"handler"
        assert (await web.ask(server, get("/other"))).body == b"GET /other HTTP/1.1 None"

    web.run(main())


def test_a_server_of_ones_own(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pollux")
    closed: list[object] = []
    connections: list[object] = []

    class Delegate(pollux_web.httputil.HTTPMessageDelegate):
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
            self.path = start_line.path
            if self.path == "/fails":
                raise ZeroDivisionError

        def finish(self) -> None:
            if self.path == "/late":
                gone.append(self)
                waiting.set()
            else:
                self.connection.respond(body=b"mine")

        def on_connection_close(self) -> None:
            lost.set()

    class Server(pollux_web.httputil.HTTPServerConnectionDelegate):
        def start_request(self, server_conn: object, request_conn: Any) -> Delegate:
            connections.append(server_conn)
            return Delegate(request_conn)

        def on_close(self, server_conn: object) -> None:
            closed.append(server_conn)
            over.set()

    gone: list[Delegate] = []
    waiting, lost, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    server = web.serve(Server())

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            assert (await client.ask(get("/"))).body == b"mine"
        client.end()
        assert await client.rest() == b""
        await over.wait()
        assert connections == [closed[0]] * 2
        failing = await web.connect(server)
        await failing.send(get("/fails"))
        assert await failing.rest() == b"", "cut off, as nothing else knows how to answer"
        late = await web.connect(server)
        await late.send(get("/late"))
        await waiting.wait()
        late.reset()
        await lost.wait()
        gone[0].connection.write_headers(pollux_web.httputil.ResponseStartLine("", 200, "OK"), HTTPHeaders(), b"late")
        gone[0].connection.finish()

    web.run(main())


def test_what_is_not_said_is_an_error() -> None:
    connection = pollux_web.httputil.HTTPConnection()
    line = pollux_web.httputil.ResponseStartLine("", 200, "OK")
    calls = (lambda: connection.write_headers(line, HTTPHeaders()), lambda: connection.write(b""), connection.finish)
    for call in calls:
        with pytest.raises(NotImplementedError, match="HTTPConnection does not say"):
            call()
    with pytest.raises(NotImplementedError, match="does not say start_request"):
        pollux_web.httputil.HTTPServerConnectionDelegate().start_request(None, connection)


def test_words_of_tornado_1_to_3(web: Web) -> None:
    """request.write and request.finish, with the bytes of a response."""

    def answer(request: HTTPServerRequest) -> None:
        message = f"You requested {request.uri}\n"
        request.write(f"HTTP/1.1 200 Fine\r\nContent-Length: {len(message)}\r\nX: y\r\n\r\n{message[:3]}")
        request.write(message[3:].encode())
        request.finish()

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        for path in ("/a", "/b"):
            got = await client.ask(get(path))
            assert (got.status, got.reason, got.one("X")) == (200, "Fine", "y")
            assert got.body == f"You requested {path}\n".encode()

    web.run(main())


@pytest.mark.parametrize("text", [b"", b"hello", b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"])
def test_what_is_no_response_is_answered_500(web: Web, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pollux")
    server = web.serve(lambda request: request.write(text))
    assert web.run(web.ask(server, get())).status == 500


def test_an_answer_that_was_not_begun_cannot_end(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    server = web.serve(lambda request: request.finish())
    assert web.run(web.ask(server, get())).status == 500
    assert "begun by start() or write_headers()" in caplog.text
