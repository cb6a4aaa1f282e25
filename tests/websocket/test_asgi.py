"""WebSockets of ASGI applications on every backend: scope, order, refusals, ends of every kind, backpressure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pollux_http.asgi import ASGIAdapter
from pollux_websocket import websocket_connect
from pollux_websocket.frames import masked_frame
from tests.web.asgi_parts import Message, Receive, Send, any_kind, body, errors, start
from tests.web.client import Web, get
from tests.websocket.wire import KEY, OPENING, Frame, closing, connect, frame

Application = Callable[[Message, Receive, Send], Awaitable[None]]
ACCEPT: Message = {"type": "websocket.accept"}


def serve(web: Web, application: Application, settings: Message | None = None, **options: Any) -> Any:
    return web.serve(any_kind(ASGIAdapter(application, lifespan="off", settings=settings)), **options)


def text(data: str) -> Message:
    return {"type": "websocket.send", "text": data}


def disconnect(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


class Echo:
    """Accepts, sends everything back, and keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.scope: Message = {}
        self.over = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        while (message := await receive())["type"] != "websocket.disconnect":
            self.received.append(message)
            if message["type"] == "websocket.connect":
                await send(ACCEPT)
            else:
                await send(message | {"type": "websocket.send"})
        self.received.append(message)
        self.over.set()


def test_from_connect_to_disconnect(web: Web) -> None:
    application = Echo()
    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server, "Sec-WebSocket-Protocol: a, b", path="/caf%C3%A9?q=1")
        await peer.send(frame(0x81, "é".encode()) + frame(0x82, b"\xff") + frame(0x81))
        assert [await peer.frame() for _ in range(3)] == [
            Frame(0x81, "é".encode()), Frame(0x82, b"\xff"), Frame(0x81, b"")
        ]  # fmt: skip
        await peer.send(closing(3001, "enough"))
        assert await peer.frame() == Frame(0x88, b"\x0b\xb9")
        await peer.closed()
        await application.over.wait()
        scope = application.scope
        assert scope.pop("client") == peer.client.sock.getsockname()
        assert scope.pop("server") == server.sockets[0].getsockname()
        fields = dict(scope.pop("headers"))
        assert (fields[b"host"], fields[b"sec-websocket-key"]) == (b"a", KEY.encode())
        assert scope == {
            "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.5"}, "http_version": "1.1",
            "scheme": "ws", "path": "/café", "raw_path": b"/caf%C3%A9", "query_string": b"q=1", "root_path": "",
            "state": {}, "subprotocols": ["a", "b"], "extensions": {"websocket.http.response": {}},
        }  # fmt: skip
        assert application.received == [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "é", "bytes": None},
            {"type": "websocket.receive", "text": None, "bytes": b"\xff"},
            {"type": "websocket.receive", "text": "", "bytes": None},
            disconnect(3001, "enough"),
        ]

    web.run(main())


def test_accept_with_subprotocol_and_headers(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"x-one", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"9")]
        await send(ACCEPT | {"subprotocol": scope["subprotocols"][1], "headers": headers})
        await send({"type": "websocket.close", "code": 4001, "reason": "done"})

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get("/", *OPENING, "Sec-WebSocket-Protocol: a, b"))
        assert (answer.status, answer.one("Sec-WebSocket-Protocol"), answer.one("X-One")) == (101, "b", "1")
        assert answer.all("Set-Cookie") == ["a=1", "b=2"]
        assert answer.one("Content-Length") is None
        assert await client.exactly(8) == b"\x88\x06\x0f\xa1done"

    web.run(main())


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Sec-WebSocket-Version: 7",), 426),
        (("Sec-WebSocket-Key: short",), 400),
        (("Sec-WebSocket-Protocol: a, a",), 400),
    ],
    ids=["version", "key", "protocols"],
)
def test_wrong_handshakes_never_reach_the_application(web: Web, lines: tuple[str, ...], status: int) -> None:
    application = Echo()
    server = serve(web, application)
    replaced = {line.partition(":")[0] for line in lines}

    async def main() -> None:
        opening = [line for line in OPENING if line.partition(":")[0] not in replaced]
        client = await web.connect(server)
        answer = await client.ask(get("/", *opening, *lines))
        assert (answer.status, application.scope) == (status, {})
        assert answer.one("Sec-WebSocket-Version") == ("13, 8" if status == 426 else None)
        assert (await client.ask(get("/", *OPENING))).status == 101, "the connection goes on"

    web.run(main())


def test_other_upgrades_are_plain_requests(web: Web) -> None:
    asked: list[Any] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        asked.append((scope["type"], scope["method"]))
        await send(start())
        await send(body(b"plain"))

    server = serve(web, application)

    async def main() -> None:
        for request in (get("/", "Upgrade: h2c", "Connection: Upgrade"), get("/", *OPENING, method="DELETE")):
            assert (await web.ask(server, request)).body == b"plain"
        assert asked == [("http", "GET"), ("http", "DELETE")]

    web.run(main())


def test_without_the_plugin(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pollux_http.asgi._serving", lambda kind: None)
    application = Echo()
    server = serve(web, application)

    async def main() -> None:
        assert (await web.ask(server, get("/", *OPENING))).status == 501
        assert application.scope == {}

    web.run(main())


# Refusing


def test_close_before_accept_is_403(web: Web) -> None:
    told: list[Message] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.close"})
        told.append(await receive())

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):  # the connection goes on
            assert (await client.ask(get("/", *OPENING))).status == 403
        assert told == [disconnect(1006)] * 2

    web.run(main())


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_websocket_http_response(web: Web, length: bool) -> None:
    told: list[Message] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"www-authenticate", b"Basic"), (b"content-length", b"6")][: 1 + length]
        await receive()
        waiting = asyncio.ensure_future(receive())
        await send(start(401, *headers) | {"type": "websocket.http.response.start"})
        for data in (b"abc", b"def"):
            await send(body(data, more=data == b"abc") | {"type": "websocket.http.response.body"})
        told.append(await waiting)

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get("/", *OPENING))
        assert (answer.status, answer.body, answer.one("WWW-Authenticate")) == (401, b"abcdef", "Basic")
        assert (await client.ask(get("/", *OPENING))).status == 401, "the connection goes on"
        assert told == [disconnect(1006)] * 2

    web.run(main())


async def nothing(scope: Message, receive: Receive, send: Send) -> None:
    """Return at once."""


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def half_a_response(scope: Message, receive: Receive, send: Send) -> None:
    await send(start(401) | {"type": "websocket.http.response.start"})


async def a_subprotocol_of_its_own(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT | {"subprotocol": "mine"})


async def a_header_that_cannot_be(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT | {"headers": [(b"x", b"a\r\nb: c")]})


async def a_message_too_early(scope: Message, receive: Receive, send: Send) -> None:
    await send(text("x"))


@pytest.mark.parametrize(
    ("application", "words"),
    [
        (nothing, "has neither accepted nor refused the WebSocket '/'"),
        (raises, "Exception in the application: WebSocket '/'"),
        (half_a_response, "has neither accepted nor refused"),
        (a_subprotocol_of_its_own, "Exception in the application"),
        (a_header_that_cannot_be, "Exception in the application"),
        (a_message_too_early, "Exception in the application"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_answer_is_500(web: Web, application: Application, words: str, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(web, application)

    async def main() -> None:
        assert (await web.ask(server, get("/", *OPENING))).status == 500

    web.run(main())
    (message,) = errors(caplog)
    assert words in message


def test_a_client_that_goes_before_it_is_answered(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    begun, over = asyncio.Event(), asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        begun.set()
        told.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send(ACCEPT)
        over.set()

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/", *OPENING))
        await begun.wait()
        client.reset()
        await over.wait()
        assert told == [disconnect(1006)]

    web.run(main())
    assert errors(caplog) == []


# Ends


def test_an_application_that_returns_closes_with_1000_and_takes_no_more(web: Web) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        assert await peer.frame() == Frame(0x88, b"\x03\xe8")
        await peer.send(frame(0x81, b"unwanted") * 100 + closing(1000))
        await peer.closed()

    web.run(main())


def test_an_exception_closes_with_1011(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise ZeroDivisionError

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        assert await peer.frame() == Frame(0x88, b"\x03\xf3")

    web.run(main())
    assert errors(caplog) == ["Exception in the application: WebSocket '/'"]


@pytest.mark.parametrize(
    ("data", "code"), [(closing(None), 1005), (closing(4000), 4000), (b"", 1006), (frame(0x83), 1002)],
    ids=["no code", "4000", "no close", "violation"],
)  # fmt: skip
def test_codes_of_disconnects(web: Web, data: bytes, code: int) -> None:
    application = Echo()
    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        await peer.send(frame(0x81, b"before") + data)
        assert await peer.frame() == Frame(0x81, b"before")
        if not data:
            peer.client.reset()
        elif code == 1002:
            assert (await peer.frame()).payload[:2] == b"\x03\xea"
            peer.client.end()
        await application.over.wait()
        assert application.received[-1]["code"] == code
        assert len(application.received) == 3

    web.run(main())


def test_who_closes_receives_the_answer_to_it(web: Web) -> None:
    told: list[Any] = []
    over = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.close", "code": 4002, "reason": None})
        for event in (text("late"), {"type": "websocket.close"}):
            with pytest.raises(RuntimeError, match="expected nothing: the WebSocket was closed"):
                await send(event)
        told.extend([await receive(), await receive(), await receive()])
        over.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        assert await peer.frame() == Frame(0x88, b"\x0f\xa2")
        await peer.send(frame(0x81, b"on its way") + closing(4002))
        await over.wait()
        assert told[0]["text"] == "on its way"
        assert told[1:] == [disconnect(4002)] * 2

    web.run(main())


def test_wrong_events_are_named(web: Web) -> None:
    said: list[str] = []
    over = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        wrong: list[Message] = [ACCEPT, {"type": "websocket.send"}, {"type": "websocket.send", "text": 1},
                                {"type": "websocket.close", "code": 1006}, start()]  # fmt: skip
        await send(ACCEPT)
        for event in wrong:
            with pytest.raises((RuntimeError, ValueError)) as caught:
                await send(event)
            said.append(str(caught.value))
        over.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        await over.wait()
        assert await peer.frame() == Frame(0x88, b"\x03\xe8")
        assert "unexpected ASGI message 'websocket.accept', expected 'websocket.send' or 'websocket.close'" in said[0]
        assert "has bytes or text" in said[1]
        assert "has bytes or text" in said[2]
        assert "got 1006" in said[3]
        assert "'http.response.start'" in said[4]

    web.run(main())


def test_sending_to_a_client_that_has_gone_raises_oserror(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    over = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        try:
            while True:
                await send(text("tick"))
                await asyncio.sleep(0)
        finally:
            over.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        await peer.frame()
        peer.client.reset()
        await over.wait()

    web.run(main())
    assert errors(caplog) == [], "that it raises is how it learns of the end"


# Order and backpressure


def test_send_waits_for_a_client_that_does_not_read(web: Web) -> None:
    sent: list[int] = []
    done = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for number in range(64):
            await send({"type": "websocket.send", "bytes": bytes([number]) * 262144})
            sent.append(number)
        done.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server, receive_buffer=65536)
        (connection,) = server._connections
        while not connection.stream.unsent:
            await asyncio.sleep(0)
        assert len(sent) < 64
        assert connection.stream.unsent <= 262144 + 14
        for number in range(64):
            assert await peer.frame() == Frame(0x82, bytes([number]) * 262144)
        await done.wait()

    web.run(main())


def test_what_is_not_received_stops_the_client(web: Web) -> None:
    go, over = asyncio.Event(), asyncio.Event()
    got: list[int] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go.wait()
        while (message := await receive())["type"] != "websocket.disconnect":
            got.append(message["bytes"][0])
        over.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        sending = asyncio.ensure_future(
            peer.send(b"".join(masked_frame(0x82, bytes([n]) * 100_000) for n in range(100)))
        )
        (connection,) = server._connections
        while connection.stream._events & 1:
            await asyncio.sleep(0)
        assert connection._queued < 512 * 1024
        assert not sending.done()
        go.set()
        await sending
        await peer.send(closing(1000))
        await over.wait()
        assert got == list(range(100))

    web.run(main())


def test_a_cancelled_receive_loses_nothing(web: Web) -> None:
    got: list[Any] = []
    waits, over = asyncio.Event(), asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        first = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        first.cancel()  # while it waits
        await asyncio.wait([first])
        session: Any = receive.__self__  # type: ignore[attr-defined]
        reading = session._reading = session._connection.read_message()
        tasks: list[asyncio.Future[Message]] = []
        reading.add_done_callback(lambda _: tasks[0].cancel())  # when the message is there, and nobody has seen it
        second = asyncio.ensure_future(receive())
        tasks.append(second)
        await asyncio.sleep(0)
        waits.set()
        await asyncio.wait([second])
        assert second.cancelled()
        got.append((await receive())["text"])
        got.append((await receive())["text"])
        over.set()

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        await waits.wait()
        await peer.send(frame(0x81, b"a") + frame(0x81, b"b"))
        await over.wait()
        assert got == ["a", "b"]

    web.run(main())


# Life


def test_shutdown_says_1001_and_cancels_what_stays(virtual_web: Web) -> None:
    web = virtual_web
    told: list[Any] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/unanswered":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("cancelled")
                raise
        await send(ACCEPT)
        told.append(await receive())

    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        other = await web.connect(server)
        await other.send(get("/unanswered", *OPENING))
        while len(server.application._tasks) < 2:
            await asyncio.sleep(0)
        ending = asyncio.ensure_future(server.shutdown(10))
        assert await peer.frame() == Frame(0x88, b"\x03\xe9")
        await peer.send(closing(1001))
        await peer.closed()
        assert await ending == 1
        assert told == [disconnect(1001), "cancelled"]

    web.run(main())


def test_pings_keep_an_eye_on_the_client(virtual_web: Web) -> None:
    """By default, too: an application cannot ping."""
    web = virtual_web
    application = Echo()
    server = serve(web, application)

    async def main() -> None:
        peer = await connect(web, server)
        assert await peer.frame() == Frame(0x89, b"")
        await application.over.wait()
        assert application.received[-1] == disconnect(1006)

    web.run(main())


def test_settings(web: Web) -> None:
    application = Echo()
    settings = {"websocket_max_message_size": 10, "websocket_compression": {}}
    server = serve(web, application, settings)

    async def main() -> None:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        connection = await websocket_connect(url, compression_options={})
        assert "permessage-deflate" in connection.headers["Sec-WebSocket-Extensions"]
        await connection.write_message("x" * 10)
        assert await connection.read_message() == "x" * 10
        connection.write_message("x" * 11)
        assert await connection.read_message() is None
        assert connection.close_code == 1009
        await application.over.wait()
        assert application.received[-1]["code"] == 1009

    web.run(main())
