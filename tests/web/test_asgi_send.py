"""ASGI applications: what `send` makes of events, in order and out of it, and the extensions."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from tests.web.asgi_parts import PLAIN, Message, Receive, Send, body, errors, serve, start
from tests.web.client import Web, get, post

# Sending


@pytest.mark.parametrize(
    ("messages", "wanted", "headers"),
    [
        ([start(200), body(b"whole")], b"whole", {"Content-Length": "5", "Transfer-Encoding": None}),
        ([start(200, (b"content-length", b"5")), body(b"whole")], b"whole", {"Content-Length": "5"}),
        ([start(200), body(b"a", True), body(b"", True), body(b"b")], b"ab", {"Transfer-Encoding": "chunked"}),
        ([start(200, (b"content-length", b"2")), body(b"a", True), body(b"b")], b"ab", {"Content-Length": "2"}),
        ([start(200), body(b"a", True), body()], b"a", {"Transfer-Encoding": "chunked"}),
        ([start(200, (b"Transfer-Encoding", b"chunked")), body(b"a", True), body()], b"a", {"Content-Length": None}),
        ([start(200, (b"Transfer-Encoding", b"chunked")), body(b"a")], b"a", {"Content-Length": "1"}),
        ([start(204), body()], b"", {"Content-Length": None, "Transfer-Encoding": None}),
        ([start(304, (b"etag", b'"x"')), body(b"none")], b"", {"Etag": '"x"'}),
        ([start(404), body(b"no")], b"no", {"Content-Length": "2"}),
        ([start(200, (b"Server", b"mine"), (b"date", b"then")), body()], b"", {"Server": "mine", "Date": "then"}),
        ([start(200, (b"connection", b"close")), body(b"x")], b"x", {"Connection": "close"}),
        ([start(200, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")), body()], b"", {}),
    ],
)
@pytest.mark.parametrize("long_way", [False, True])
def test_responses(
    web: Web, messages: list[Message], wanted: bytes, headers: dict[str, str | None], long_way: bool
) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if long_way:
            await asyncio.sleep(0)
        for message in messages:
            await send(message)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            answer = await client.ask(post("/", b"x") if long_way else get())
            assert (answer.status, answer.body) == (messages[0]["status"], wanted)
            for name, value in headers.items():
                assert answer.one(name) == value, name
            assert len(answer.all("Set-Cookie")) == sum(name == b"set-cookie" for name, _ in messages[0]["headers"])
            assert answer.one("Date")
            assert answer.one("Server")
            if answer.one("Connection") == "close":
                assert await client.rest() == b""
                return

    web.run(main())


def test_pairs_may_be_lists_and_headers_any_iterable(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        pairs: Any = ([name, value] for name, value in [(b"x-a", b"1"), (b"x-b", b"2")])
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body"})

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            answer = await client.ask(get())
            assert (answer.one("X-A"), answer.one("X-B"), answer.body) == ("1", "2", b"")

    web.run(main())


def test_heads_are_remembered_apart_and_bounded(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start(200, (b"x-path", scope["raw_path"])))
        await send(body())

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for number in range(1500):
            assert (await client.ask(get(f"/{number}"))).one("X-Path") == f"/{number}"
        assert len(server.application._heads) <= 512  # type: ignore[attr-defined]

    web.run(main())


def test_head_has_the_length_and_no_body(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/parts":
            await send(start())
            await send(body(b"a", True))
            await send(body(b"b"))
        else:
            await send(start(200, (b"content-length", b"5")))
            await send(body(b"whole" if scope["path"] == "/body" else b""))

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for path, length in (("/body", "5"), ("/none", "5"), ("/parts", None)):
            answer = await client.ask(get(path, method="HEAD"), "HEAD")
            assert (answer.status, answer.one("Content-Length")) == (200, length)
        assert (await client.ask(get("/body"))).body == b"whole"

    web.run(main())


def test_http10_gets_the_end_of_the_connection(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"a", True))
        await send(body(b"b"))

    server = serve(web, application)

    async def main() -> None:
        answer = await web.ask(server, get(version="1.0"))
        assert (answer.body, answer.one("Connection"), answer.one("Transfer-Encoding")) == (b"ab", "close", None)

    web.run(main())


def test_send_waits_for_a_client_that_does_not_read(web: Web) -> None:
    sent = 0
    finished = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _ in range(256):
            await send(body(bytes(64 * 1024), True))
            sent += 1
        await send(body())
        finished.set()

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get())
        before = -1
        while before != sent:  # until it stands still
            before = sent
            for _ in range(20):
                await asyncio.sleep(0)
        assert sent < 256
        assert not finished.is_set()
        connection = next(iter(server._connections))
        assert connection.stream.unsent <= 3 * 64 * 1024
        assert len((await client.answer()).body) == 256 * 64 * 1024
        await finished.wait()

    web.run(main())


def test_send_after_the_client_has_gone(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """An OSError, also while it waits; nothing is logged about a client that goes away."""
    raised: list[type[BaseException]] = []
    begun, gone = asyncio.Event(), asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(body(bytes(64 * 1024), True))
                begun.set()
        except OSError as error:
            raised.append(type(error))
            with pytest.raises(OSError):  # noqa: PT011
                await send(body())
            gone.set()
            raise

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        await begun.wait()
        client.reset()
        await gone.wait()
        await asyncio.sleep(0)
        assert len(raised) == 1

    web.run(main())
    assert errors(caplog) == []


WRONG = [
    ([body()], "expected 'http.response.start'"),
    ([start(), start()], "expected 'http.response.body'"),
    ([start(), body(b"a", True), start()], "expected 'http.response.body'"),
    ([start(), body(), body()], "expected nothing: the response is complete"),
    ([{"type": "http.response.push", "path": "/x", "headers": []}], "'http.response.push'"),
    ([{"type": "http.response.nonsense"}], "'http.response.nonsense'"),
    ([{"type": "websocket.accept"}], "'websocket.accept'"),
    ([start(), {"type": "http.response.trailers", "headers": []}], "'http.response.trailers'"),
    ([start(), {"type": "http.response.early_hint", "links": []}], "'http.response.early_hint'"),
]


@pytest.mark.parametrize(("messages", "words"), WRONG)
def test_an_event_out_of_order_is_an_error(
    web: Web, messages: list[Message], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            told.append(str(error))
            raise

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        rest = await client.answer() if "complete" in words else None
        if rest is None:
            data = b""
            while b"\r\n\r\n" not in data and await client._more():
                data = client.buffer
            assert data.startswith(
                b"HTTP/1.1 200" if messages[:1] == [start()] and len(messages) > 2 else b"HTTP/1.1 500"
            )
        else:
            assert rest.status == 200
        assert words in told[0]

    web.run(main())
    assert len(errors(caplog)) >= 1


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")], [(b"x", b"a\nb")], [(b"x\r\ny", b"a")], [(b"x y", b"a")], [(b"", b"a")],
        [("x", "a")], [(b"x", b"\0")], [(b"content-length", b"+1")], [(b"content-length", b"one")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
def test_headers_that_cannot_be_sent(
    web: Web, headers: list[Any], whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Response splitting: CR or LF in a header is an error of the application's, not a header of the response."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(body(b"x", not whole))
        await send(body())

    server = serve(web, application)

    async def main() -> None:
        answer = await web.ask(server, get())
        assert (answer.status, answer.one("b"), answer.one("x")) == (500, None, None)

    web.run(main())
    assert errors(caplog)


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], 500), ([start()], 500), ([start(), body(b"part", True)], None),
        ([start(200, (b"content-length", b"9")), body(b"short")], None),
        ([start(200, (b"content-length", b"3")), body(b"long")], None),
        ([start(200, (b"content-length", b"3")), body(b"lo", True), body(b"ng")], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("raises", [False, True])
def test_a_response_that_is_not_completed(
    web: Web, messages: list[Message], status: int | None, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """500 if nothing was sent, else the connection ends short of what was announced; the next client is served."""
    if raises and messages[1:] and not messages[-1]["more_body"]:
        pytest.skip("that response is wrong by itself")

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ok":
            await send(start())
            await send(body(b"ok"))
            return
        for message in messages:
            await send(message)
        if raises:
            raise ZeroDivisionError

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        if status is not None:
            assert (await client.ask(get())).status == status
            assert (await client.ask(get("/ok"))).body == b"ok", "the connection goes on"
        else:
            await client.send(get())
            data = await client.rest()
            assert data.startswith(b"HTTP/1.1 200")
            assert not data.endswith(b"0\r\n\r\n")
        assert (await web.ask(server, get("/ok"))).body == b"ok"

    web.run(main())
    assert errors(caplog)


def test_pipelined_requests_are_answered_in_order(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] in ("/1", "/3"):
            await asyncio.sleep(0)
        await send(start())
        await send(body(scope["path"].encode()))

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(b"".join(get(f"/{number}") for number in range(6)))
        for number in range(6):
            assert (await client.answer()).body == b"/%d" % number

    web.run(main())


def test_one_write_for_start_and_body(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start(200, *PLAIN))
        await send(body(b"hello"))

    server = serve(web, application)
    writes: list[bytes] = []

    async def main() -> None:
        client = await web.connect(server)
        await client.ask(get())
        stream: Any = next(iter(server._connections)).stream
        real = type(stream).send

        def counting(self: Any, data: bytes) -> bool:
            if self is stream:
                writes.append(bytes(data))
            return bool(real(self, data))

        monkeypatch.setattr(type(stream), "send", counting)
        await client.ask(get())
        assert len(writes) == 1
        assert writes[0].endswith(b"hello")

    web.run(main())


def test_the_task_is_the_requests_own(web: Web) -> None:
    """Context variables do not leak from request to request, and there is a current task from the first step on."""
    from contextvars import ContextVar

    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(user.get())
        user.set("alice")
        assert asyncio.current_task() is not None
        async with asyncio.timeout(30):
            if scope["path"] == "/wait":
                await asyncio.sleep(0)
        seen.append(user.get())
        await send(start())
        await send(body())

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for path in ("/", "/wait", "/", "/wait"):
            assert (await client.ask(get(path))).status == 200
        assert seen == ["nobody", "alice"] * 4

    web.run(main())


# Extensions


@pytest.mark.parametrize("wanted", [True, False])
def test_trailers(web: Web, wanted: bool) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start(200, (b"trailer", b"x-sum"), trailers=True))
        await send(body(b"data"))
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/", *(["TE: trailers"] if wanted else []), "Connection: close"))
        data = await client.rest()
        end = b"0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n" if wanted else b"4\r\ndata\r\n0\r\n\r\n"
        assert data.endswith(end)

    web.run(main())


def test_early_hints(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if "http.response.early_hint" in scope["extensions"]:
            links = [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
            await send({"type": "http.response.early_hint", "links": links})
        await send(start())
        await send(body(b"page"))

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        hint = await client.ask(get())
        assert (hint.status, len(hint.all("Link"))) == (103, 2)
        assert (await client.answer()).body == b"page"
        assert (await web.ask(server, get(version="1.0"))).status == 200

    web.run(main())


def test_pathsend_of_a_file_that_is_cut_off_or_of_another_length(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection closes: the client must not take what it has for the whole."""
    caplog.set_level(logging.CRITICAL, "pollux")
    path = tmp_path / "file"

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        length = {"/short": 5, "/long": 20}.get(scope["path"])
        headers = () if length is None else ((b"content-length", b"%d" % length),)
        await send(start(200, *headers))
        await send({"type": "http.response.pathsend", "path": str(path)})

    server = serve(web, application)

    async def main() -> None:
        path.write_bytes(bytes(10))
        for wrong in ("/short", "/long"):
            client = await web.connect(server)
            await client.send(get(wrong))
            assert len((await client.rest()).partition(b"\r\n\r\n")[2]) in (0, 10)
        path.write_bytes(bytes(4 << 20))
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get())
        await client.exactly(1000)
        os.truncate(path, 2 << 20)
        assert len(await client.rest()) < 4 << 20

    web.run(main())


@pytest.mark.parametrize("size", [0, 5, 3 << 20])
def test_pathsend(web: Web, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path.write_bytes(data)

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start(200, *PLAIN))
        await send({"type": "http.response.pathsend", "path": str(path)})

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get())
        assert (answer.body, answer.one("Content-Length")) == (data, str(size))
        head = await client.ask(get(method="HEAD"), "HEAD")
        assert head.one("Content-Length") == str(size)
        path.unlink()
        assert (await client.ask(get())).status == 500

    web.run(main())
