"""The same application on Tornado 6 and on Pollux: the same raw requests get the same responses.

Not compared: Date, Server and the order of headers. Where the two differ, `DIFFERENT` says how; a difference that
is not listed fails, and so does a listed one that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.web

import pollux_web
from tests.web.client import Answer, Web, get, post

FORM = "Content-Type: application/x-www-form-urlencoded"
CHUNKED = get("/echo", "Transfer-Encoding: chunked", method="POST")


def handlers(web: Any) -> list[tuple[str, Any]]:
    """Return the application, written once for both frameworks."""
    handler: Any = web.RequestHandler

    class Main(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.write("Hello, world")

        def head(self) -> None:
            self.write("Hello, world")

    class Echo(handler):  # type: ignore[misc]
        def post(self) -> None:
            self.write({"body": self.request.body.decode("latin-1"), "args": self.get_arguments("a")})

        put = patch = delete = options = post

    class Path(handler):  # type: ignore[misc]
        def get(self, *args: Any, **kwargs: Any) -> None:
            self.write({"args": args, "kwargs": kwargs})

    class Status(handler):  # type: ignore[misc]
        def get(self, status: str) -> None:
            self.set_status(int(status))

    class Error(handler):  # type: ignore[misc]
        async def get(self, kind: str) -> None:
            match kind:
                case "http":
                    raise web.HTTPError(403, "for the log: %s", "x")
                case "reason":
                    raise web.HTTPError(409, reason="No <way>")
                case "bug":
                    raise ZeroDivisionError
                case "late":
                    await asyncio.sleep(0)
                    raise web.HTTPError(404)
                case "list":
                    self.write([1])
                case "send":
                    self.send_error(410)
                case "missing":
                    self.get_argument("nothing")

    class Parts(handler):  # type: ignore[misc]
        async def get(self) -> None:
            for part in ("a", "bc"):
                self.write(part)
                self.flush()
                await asyncio.sleep(0)

    class Headers(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.set_header("X-One", 1)
            self.add_header("X-Two", "a")
            self.add_header("X-Two", "b")
            self.set_header("Content-Type", "text/plain")
            self.finish("x")

    class Show(handler):  # type: ignore[misc]
        def get(self) -> None:
            request = self.request
            self.write({
                "uri": request.uri, "path": request.path, "query": request.query, "host": request.host,
                "method": request.method,
                "version": request.version, "protocol": request.protocol, "ip": request.remote_ip,
                "url": request.full_url(),
                "name": request.host_name, "x": request.headers.get("x"), "list": request.headers.get_list("x"),
                "args": {k: [v.decode() for v in values] for k, values in request.arguments.items()},
            })  # fmt: skip

    return [
        ("/", Main), ("/echo", Echo), (r"/path/([^/]*)/(\w*)", Path), (r"/named/(?P<a>[^/]*)/(?P<b>.*)", Path),
        (r"/maybe(/x)?", Path), (r"/status/(\d+)", Status), (r"/error/(\w+)", Error), ("/parts", Parts),
        ("/headers", Headers), ("/show", Show),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def oracle() -> Iterator[Any]:
    """A Tornado server on a loop of its own."""
    started = threading.Event()
    state: dict[str, Any] = {}

    def run() -> None:
        async def main() -> None:
            server = tornado.httpserver.HTTPServer(
                tornado.web.Application(handlers(tornado.web)), max_body_size=1000, max_header_size=2000
            )
            sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            state.update(sockets=sockets, loop=asyncio.get_running_loop(), stop=asyncio.Event())
            started.set()
            await state["stop"].wait()
            server.stop()
            await server.close_all_connections()

        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(30)
    yield state["sockets"][0]
    state["loop"].call_soon_threadsafe(state["stop"].set)
    thread.join()


SAME = {
    "hello": get(),
    "HEAD": get(method="HEAD"),
    "query": get("/?a=b"),
    "close": get("/", "Connection: close"),
    "HTTP/1.0": get(version="1.0"),
    "HTTP/1.0 keep-alive": get("/", "Connection: keep-alive", version="1.0"),
    "not found": get("/nowhere"),
    "not found, almost": get("/echo/"),
    "not allowed": get(method="POST") + b"",
    "unknown method of HTTP": get(method="PROPFIND"),
    "body": post("/echo?a=1", b"x=y", FORM),
    "form": post("/echo?a=1", b"a=+2+&a=%C3%A9&b", FORM),
    "form, not said": post("/echo?a=1", b"a=2"),
    "put": post("/echo", b"z", method="PUT"),
    "patch": post("/echo", b"z", method="PATCH"),
    "delete": get("/echo", method="DELETE"),
    "options": get("/echo", method="OPTIONS"),
    "chunked": CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    "empty body": post("/echo", b""),
    "groups": get("/path/a%20b/c"),
    "groups decoded": get("/path/%C3%A9+%2F/"),
    "named": get("/named/a/b/c"),
    "no group": get("/maybe"),
    "group": get("/maybe/x"),
    **{f"status {status}": get(f"/status/{status}") for status in (200, 201, 204, 304, 404, 418, 500, 599)},
    **{f"error {kind}": get(f"/error/{kind}") for kind in ("http", "reason", "bug", "late", "list", "send", "missing")},
    "parts": get("/parts"),
    "headers": get("/headers"),
    "show": get("/show?a=1&a=%202&b=#f", "X: y", "x: z"),
    "show host": get("/show", "Host: Example.com:81"),
    "show HTTP/1.0": get("/show", version="1.0"),
    "leading empty lines": b"\r\n" + get(),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": get("/", "Host: a", "Host: b"),
    "length and coding": get("/echo", "Transfer-Encoding: chunked", "Content-Length: 3", method="POST") + b"0\r\n\r\n",
    "wrong length": get("/echo", "Content-Length: +3", method="POST") + b"abc",
    "same length twice": get("/echo", "Content-Length: 3", "Content-Length: 3", method="POST") + b"abc",
    "different lengths": get("/echo", "Content-Length: 3", "Content-Length: 4", method="POST") + b"abcd",
    "unknown coding": get("/echo", "Transfer-Encoding: gzip", method="POST"),
    "bad chunk": CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n",
    "bare LF": get().replace(b"\r\n", b"\n"),
    "folded": get("/show", "X: a\r\n b"),
    "space before colon": get("/", "X : y"),
    "body too large": post("/echo", b"x" * 1001),
    "head too large": get("/", "X: " + "y" * 3000),
    "unknown method": get(method="BREW"),
    "HTTP/2.0": get(version="2.0"),
    "invalid UTF-8 argument": post("/echo", b"a=%ff", FORM),
    "invalid UTF-8 in a group": get("/path/%ff/"),
    "control character in an argument": post("/echo", b"a=%01x%0b", FORM),
    "absolute target": get("http://b/show?x"),
    "unknown expectation": post("/echo", b"a", "Expect: x"),
}  # fmt: skip

_TOLD = "ours says in the body what is wrong, and that it closes"
_HTTP10 = "ours says `Connection: close`, and `keep-alive` in lower case, to HTTP/1.0 (RFC 9112 9.3 allows either)"
_ALLOW = "ours says in Allow which methods there are (RFC 9110 15.5.6)"
DIFFERENT: dict[str, str] = {
    "HTTP/1.0": _HTTP10,
    "HTTP/1.0 keep-alive": _HTTP10,
    "show HTTP/1.0": _HTTP10,
    "not allowed": _ALLOW,
    "unknown method of HTTP": _ALLOW,
    "error reason": "Tornado hides a reason with < in it; ours sends it, escaped in the page",
    **dict.fromkeys(
        (
            "no Host",
            "two Hosts",
            "length and coding",
            "wrong length",
            "different lengths",
            "bad chunk",
            "space before colon",
        ),
        _TOLD,
    ),
    "folded": _TOLD,
    "same length twice": "ours refuses repeated Content-Length (RFC 9110 8.6 allows either)",
    "unknown coding": "501 (RFC 9112 6.1), Tornado 400",
    "bare LF": "ours refuses it (RFC 9112 2.2 allows either), Tornado takes it",
    "body too large": "413, Tornado 400",
    "head too large": "431, Tornado closes without a word",
    "unknown method": "400 from llhttp, Tornado 405",
    "HTTP/2.0": "505, Tornado 400",
    "absolute target": "ours takes the path out of it (RFC 9112 3.2.2), Tornado finds no route",
    "unknown expectation": "417 (RFC 9110 10.1.1), Tornado ignores it",
}


async def ask(web: Web, address: Any, data: bytes) -> Any:
    from tests.web.client import Client

    answer: Any
    sock = socket.socket()
    web.clients.append(Client(sock))
    client = web.clients[-1]
    sock.setblocking(False)
    await web.loop.sock_connect(sock, address)
    await client.send(data)
    try:
        answer = comparable(await client.answer("HEAD" if data.startswith(b"HEAD") else "GET"))
    except AssertionError:
        answer = "closed"
    try:
        client.end()
        await client.rest()  # until the server has closed too: each test counts the descriptors of this process
    except OSError:
        pass
    client.close()
    return answer


def comparable(answer: Answer) -> tuple[Any, ...]:
    headers = sorted((name, value) for name, value in answer.headers if name not in ("Date", "Server"))
    return (answer.status, answer.reason, headers, answer.body)


@pytest.mark.parametrize("name", SAME)
def test_same(web: Web, oracle: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    server = web.serve(pollux_web.Application(handlers(pollux_web)), max_body_size=1000, max_header_size=2000)

    async def main() -> tuple[Any, Any]:
        return (
            await ask(web, server.sockets[0].getsockname(), SAME[name]),
            await ask(web, oracle.getsockname(), SAME[name]),
        )

    ours, theirs = web.run(main())
    if name in DIFFERENT:
        assert ours != theirs, "no longer different: take it off the list"
    else:
        assert ours == theirs
