"""WSGI applications on `HTTPServer` (PEP 3333), and ours on a WSGI server."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from pollux_http import HTTPServer, HTTPServerRequest, WSGIAdapter, WSGIContainer
from pollux_web import Application, RequestHandler
from tests.web.client import Web, get, post

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]

TEXT = [("Content-Type", "text/plain")]


def serve(web: Web, application: Any, **options: Any) -> HTTPServer:
    return web.serve(application, **options)


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    data = environ["wsgi.input"].read()
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(data)))])
    return [data]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# The environ and the body


def test_environ(web: Web) -> None:
    seen: Environ = {}

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.update(environ)
        start_response("200 OK", TEXT)
        return [b"ok"]

    server = serve(web, application, root_path="/app")
    lines = ["X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2", "Content-Type: text/x", "X_Real_Ip: evil", "Proxy: evil"]

    async def main() -> None:
        client = await web.connect(server)
        await client.ask(post("/app/caf%C3%A9?q=%20", b"abc", *lines))
        host, port = server.sockets[0].getsockname()
        expected = {
            "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/app", "PATH_INFO": "/cafÃ©", "QUERY_STRING": "q=%20",
            "SERVER_NAME": host, "SERVER_PORT": str(port), "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": "3",
            "CONTENT_TYPE": "text/x", "HTTP_X_A": "1,2", "HTTP_COOKIE": "a=1; b=2", "HTTP_HOST": "a",
            "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": True,
        }  # fmt: skip
        assert {name: seen[name] for name in expected} == expected
        assert not {"HTTP_X_REAL_IP", "HTTP_PROXY", "HTTP_CONTENT_LENGTH"} & set(seen)

    web.run(main())


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("size", [0, 5, 1 << 20])
def test_the_validator_is_content(web: Web, size: int) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        length = int(environ["CONTENT_LENGTH"] or 0) if "CONTENT_LENGTH" in environ else 0
        data = environ["wsgi.input"].read(length)
        start_response("200 OK", TEXT)
        return [b"%d" % len(data)]

    server = serve(web, validator(application), interface="wsgi")

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            assert (await client.ask(post("/", bytes(size)))).body == b"%d" % size
        assert (await client.ask(get("/?a"))).body == b"0"

    web.run(main())


@pytest.mark.parametrize("method", ["read", "readline", "readlines", "iterate", "pieces"])
@pytest.mark.parametrize("long", [False, True])
def test_every_way_to_read_the_body(web: Web, method: str, long: bool) -> None:
    lines = [b"line %d\n" % number for number in range(40_000 if long else 3)]

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        source: io.BufferedReader = environ["wsgi.input"]
        match method:
            case "read":
                data = [source.read()]
            case "readline":
                data = list(iter(source.readline, b""))
            case "readlines":
                data = source.readlines()
            case "iterate":
                data = list(source)
            case _:
                data = list(iter(lambda: source.read(1000), b""))
        assert source.read() == source.read(10) == source.readline() == b""
        start_response("200 OK", TEXT)
        return [b"%d %d" % (len(data), hash(b"".join(data)) == hash(b"".join(lines)))]

    server = serve(web, application)
    size = len(b"".join(lines))
    count = {"read": 1, "pieces": -(-size // 1000)}.get(method, len(lines))

    async def main() -> None:
        client = await web.connect(server)
        assert (await client.ask(post("/", b"".join(lines)))).body == b"%d 1" % count
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"
        await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunked)
        assert (await client.answer()).body == b"%d 1" % count

    web.run(main())


def test_a_client_that_goes_away_in_its_body_is_an_error_for_who_reads(web: Web) -> None:
    reading, raised = asyncio.Event(), asyncio.Event()
    loop = web.loop
    kinds: list[BaseException] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(1)
        loop.call_soon_threadsafe(reading.set)
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            kinds.append(error)
            loop.call_soon_threadsafe(raised.set)
            raise
        return []

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/", f"Content-Length: {1 << 20}", method="POST") + b"abc")
        await reading.wait()
        client.reset()
        await raised.wait()
        assert len(kinds) == 1
        await server.shutdown(5)

    web.run(main())


# The response


class Closing:
    """An iterable that notes its `close`."""

    def __init__(self, parts: Iterable[bytes], closed: threading.Event, fail: bool = False) -> None:
        self.parts = iter(parts)
        self.closed = closed
        self.fail = fail

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        if self.fail:
            raise ZeroDivisionError

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize(
    ("headers", "parts", "framing"),
    [
        ([], [b"whole"], ("5", None)), ([], [b"a", b"", b"b"], (None, "chunked")), ([], [], ("0", None)),
        ([("Content-Length", "2")], [b"a", b"b"], ("2", None)), ([("Content-Length", "5")], [b"whole"], ("5", None)),
        ([("Transfer-Encoding", "x"), ("Connection", "close")], [b"a"], ("1", None)), ([], [b""], ("0", None)),
    ],
)  # fmt: skip
def test_responses_in_parts_and_whole(
    web: Web, headers: list[tuple[str, str]], parts: list[bytes], framing: tuple[str | None, str | None]
) -> None:
    closed = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("201 Made", [*TEXT, *headers])
        return parts if environ["PATH_INFO"] == "/list" else Closing(parts, closed)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for path in ("/list", "/closing"):
            answer = await client.ask(get(path))
            assert (answer.status, answer.reason, answer.body) == (201, "Made", b"".join(parts))
            assert answer.one("Connection") is None
            if path == "/list" or len(parts) != 1 or "Content-Length" in dict(headers):
                assert (answer.one("Content-Length"), answer.one("Transfer-Encoding")) == framing
        await asyncio.to_thread(closed.wait)

    web.run(main())


def test_each_part_is_sent_when_it_is_there(web: Web) -> None:
    """PEP 3333: a server must not hold back a part until the next one comes."""
    go = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        yield b"first"
        go.wait(30)
        yield b"second"

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        while b"first" not in client.buffer:
            assert await client._more()
        assert b"second" not in client.buffer
        go.set()
        assert (await client.answer()).body == b"firstsecond"

    web.run(main())


def test_write(web: Web) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"a")
        write(b"b")
        return [b"c"]

    server = serve(web, application)

    async def main() -> None:
        assert (await web.ask(server, get())).body == b"abc"

    web.run(main())


def test_the_application_waits_for_a_client_that_does_not_read(web: Web) -> None:
    made = 0

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        nonlocal made
        start_response("200 OK", TEXT)
        for _ in range(256):
            made += 1
            yield bytes(64 * 1024)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get())
        while not any(connection.stream.unsent for connection in server._connections):
            await asyncio.sleep(0)
        assert made < 256
        assert len((await client.answer()).body) == 256 * 64 * 1024
        assert made == 256

    web.run(main())


def test_a_client_that_goes_away_ends_the_iteration(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return Closing(endless(), closed)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        await client.exactly(100)
        client.reset()
        await asyncio.to_thread(closed.wait)
        await server.shutdown(5)

    web.run(main())
    assert errors(caplog) == []


def test_head(web: Web) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "5")])
        return [b"whole"] if environ["PATH_INFO"] == "/body" else []

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for path in ("/body", "/none"):
            answer = await client.ask(get(path, method="HEAD"), "HEAD")
            assert (answer.status, answer.one("Content-Length")) == (200, "5")
        assert (await client.ask(get("/body"))).body == b"whole"

    web.run(main())


@pytest.mark.parametrize("started", [False, True])
def test_start_response_with_exc_info(web: Web, started: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Before the head is sent it replaces what was said; later it raises what it was given."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        if started:
            write(b"begun")
        try:
            raise KeyError("x")
        except KeyError:
            start_response("502 Bad", TEXT, sys.exc_info())
        return [b"replaced"]

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        if started:
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        else:
            assert (await client.answer())[::3] == (502, b"replaced")

    web.run(main())
    assert bool(errors(caplog)) is started


def fault(kind: str) -> Any:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        match kind:
            case "raises":
                raise ZeroDivisionError
            case "no start_response":
                return [b"x"]
            case "no start_response, nothing":
                return []
            case "twice":
                start_response("200 OK", TEXT)
                start_response("200 OK", TEXT)
            case "status":
                start_response("OK", TEXT)
            case "reason":
                start_response("200 OK\r\nX: y", TEXT)
            case "header":
                start_response("200 OK", [("X", "a\r\nb: c")])
            case "text":
                start_response("200 OK", TEXT)
                return ["text"]  # type: ignore[list-item]
            case "none":
                start_response("200 OK", TEXT)
                return None  # type: ignore[return-value]
        return [b"x"]

    return application


@pytest.mark.parametrize(
    "kind",
    [
        "raises",
        "no start_response",
        "no start_response, nothing",
        "twice",
        "status",
        "reason",
        "header",
        "text",
        "none",
    ],
)
def test_a_fault_before_anything_was_sent_is_a_500(web: Web, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(web, fault(kind))

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            answer = await client.ask(get())
            assert (answer.status, answer.one("b")) == (500, None)

    web.run(main())
    assert len(errors(caplog)) == 2


@pytest.mark.parametrize(
    ("headers", "parts", "fail"),
    [
        ([], [b"a", b"b"], True), ([("Content-Length", "9")], [b"short"], False),
        ([("Content-Length", "3")], [b"ab", b"cd"], False),
    ],
)  # fmt: skip
def test_a_fault_within_the_response_closes_the_connection(
    web: Web, headers: list[tuple[str, str]], parts: list[bytes], fail: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closed = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, *headers])
        return Closing(parts, closed, fail)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        data = await client.rest()
        assert data.startswith(b"HTTP/1.1 200")
        assert not data.endswith(b"0\r\n\r\n")
        assert data.count(b"HTTP/1.1") == 1
        await asyncio.to_thread(closed.wait)

    web.run(main())
    assert errors(caplog)


def test_a_response_with_more_than_was_announced_ends_where_it_was_announced(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "1")])
        yield b"a"
        yield b"HTTP/1.1 200 evil"

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            assert (await client.ask(get())).body == b"a"
        await server.shutdown(5)

    web.run(main())
    assert len(errors(caplog)) == 2


def test_threads_are_bounded_and_the_rest_waits(web: Web) -> None:
    go = threading.Event()
    running: list[str] = []
    loop, two = web.loop, asyncio.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        running.append(threading.current_thread().name)
        if len(running) == 2:
            loop.call_soon_threadsafe(two.set)
        go.wait(30)
        start_response("200 OK", TEXT)
        return [b"ok"]

    server = serve(web, application, wsgi_threads=2)

    async def main() -> None:
        clients = [await web.connect(server) for _ in range(5)]
        asked = [asyncio.create_task(client.ask(get())) for client in clients]
        await two.wait()
        while server.busy < 5:
            await asyncio.sleep(0)
        assert len(running) == 2
        go.set()
        assert [answer.body for answer in await asyncio.gather(*asked)] == [b"ok"] * 5
        assert len(set(running)) == 2

    web.run(main())


def test_a_short_body_is_waited_for_without_a_thread(web: Web) -> None:
    called = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        called.set()
        return echo(environ, start_response)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/", "Content-Length: 6", method="POST") + b"abc")
        while not any(connection.busy for connection in server._connections):
            await asyncio.sleep(0)
        assert not called.is_set()
        assert (await client.ask(b"def")).body == b"abcdef"

    web.run(main())


def test_shutdown_waits_for_calls(web: Web) -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop = web.loop
    ended: list[bool] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        loop.call_soon_threadsafe(begun.set)
        go.wait(30)
        start_response("200 OK", TEXT)
        ended.append(True)
        return [b"late"]

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        await begun.wait()
        ending = asyncio.create_task(server.shutdown(30))
        await asyncio.sleep(0)
        go.set()
        answer = await client.answer()
        assert (answer.body, answer.one("Connection")) == (b"late", "close")
        client.close()
        await ending
        assert ended == [True]

    web.run(main())


def test_container_within_an_application_of_ours(web: Web) -> None:
    container = WSGIContainer(echo)

    def application(request: HTTPServerRequest) -> None:
        container(request)

    server = serve(web, application)

    async def main() -> None:
        assert (await web.ask(server, post("/", b"abc"))).body == b"abc"
        await container.shutdown()

    web.run(main())


# WSGIAdapter


class Main(RequestHandler):
    def get(self) -> None:
        self.set_header("X-Ip", self.request.remote_ip)
        self.add_header("Set-Cookie", "a=1")
        self.add_header("Set-Cookie", "b=2")
        self.write(f"{self.request.method} {self.request.full_url()} {self.get_argument('q', '-')}")

    async def post(self) -> None:
        await asyncio.sleep(0)
        self.write(self.request.body)
        self.flush()
        self.write(b"!")

    def put(self) -> None:
        raise ZeroDivisionError

    def delete(self) -> None:
        self.set_status(204)


def call(
    adapter: Any, method: str, path: str = "/", body: bytes = b"", **more: Any
) -> tuple[str, dict[str, str], bytes]:
    environ: Environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "n",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "HTTP_HOST": "example.org",
        "wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": False, "wsgi.multiprocess": False,
        "wsgi.run_once": False, **more,
    }  # fmt: skip
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        told.extend((status, headers))
        return lambda data: None

    result = adapter(environ, start_response)
    data = b"".join(result)
    getattr(result, "close", lambda: None)()
    return told[0], dict(told[1]), data


@pytest.fixture
def adapter() -> Iterator[Any]:
    made = WSGIAdapter(Application([("/", Main), ("/%C3%A9", Main)]))
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
def test_adapter(adapter: Any, caplog: pytest.LogCaptureFixture) -> None:
    status, headers, data = call(validator(adapter), "GET", QUERY_STRING="q=x%20y")
    assert (status, data) == ("200 OK", b"GET https://example.org/?q=x%20y x y")
    assert (headers["X-Ip"], headers["Content-Length"]) == ("192.0.2.1", str(len(data)))
    assert call(adapter, "POST", body=b"abc")[::2] == ("200 OK", b"abc!")
    assert call(adapter, "DELETE")[::2] == ("204 No Content", b"")
    assert call(adapter, "GET", "/nowhere")[0] == "404 Not Found"
    assert call(adapter, "PUT")[0] == "500 Internal Server Error"
    assert errors(caplog)
    assert call(adapter, "GET", "/Ã©")[0] == "200 OK"


def test_adapter_in_several_threads(adapter: Any) -> None:
    found: list[bytes] = []

    def ask() -> None:
        found.extend(call(adapter, "POST", body=b"x")[2] for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x!"] * 15
