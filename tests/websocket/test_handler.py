"""`WebSocketHandler` on every backend: messages in order, ends of every kind, backpressure, deadlines, shutdown."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import pytest

from pollux import gen
from pollux_web import Application
from pollux_websocket import WebSocketClosedError, WebSocketHandler
from tests.web.client import Web
from tests.websocket.wire import Frame, closing, connect, frame


class Recorder(WebSocketHandler):
    """Keeps what happens to it."""

    log: list[Any]

    def initialize(self, log: list[Any] | None = None) -> None:
        self.log = [] if log is None else log
        self.closed = asyncio.get_running_loop().create_future()
        self.log.append(self)

    def on_ping(self, data: bytes) -> None:
        self.log.append(("ping", data))

    def on_pong(self, data: bytes) -> None:
        self.log.append(("pong", data))

    def on_close(self) -> None:
        self.log.append(("close", self.close_code, self.close_reason))
        self.closed.set_result(None)


class Echo(Recorder):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, isinstance(message, bytes))


def serve(web: Web, handler: type[WebSocketHandler], log: list[Any], **settings: Any) -> Any:
    return web.serve(Application([(r"/(.*)", handler, {"log": log})], **settings))


def handler_of(log: list[Any]) -> Any:
    return next(each for each in log if isinstance(each, WebSocketHandler))


async def ended(log: list[Any]) -> None:
    await handler_of(log).closed


class Positional(Echo):
    def open(self, name: str) -> None:
        self.log.append(("open", name))


def test_from_open_to_close(web: Web) -> None:
    log: list[Any] = []

    async def main() -> None:
        server = serve(web, Positional, log)
        peer = await connect(web, server, path="/na%20me")
        await peer.send(frame(0x81, "é".encode()) + frame(0x82, b"\xff") + frame(0x89, b"p") + frame(0x8A, b"q"))
        assert [await peer.frame() for _ in range(3)] == [
            Frame(0x81, "é".encode()), Frame(0x82, b"\xff"), Frame(0x8A, b"p")
        ]  # fmt: skip
        await peer.send(closing(3001, "enough"))
        assert await peer.frame() == Frame(0x88, b"\x0b\xb9")
        await peer.closed()
        await ended(log)
        assert log[1:] == [("open", "na me"), ("ping", b"p"), ("pong", b"q"), ("close", 3001, "enough")]
        handler = log[0]
        assert handler.ws_connection is None
        for call in (lambda: handler.write_message("x"), handler.ping):
            with pytest.raises(WebSocketClosedError):
                call()
        handler.close()
        with pytest.raises(RuntimeError):
            handler.write("x")

    web.run(main())


def test_a_message_of_any_size_in_any_pieces(web: Web) -> None:
    async def main() -> None:
        peer = await connect(web, serve(web, Echo, []))
        for size in (0, 125, 126, 65535, 65536, 1_000_000):
            payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            await peer.send(frame(0x82, payload))
            assert await peer.frame() == Frame(0x82, payload)
        for byte in frame(0x81, b"slow"):
            await peer.send(bytes([byte]))
        assert await peer.frame() == Frame(0x81, b"slow")

    web.run(main())


@pytest.mark.parametrize("dialect", ["async", "gen", "future", "iterate"])
def test_messages_are_handled_in_order(web: Web, dialect: str) -> None:
    """Each when the one before it is done; and a Close after all of them."""
    log: list[Any] = []
    gates: dict[str, asyncio.Future[None]] = {}

    class Handler(Recorder):
        async def work(self, message: Any) -> None:
            gate = gates[message] = asyncio.get_running_loop().create_future()
            await gate
            await self.write_message(message)

    class Coroutine(Handler):
        async def on_message(self, message: Any) -> None:
            await self.work(message)

    class Generator(Handler):
        @gen.coroutine
        def on_message(self, message: Any) -> Any:
            yield self.work(message)

    class Future(Handler):
        def on_message(self, message: Any) -> Any:
            return asyncio.ensure_future(self.work(message))

    class Iterating(Handler):
        async def open(self, path: str) -> None:
            async for message in self:
                await self.work(message)
            self.log.append("over")

    kinds = {"async": Coroutine, "gen": Generator, "future": Future, "iterate": Iterating}

    async def main() -> None:
        peer = await connect(web, serve(web, kinds[dialect], log))
        await peer.send(frame(0x81, b"a") + frame(0x81, b"b") + frame(0x89, b"p") + frame(0x81, b"c") + closing(1000))
        assert await peer.frame() == Frame(0x8A, b"p")  # a Ping does not wait
        for name in "abc":
            while name not in gates:
                await asyncio.sleep(0)
            assert list(gates)[-1] == name
            gates[name].set_result(None)
            assert await peer.frame() == Frame(0x81, name.encode())
        assert await peer.frame() == Frame(0x88, b"\x03\xe8")
        await peer.closed()
        await ended(log)
        if dialect == "iterate":
            while log[-1] != "over":
                await asyncio.sleep(0)
        assert ("close", 1000, None) in log

    web.run(main())


def test_messages_wait_for_open(web: Web) -> None:
    log: list[Any] = []

    class Slow(Echo):
        async def open(self, path: str) -> None:
            self.gate = asyncio.get_running_loop().create_future()
            await self.gate
            self.write_message("open")

    async def main() -> None:
        peer = await connect(web, serve(web, Slow, log))
        await peer.send(frame(0x81, b"a") + frame(0x89, b""))
        assert await peer.frame() == Frame(0x8A, b"")
        handler_of(log).gate.set_result(None)
        assert [await peer.frame(), await peer.frame()] == [Frame(0x81, b"open"), Frame(0x81, b"a")]

    web.run(main())


@pytest.mark.parametrize("messages", [b"", frame(0x81, b"never taken")])
def test_an_open_that_goes_on_and_on_learns_of_the_end(virtual_web: Web, messages: bytes) -> None:
    """A Close does not wait for it; with messages before it, only up to the deadline."""
    log: list[Any] = []
    web = virtual_web

    class Ticking(Recorder):
        async def open(self, path: str) -> None:
            try:
                while True:
                    await self.write_message("tick")
                    await asyncio.sleep(1)
            except WebSocketClosedError:
                self.log.append("told")
                raise

    async def main() -> None:
        peer = await connect(web, serve(web, Ticking, log))
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert (await peer.frame()).payload == b"tick"
        await peer.send(messages + closing(1000))
        while (got := await peer.frame()).first != 0x88:
            assert got.payload == b"tick"
        assert loop.time() - start < (8 if messages else 1)
        await ended(log)
        while "told" not in log:
            await asyncio.sleep(1)

    web.run(main())


def test_reading_stops_while_a_coroutine_is_busy(web: Web) -> None:
    log: list[Any] = []
    total = 40

    class Busy(Recorder):
        gate: Any = None

        async def on_message(self, message: Any) -> None:
            if self.gate is None:
                self.gate = asyncio.get_running_loop().create_future()
            await self.gate
            self.log.append(len(message))

    async def main() -> None:
        peer = await connect(web, serve(web, Busy, log))
        sending = asyncio.ensure_future(peer.send(frame(0x82, bytes(1_000_000)) * total))
        while handler_of(log).gate is None:
            await asyncio.sleep(0)
        connection = handler_of(log)._connection
        while not connection._paused:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not sending.done()
        assert connection._queued < 3_000_000
        handler_of(log).gate.set_result(None)
        await sending
        while log.count(1_000_000) < total:
            await asyncio.sleep(0)

    web.run(main())


@pytest.mark.parametrize(
    ("data", "code"),
    [(frame(0x83), 1002), (frame(0x81, b"\xff"), 1007), (frame(0x82, b"x" * 101), 1009), (b"\x81\x01a", 1002)],
)
def test_failures(web: Web, data: bytes, code: int) -> None:
    """The Close arrives although more follows that nobody reads."""
    log: list[Any] = []

    async def main() -> None:
        peer = await connect(web, serve(web, Echo, log, websocket_max_message_size=100))
        await peer.send(frame(0x81, b"before") + data + b"rubbish" * 10_000)
        assert (await peer.frame()).payload == b"before"
        got = await peer.frame()
        assert (got.first, int.from_bytes(got.payload[:2], "big")) == (0x88, code)
        await peer.closed()
        peer.client.close()
        await ended(log)
        assert log[-1][:2] == ("close", code)

    web.run(main())


class Faulty(Recorder):
    where: ClassVar[str] = ""

    def open(self, path: str) -> None:
        if path == "open":
            raise ZeroDivisionError("in open")

    def on_message(self, message: Any) -> Any:
        if message == "sync":
            raise ZeroDivisionError("in on_message")
        return self.later()

    async def later(self) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("later")

    def on_ping(self, data: bytes) -> None:
        raise ZeroDivisionError("in on_ping")

    def on_close(self) -> None:
        super().on_close()
        raise ZeroDivisionError("in on_close")


@pytest.mark.parametrize("where", ["open", "sync", "later", "ping", "two"])
def test_exceptions_are_logged_and_close_with_1011(web: Web, where: str, caplog: pytest.LogCaptureFixture) -> None:
    log: list[Any] = []
    data = {"open": b"", "ping": frame(0x89), "two": frame(0x81, b"x") + frame(0x81, b"sync")}

    async def main() -> None:
        peer = await connect(web, serve(web, Faulty, log), path="/" + where)
        await peer.send(data.get(where, frame(0x81, where.encode())))
        got = await peer.frame()
        if got.first == 0x8A:
            got = await peer.frame()
        assert got == Frame(0x88, b"\x03\xf3")
        await peer.send(closing(1011))
        await peer.closed()
        await ended(log)
        assert log[-1] == ("close", 1011, None)

    with caplog.at_level(logging.ERROR):
        web.run(main())
    texts = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert len([text for text in texts if text != "in on_close"]) >= 1
    assert texts[-1] == "in on_close"


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_a_client_that_goes_away(web: Web, how: str) -> None:
    log: list[Any] = []

    async def main() -> None:
        peer = await connect(web, serve(web, Echo, log))
        await peer.send(frame(0x81, b"a"))
        assert (await peer.frame()).payload == b"a"
        peer.client.end() if how == "eof" else peer.client.reset()
        await ended(log)
        assert log[-1] == ("close", None, None)

    web.run(main())


def test_what_came_before_a_client_went_away_is_handled(web: Web) -> None:
    log: list[Any] = []

    class Slow(Recorder):
        async def on_message(self, message: Any) -> None:
            await asyncio.sleep(0)
            self.log.append(message)

    async def main() -> None:
        peer = await connect(web, serve(web, Slow, log))
        await peer.send(frame(0x81, b"a") + frame(0x81, b"b") + frame(0x81, b"c"))
        peer.client.end()
        await ended(log)
        assert log[1:] == ["a", "b", "c", ("close", None, None)]

    web.run(main())


def test_close_by_the_server(web: Web) -> None:
    log: list[Any] = []

    class Closing(Recorder):
        def on_message(self, message: Any) -> None:
            self.log.append(message)
            if message == "close":
                self.close(4000, "é" * 100)
                self.close(4001)
                for wrong in (1005, 999, 70000):
                    self.close(wrong)  # a second time nothing happens
                with pytest.raises(WebSocketClosedError):
                    self.write_message("too late")

    async def main() -> None:
        peer = await connect(web, serve(web, Closing, log))
        await peer.send(frame(0x81, b"close") + frame(0x81, b"on its way"))
        got = await peer.frame()
        assert got == Frame(0x88, b"\x0f\xa0" + "é".encode() * 61)
        await peer.send(closing(4000))
        await peer.closed()
        await ended(log)
        assert log[1:] == ["close", "on its way", ("close", 4000, None)]

    web.run(main())


def test_wrong_arguments_are_named(web: Web) -> None:
    log: list[Any] = []

    class Wrong(Recorder):
        def on_message(self, message: Any) -> None:
            with pytest.raises(ValueError, match="1006"):
                self.close(1006)
            with pytest.raises(ValueError, match="125"):
                self.ping(b"x" * 126)
            with pytest.raises(TypeError, match="5"):
                self.write_message(5)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="binary=True"):
                self.write_message(b"\xff")
            self.ping("é")
            self.write_message({"a": "é"})
            self.write_message(b"bytes")
            self.write_message("text", binary=True)
            self.write_message(bytearray(b"array"), binary=True)  # type: ignore[arg-type]
            self.set_nodelay(False)

    async def main() -> None:
        peer = await connect(web, serve(web, Wrong, log))
        await peer.send(frame(0x81, b"go"))
        got = [await peer.frame() for _ in range(5)]
        assert [each.first for each in got] == [0x89, 0x81, 0x81, 0x82, 0x82]
        assert [each.payload for each in got[2:]] == [b"bytes", b"text", b"array"]
        assert got[1].payload in (b'{"a": "\\u00e9"}', '{"a": "é"}'.encode())

    web.run(main())


def test_a_message_that_nobody_takes(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        peer = await connect(web, serve(web, Recorder, []))
        await peer.send(frame(0x81, b"x"))
        assert await peer.frame() == Frame(0x88, b"\x03\xf3")

    web.run(main())
    assert "no on_message()" in caplog.text


class Flood(Recorder):
    def on_message(self, message: Any) -> Any:
        return self.flood()

    async def flood(self) -> None:
        try:
            while True:
                done = self.write_message(b"x" * 100_000, binary=True)
                if not done.done():
                    self.log.append("waits")
                    await done
        except WebSocketClosedError as error:
            self.log.append(error)
            raise


def test_await_write_message_is_backpressure(web: Web) -> None:
    log: list[Any] = []

    async def main() -> None:
        peer = await connect(web, serve(web, Flood, log), receive_buffer=4096)
        await peer.send(frame(0x81, b"go"))
        while "waits" not in log:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert log.count("waits") == 1
        while log.count("waits") < 3:
            assert len((await peer.frame()).payload) == 100_000
        peer.client.close()
        await ended(log)
        while not any(isinstance(each, WebSocketClosedError) for each in log):
            await asyncio.sleep(0)

    web.run(main())


def test_who_stops_waiting_stops_nobody_else(web: Web) -> None:
    """Whoever awaits `write_message` has a Future of his own; those that nobody keeps are one."""
    log: list[Any] = []

    async def main() -> None:
        peer = await connect(web, serve(web, Echo, log), receive_buffer=65536)
        handler = handler_of(log)
        while handler.write_message(b"x" * 262144, binary=True).done():
            pass
        tasks = [asyncio.ensure_future(handler.write_message("x")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        for _ in range(100):
            handler.write_message("x")
        assert len(handler._connection._drained) <= 6
        while (await peer.frame()).first != 0x81:
            pass
        for _ in range(102):
            await peer.frame()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [False, True, False]

    web.run(main())


def test_a_slow_reader_is_cut_off(web: Web) -> None:
    log: list[Any] = []

    class Careless(Recorder):
        def on_message(self, message: Any) -> None:
            sent = 0
            try:
                while True:
                    self.last = self.write_message(b"x" * 100_000, binary=True)
                    sent += 100_000
            except WebSocketClosedError:
                self.log.append(sent)

    async def main() -> None:
        peer = await connect(web, serve(web, Careless, log, websocket_max_unsent=1_000_000), receive_buffer=4096)
        await peer.send(frame(0x81, b"go"))
        await ended(log)
        assert 1_000_000 < log[1] < 20_000_000
        with pytest.raises(WebSocketClosedError):
            await log[0].last
        assert log[-1] == ("close", None, None)

    web.run(main())


def test_a_large_message_may_be_above_the_cap(web: Web) -> None:
    class Large(Recorder):
        def on_message(self, message: Any) -> None:
            self.write_message(b"x" * 3_000_000, binary=True)

    async def main() -> None:
        peer = await connect(web, serve(web, Large, [], websocket_max_unsent=1000))
        await peer.send(frame(0x81, b"go"))
        assert len((await peer.frame()).payload) == 3_000_000

    web.run(main())


def test_pings_and_their_deadline(virtual_web: Web) -> None:
    log: list[Any] = []
    web = virtual_web

    async def main() -> None:
        server = serve(web, Echo, log, websocket_ping_interval=10, websocket_ping_timeout=3)
        peer = await connect(web, server)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(1, 4):
            assert await peer.frame() == Frame(0x89, b"")
            assert loop.time() - start >= 10 * number
            await peer.send(frame(0x8A) + frame(0x81, b"on"))  # at once: Nagle's algorithm waits in real time
            assert await peer.frame() == Frame(0x81, b"on")
        assert await peer.frame() == Frame(0x89, b"")
        asked = loop.time()
        got = await peer.frame()
        assert got.first == 0x88
        assert got.payload[:2] == b"\x03\xf3"
        assert 3 < loop.time() - asked < 6
        await peer.closed()
        await ended(log)
        assert log[1:] == [("pong", b"")] * 3 + [("close", None, None)]

    web.run(main())


@pytest.mark.parametrize("who", ["server", "client"])
def test_a_peer_that_does_not_end_is_cut_off(virtual_web: Web, who: str) -> None:
    """It gets a Close and says nothing; or fails, gets a Close, and goes on for ever."""
    log: list[Any] = []
    web = virtual_web

    class Closing(Recorder):
        def on_message(self, message: Any) -> None:
            self.close()

    async def main() -> None:
        peer = await connect(web, serve(web, Closing, log, websocket_close_timeout=4))
        loop = asyncio.get_running_loop()
        start = loop.time()
        await peer.send(frame(0x81, b"x") if who == "server" else frame(0x83))
        assert (await peer.frame()).first == 0x88
        await ended(log)
        assert 4 < loop.time() - start < 8

    web.run(main())


def test_a_stuck_coroutine_does_not_keep_a_close_unanswered(virtual_web: Web) -> None:
    log: list[Any] = []
    web = virtual_web

    class Stuck(Recorder):
        async def on_message(self, message: Any) -> None:
            self.gate = asyncio.get_running_loop().create_future()
            await self.gate

    async def main() -> None:
        peer = await connect(web, serve(web, Stuck, log))
        await peer.send(frame(0x81, b"x") + closing(1000))
        assert await peer.frame() == Frame(0x88, b"\x03\xe8")
        await peer.closed()
        while log[-1] != ("close", 1000, None):
            await asyncio.sleep(1)
        handler_of(log).gate.set_result(None)

    web.run(main())


def test_shutdown_says_1001_and_waits_to_a_deadline(virtual_web: Web) -> None:
    log: list[Any] = []
    web = virtual_web

    async def main() -> None:
        server = serve(web, Echo, log, websocket_close_timeout=60)
        good, bad = await connect(web, server), await connect(web, server)
        assert server.busy == 2
        loop = asyncio.get_running_loop()
        start = loop.time()
        stopping = asyncio.ensure_future(server.shutdown(7))
        for peer in (good, bad):
            assert await peer.frame() == Frame(0x88, b"\x03\xe9")
        await good.send(closing(1001))
        await good.closed()
        assert await stopping == 1
        assert 7 <= loop.time() - start < 8
        await bad.closed()
        for handler in [each for each in log if isinstance(each, Recorder)]:
            await handler.closed

    web.run(main())


def test_a_server_takes_no_websocket_for_an_idle_connection(web: Web) -> None:
    async def main() -> None:
        server = web.serve(Application([("/(.*)", Echo)]), max_connections=1)
        peer = await connect(web, server)
        assert (await web.ask(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 503
        await peer.send(frame(0x81, b"x"))
        assert (await peer.frame()).payload == b"x"

    web.run(main())


def test_read_message_by_hand(web: Web) -> None:
    log: list[Any] = []

    class Asking(Recorder):
        async def on_message(self, message: Any) -> None:
            waiting = self.read_message()
            with pytest.raises(RuntimeError, match="already"):
                self.read_message()
            self.write_message("waiting")
            self.log.append((message, await waiting))

    async def main() -> None:
        peer = await connect(web, serve(web, Asking, log))
        for name in (b"a", b"c"):
            await peer.send(frame(0x81, name))
            assert (await peer.frame()).payload == b"waiting"
            if name == b"a":
                await peer.send(frame(0x81, b"b"))
        peer.client.end()
        await ended(log)
        while len(log) < 4:
            await asyncio.sleep(0)
        assert log[1] == ("a", "b")
        assert ("c", None) in log

    web.run(main())


def test_before_it_is_open_nothing_can_be_sent(web: Web) -> None:
    class Early(WebSocketHandler):
        def prepare(self) -> None:
            for call in (lambda: self.write_message("x"), self.ping, self.read_message):
                with pytest.raises(WebSocketClosedError):
                    call()
            self.close()

        def open(self, path: str) -> None:
            self.write_message("open")
            self.close(1000)

    async def main() -> None:
        peer = await connect(web, web.serve(Application([("/(.*)", Early)])))
        assert [await peer.frame(), await peer.frame()] == [Frame(0x81, b"open"), Frame(0x88, b"\x03\xe8")]
        await peer.send(closing(1000))
        await peer.closed()

    web.run(main())


def test_an_open_connection_shares_what_its_clients_say_alike_and_no_secrets(web: Web) -> None:
    log: list[Any] = []

    async def main() -> None:
        server = serve(web, Echo, log)
        fields = ("User-Agent: a browser", "Cookie: a=1", "Authorization: Basic x")
        peers = [await connect(web, server, *fields) for _ in range(2)]
        one, two = (handler.request for handler in log)
        shared = {name for (name, _) in set(map(id_of, one.fields)) & set(map(id_of, two.fields))}
        assert shared == {b"host", b"user-agent", b"upgrade", b"connection", b"sec-websocket-version"}
        for request, peer in zip((one, two), peers, strict=True):
            assert request.headers["Cookie"] == "a=1"
            assert (request.cookies["a"].value, request.method, request.remote_ip) == ("1", "GET", "127.0.0.1")
            assert request.connection.address == peer.client.sock.getsockname()
            assert not request.connection.stream.closed()

    def id_of(pair: Any) -> tuple[bytes, int]:
        return pair[0], id(pair)

    web.run(main())
