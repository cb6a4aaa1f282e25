"""`HTTPServer` over real sockets: framing of answers, keep-alive, and clients that behave in every possible way.

One file past 500 lines, because a connection is one state machine, and its tests read in the order of its states.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from email.utils import parsedate_to_datetime

import pytest

from pollux_http import HTTPHeaders, HTTPServerRequest
from pollux_http.connection import ServerConnection
from tests.web.client import Web, get, post


def echo(request: HTTPServerRequest) -> None:
    """Answer with what was asked."""
    request.connection.respond(body=f"{request.method} {request.uri} ".encode() + request.body)


class Held:
    """Keeps requests until the test answers them."""

    def __init__(self) -> None:
        self.requests: list[HTTPServerRequest] = []
        self.arrived = asyncio.Event()

    def __call__(self, request: HTTPServerRequest) -> None:
        self.requests.append(request)
        self.arrived.set()

    async def next(self) -> HTTPServerRequest:
        """Wait for a request."""
        while not self.requests:
            self.arrived.clear()
            await self.arrived.wait()
        return self.requests.pop(0)


def no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_keep_alive(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        client = await web.connect(server)
        for number in range(3):
            answer = await client.ask(get(f"/{number}"))
            assert answer[:2] == (200, "OK")
            assert answer.body == b"GET /%d " % number
            assert answer.one("Connection") is None
            assert answer.one("Content-Type") == "text/html; charset=UTF-8"
            assert answer.one("Server")
            assert parsedate_to_datetime(answer.one("Date") or "").tzinfo is not None
        assert not client.eof

    web.run(main())


@pytest.mark.parametrize("long_way", [False, True])
@pytest.mark.parametrize(
    ("version", "says", "answered", "kept"),
    [
        ("1.1", None, None, True), ("1.1", "close", "close", False), ("1.1", "Keep-Alive", None, True),
        ("1.0", None, "close", False), ("1.0", "keep-alive", "keep-alive", True), ("1.0", "close", "close", False),
    ],
)  # fmt: skip
def test_who_keeps_the_connection(
    web: Web, version: str, says: str | None, answered: str | None, kept: bool, long_way: bool
) -> None:
    server = web.serve(echo)
    lines = [f"Connection: {says}"] if says else []
    data = get("/x", *lines, "X: y" if not long_way else "Content-Length: 0", version=version)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(data)
        assert (answer.one("Connection"), answer.body) == (answered, b"GET /x ")
        if kept:
            assert (await client.ask(data)).status == 200
        else:
            assert await client.rest() == b""

    web.run(main())


def test_no_keep_alive(web: Web) -> None:
    server = web.serve(echo, no_keep_alive=True)

    async def main() -> None:
        client = await web.connect(server)
        assert (await client.ask(get())).one("Connection") == "close"
        assert await client.rest() == b""

    web.run(main())


def test_bodies(web: Web) -> None:
    server = web.serve(echo)
    chunked = (
        get("/c", "Transfer-Encoding: chunked", method="PUT") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n"
    )

    async def main() -> None:
        client = await web.connect(server)
        for data, body in ((post("/l", b"12345"), b"POST /l 12345"), (chunked, b"PUT /c abcde"), (get(), b"GET / ")):
            assert (await client.ask(data)).body == body
        for data, body in ((post("/l", b"12345"), b"POST /l 12345"), (chunked, b"PUT /c abcde"), (get(), b"GET / ")):
            for byte in data:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.answer()).body == body
        big = bytes(range(256)) * 4096 * 3
        assert (await client.ask(post("/big", big))).body == b"POST /big " + big

    web.run(main())


def test_expect_continue(web: Web) -> None:
    server = web.serve(echo, max_body_size=10)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            go_on = await client.ask(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
            assert go_on[:3] == (100, "Continue", [])
            assert (await client.ask(b"abc")).body == b"POST / abc"
        impatient = await client.ask(post("/", b"abc", "Expect: 100-continue"))
        assert impatient.body == b"POST / abc"
        refused = await client.ask(get("/", "Expect: 100-continue", "Content-Length: 11", method="POST"))
        assert refused.status == 413
        client = await web.connect(server)
        assert (await client.ask(get("/", "Expect: more", "Content-Length: 1", method="POST"))).status == 417

    web.run(main())


def test_continue_comes_after_the_answers_before_it(web: Web) -> None:
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(post("/1", b"x") + get("/2", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        first = await held.next()
        first.connection.respond(body=b"first")
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        (await held.next()).connection.respond(body=b"second")
        assert (await client.answer()).body == b"second"

    web.run(main())


def test_head(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        client = await web.connect(server)
        for data in (get("/x", method="HEAD"), get("/x", "Content-Length: 0", method="HEAD")):
            answer = await client.ask(data, "HEAD")
            assert (answer.status, answer.one("Content-Length")) == (200, str(len("HEAD /x ")))
        assert (await client.ask(get())).body == b"GET / "

    web.run(main())


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(web: Web, status: int) -> None:
    def answer(request: HTTPServerRequest) -> None:
        if request.uri == "/parts":
            request.connection.start(status, None, HTTPHeaders())
            request.connection.finish()
        else:
            request.connection.respond(status, body=b"dropped")

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        for path in ("/", "/parts", "/"):
            found = await client.ask(get(path))
            assert found.status == status
            assert found.one("Transfer-Encoding") is None
            assert status == 304 or found.one("Content-Length") is None

    web.run(main())


def test_parts_are_chunked_or_end_with_the_connection(web: Web) -> None:
    def answer(request: HTTPServerRequest) -> None:
        headers = HTTPHeaders({"Content-Length": "6"}) if request.uri == "/known" else HTTPHeaders()
        request.connection.start(200, None, headers)
        for part in (b"abc", b"", b"def"):
            request.connection.write(part)
        request.connection.finish()

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get("/known"))
        assert (answer.body, answer.one("Content-Length"), answer.one("Transfer-Encoding")) == (b"abcdef", "6", None)
        answer = await client.ask(get())
        assert (answer.body, answer.one("Content-Length"), answer.one("Transfer-Encoding")) == (
            b"abcdef",
            None,
            "chunked",
        )
        answer = await client.ask(get(method="HEAD"), "HEAD")
        assert (answer.one("Content-Length"), answer.one("Transfer-Encoding")) == (None, None)
        answer = await client.ask(get("/", "Connection: keep-alive", version="1.0"))
        assert (answer.body, answer.one("Connection"), answer.one("Transfer-Encoding")) == (b"abcdef", "close", None)

    web.run(main())


@pytest.mark.parametrize("written", [b"abcdefg", b"abcde"])
def test_a_body_is_as_long_as_was_said(web: Web, caplog: pytest.LogCaptureFixture, written: bytes) -> None:
    """Else the client takes a part of one answer for the next, or the next for a part of this one."""

    def answer(request: HTTPServerRequest) -> None:
        request.connection.start(200, None, HTTPHeaders({"Content-Length": "6"}))
        request.connection.write(written)
        request.connection.finish()

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get() + get())
        _, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert body in (b"", b"abcde")

    web.run(main())
    assert re.search("Content-Length", caplog.text)


def test_large_response(web: Web) -> None:
    body = bytes(range(256)) * 4096 * 10
    server = web.serve(lambda request: request.connection.respond(body=body))

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            assert (await client.ask(get())).body == body
        assert (await client.ask(get("/", "Connection: close"))).body == body
        assert await client.rest() == b""

    web.run(main())


@pytest.mark.parametrize("data", [get(), post("/", b"abc"), get("/", version="1.0")])
def test_half_closed_client_gets_its_answer(web: Web, data: bytes) -> None:
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(data)
        client.end()
        request = await held.next()
        gone = asyncio.Event()
        request.connection.on_close = gone.set
        await gone.wait()
        request.connection.respond(body=b"still")
        assert (await client.answer()).body == b"still"
        assert await client.rest() == b""

    web.run(main())


def test_half_closed_before_the_answer_to_pipelined_requests(web: Web) -> None:
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/1") + get("/2") + get("/3"))
        client.end()
        for number in (1, 2, 3):
            (await held.next()).connection.respond(body=b"%d" % number)
            assert (await client.answer()).body == b"%d" % number
        assert await client.rest() == b""

    web.run(main())


@pytest.mark.parametrize("when", ["connected", "in the head", "in the body", "answering", "after"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_client_goes_away(web: Web, caplog: pytest.LogCaptureFixture, when: str, how: str) -> None:
    """Nothing is logged, nothing is left, and who answers is told."""
    held = Held()
    server = web.serve(held)
    data = {
        "connected": b"", "in the head": get()[:-5], "in the body": post("/", b"abc")[:-1],
        "answering": get(), "after": get(),
    }[when]  # fmt: skip

    async def main() -> None:
        client = await web.connect(server)
        await client.send(data)
        gone = asyncio.Event()
        if when in ("answering", "after"):
            request = await held.next()
            if when == "after":
                request.connection.respond(body=b"x")
                await client.answer()
            else:
                request.connection.on_close = gone.set
        else:  # a later connection that is answered proves that the first was accepted and read
            other = await web.connect(server)
            await other.send(get())
            (await held.next()).connection.respond()
            await other.answer()
            other.close()
        client.reset() if how == "reset" else client.close()
        if when == "answering":
            await gone.wait()
            request.connection.respond(body=b"to nobody")
        while " 0 connections" not in repr(server):
            await asyncio.sleep(0)

    web.run(main())
    no_complaint(caplog)


def test_answer_to_nobody_is_no_error(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        for whole in (True, False):
            client = await web.connect(server)
            await client.send(get())
            request = await held.next()
            gone = asyncio.Event()
            request.connection.on_close = gone.set
            client.reset()
            await gone.wait()
            assert request.connection.stream.closed()
            if whole:
                request.connection.respond(404, body=b"x")
            else:
                request.connection.start(200, None, HTTPHeaders())
                request.connection.write(b"x")
                request.connection.finish()

    web.run(main())
    no_complaint(caplog)


def test_a_request_is_answered_once(web: Web) -> None:
    refused: list[str] = []

    def answer(request: HTTPServerRequest) -> None:
        request.connection.respond(body=b"once")
        with pytest.raises(RuntimeError, match="answered already"):
            request.connection.respond()
        with pytest.raises(RuntimeError, match="answered already"):
            request.connection.start(200, None, HTTPHeaders())
        refused.append("again")

    server = web.serve(answer)

    async def main() -> None:
        assert (await web.ask(server, get())).body == b"once"

    web.run(main())
    assert refused == ["again"]


def test_a_raising_application(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: HTTPServerRequest) -> None:
        if request.uri == "/started":
            request.connection.start(200, None, HTTPHeaders())
            request.connection.write(b"abc")
        raise ZeroDivisionError("on purpose")

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        for data in (get(), post("/", b"x")):
            answer = await client.ask(data)
            assert (answer.status, answer.one("Content-Type")) == (500, "text/plain; charset=UTF-8")
            assert b"on purpose" not in answer.body
        await client.send(get("/started"))
        assert not (await client.rest()).endswith(b"0\r\n\r\n"), "taken for whole"

    web.run(main())
    assert caplog.text.count("Uncaught exception for") == 3


def test_nothing_is_injected_through_the_content_type(web: Web) -> None:
    def answer(request: HTTPServerRequest) -> None:
        request.connection.respond(content_type="text/plain\r\nSet-Cookie: a=b", body=b"never")

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        for data in (get(), post("/", b"x"), get(version="1.0")):
            answer = await client.ask(data)
            assert (answer.status, answer.all("Set-Cookie")) == (500, [])
            assert b"never" not in answer.body

    web.run(main())


def test_slow_reader_gets_no_further_answers(web: Web) -> None:
    """Slow readers: what is unsent stays bounded, for whole answers and for those in parts, on either way in."""
    size = 1 << 20
    connections: list[ServerConnection] = []

    def answer(request: HTTPServerRequest) -> None:
        connections.append(request.connection)
        if "parts" in request.uri:
            request.connection.start(200, None, HTTPHeaders())
            request.connection.write(b"x" * size)
            request.connection.finish()
        else:
            request.connection.respond(body=b"x" * size)

    server = web.serve(answer)

    async def main() -> None:
        for data in (get("/"), get("/parts"), post("/", b"y"), post("/parts", b"y")):
            connections.clear()
            client = await web.connect(server, receive_buffer=4096)
            requests = 20
            sent = web.loop.create_task(send_singly(client.sock, data, requests))
            for _ in range(300):
                await asyncio.sleep(0)
                if connections:
                    assert connections[0].stream.unsent < 2 * size + 100_000
            assert 0 < len(connections) < requests
            for _ in range(requests):
                assert len((await client.answer()).body) == size
            await sent
            assert len(connections) == requests
            client.close()

    async def send_singly(sock: socket.socket, data: bytes, count: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            await web.loop.sock_sendall(sock, data)
            await asyncio.sleep(0)

    web.run(main())


def test_error_answer_arrives_although_the_client_still_sends(web: Web) -> None:
    """RFC 9112 9.6: closing with unread data resets the connection, and the reset overtakes the answer."""
    server = web.serve(echo, max_body_size=1000)

    async def main() -> None:
        for _ in range(20):
            client = await web.connect(server)
            await client.send(get("/", "Content-Length: 100000000", method="POST"))
            try:
                for _ in range(50):
                    await client.send(b"x" * 65536)
            except (ConnectionError, TimeoutError):
                pytest.fail("the connection was reset before the answer was read")
            assert (await client.answer()).status == 413
            client.end()
            assert await client.rest() == b""
            client.close()

    web.run(main())


def test_what_the_request_tells(web: Web) -> None:
    seen: list[HTTPServerRequest] = []

    def answer(request: HTTPServerRequest) -> None:
        seen.append(request)
        request.connection.respond()

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        await client.ask(get("/a%20b?c=d&e", "Host: [::1]:80", "X-y: 1", "x-Y: 2"))
        await client.ask(get("/", version="1.0").replace(b"Host: a\r\n", b""))

    web.run(main())
    first, second = seen
    assert (first.method, first.uri, first.path, first.query) == ("GET", "/a%20b?c=d&e", "/a%20b", "c=d&e")
    assert (first.version, first.host, first.host_name, first.protocol) == ("HTTP/1.1", "[::1]:80", "[::1]", "http")
    assert (first.remote_ip, first.full_url()) == ("127.0.0.1", "http://[::1]:80/a%20b?c=d&e")
    assert first.headers["X-Y"] == "1,2"
    assert first.query_arguments == {"c": [b"d"], "e": [b""]}
    assert first.request_time() >= 0
    assert (second.version, second.host) == ("HTTP/1.0", "127.0.0.1")
    assert "GET" in repr(first)


def test_repr_names_the_address(web: Web) -> None:
    server = web.serve(echo)
    assert str(server.sockets[0].getsockname()) in repr(server)
    server.stop()
    assert "nowhere" in repr(server)
