"""Requests behind one another: answered in order, in few writes, and never held in numbers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable

import pytest

from pollux_http import HTTPServerRequest
from pollux_http.connection import ServerConnection
from pollux_web import Application, RequestHandler
from tests.web.client import Client, Web, get, post

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Echo(RequestHandler):
    def get(self, number: str) -> None:
        self.write(f"sync {number}")

    post = get


class Hop(RequestHandler):
    """Suspends `hops` times, so that later requests could overtake it."""

    async def get(self, number: str, hops: str = "3") -> None:
        for _ in range(int(hops)):
            await asyncio.sleep(0)
        self.write(f"async {number}")

    post = get


class Eager(RequestHandler):
    """A coroutine that never suspends."""

    async def get(self, number: str) -> None:
        self.write(f"eager {number}")


class Parts(RequestHandler):
    async def get(self, number: str) -> None:
        self.write("parts ")
        self.flush()
        await asyncio.sleep(0)
        self.write(number)
        self.flush()


class WhoAmI(RequestHandler):
    async def get(self, name: str) -> None:
        before = user.get()
        user.set(name)
        await asyncio.sleep(0)
        self.write(f"{before} {user.get()}")


def application() -> Application:
    return Application(
        [(r"/sync/(\d+)", Echo), (r"/async/(\d+)", Hop), (r"/eager/(\d+)", Eager), (r"/parts/(\d+)", Parts),
         (r"/who/(\w+)", WhoAmI)]
    )  # fmt: skip


async def bodies(client: Client, count: int) -> list[str]:
    return [(await client.answer()).body.decode() for _ in range(count)]


@pytest.mark.parametrize(
    "kinds",
    [["sync"], ["async"], ["eager"], ["parts"], ["async", "sync"], ["sync", "async", "eager", "parts"]],
    ids=" ".join,
)
def test_answers_come_in_order(web: Web, kinds: list[str]) -> None:
    server = web.serve(application())
    asked = [f"{kinds[number % len(kinds)]} {number}" for number in range(120)]
    data = b"".join(get("/" + each.replace(" ", "/")) for each in asked)

    async def main() -> None:
        for step in (len(data), 1000, 61):
            client = await web.connect(server)
            sending = web.loop.create_task(send(client, data, step))
            assert await bodies(client, len(asked)) == asked
            await sending
            client.close()

    async def send(client: Client, data: bytes, step: int) -> None:
        for start in range(0, len(data), step):
            await client.send(data[start : start + step])
            await asyncio.sleep(0)

    web.run(main())


def test_synchronous_answers_leave_in_one_write(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[int] = []

    def answer(request: HTTPServerRequest) -> None:
        stream = request.connection.stream
        if not sends:
            original = stream.send

            class Counted(type(stream)):  # type: ignore[misc]
                __slots__ = ()

                def send(self, data: bytes) -> bool:
                    sends.append(len(data))
                    return bool(original(data))

            stream.__class__ = Counted
            sends.append(0)
        request.connection.respond(body=request.uri.encode())

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(b"".join(get(f"/{number}") for number in range(50)))
        assert await bodies(client, 50) == [f"/{number}" for number in range(50)]
        assert len(sends) == 2, sends  # the marker of the first, and one write

    web.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_ten_thousand_requests_stay_bounded(web: Web, kind: str) -> None:
    """The client reads nothing until all is sent: it has to wait for room, and the server must not hold it all."""
    count = 10_000
    most = 0
    connections: set[ServerConnection] = set()
    app = application()

    def look(request: HTTPServerRequest) -> None:
        nonlocal most
        connection = request.connection
        connections.add(connection)
        parser = connection._parser
        most = max(most, len(parser.requests) if parser is not None else 0)
        app(request)
        assert connection.stream.unsent < 1_000_000

    server = web.serve(look)
    data = b"".join(get(f"/{kind}/{number}") for number in range(count))

    async def main() -> None:
        client = await web.connect(server)
        sending = web.loop.create_task(client.send(data))
        assert await bodies(client, count) == [f"{kind} {number}" for number in range(count)]
        await sending

    web.run(main())
    assert most <= 65536 // len(get("/sync/0")) + 1
    assert len(connections) == 1


def test_large_answers_wait_for_the_client(web: Web) -> None:
    """Those of suspended handlers too: one answer at a time is unsent."""
    size = 1 << 20
    served = 0

    class Large(RequestHandler):
        async def get(self) -> None:
            nonlocal served
            served += 1
            assert self.request.connection.stream.unsent == 0
            await asyncio.sleep(0)
            self.write(b"x" * size)

    server = web.serve(Application([("/", Large)]))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get() * 40)
        for _ in range(500):
            await asyncio.sleep(0)
        assert 0 < served < 40
        for _ in range(40):
            assert len((await client.answer()).body) == size

    web.run(main())


def test_a_suspended_handler_holds_back_what_follows(web: Web) -> None:
    running: list[str] = []
    go_on = asyncio.Event()

    class One(RequestHandler):
        async def get(self) -> None:
            running.append(self.request.uri)
            assert len(running) == 1
            await go_on.wait()
            running.clear()

        post = get

    server = web.serve(Application([("/.*", One)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/0"))
        for number in range(1, 20):
            await client.send(post(f"/{number}", b"x" * number) if number % 2 else get(f"/{number}"))
            await asyncio.sleep(0)
        while not running:
            await asyncio.sleep(0)
        go_on.set()
        for _ in range(20):
            assert (await client.answer()).status == 200

    web.run(main())


def test_nothing_is_answered_behind_the_last(web: Web) -> None:
    seen: list[str] = []

    def answer(request: HTTPServerRequest) -> None:
        seen.append(request.uri)
        request.connection.respond(headers=None if request.uri != "/last" else close)

    from pollux_http import HTTPHeaders

    close = HTTPHeaders({"Connection": "close"})
    server = web.serve(answer)

    async def main() -> None:
        for last in (get("/last"), get("/last", "Connection: close"), get("/last", version="1.0")):
            seen.clear()
            client = await web.connect(server)
            await client.send(get("/1") + last + get("/never"))
            assert (await client.answer()).status == 200
            assert (await client.answer()).one("Connection") == "close"
            assert await client.rest() == b""
            assert seen == ["/1", "/last"]

    web.run(main())


def test_the_last_answer_arrives_although_the_client_still_sends(web: Web) -> None:
    """RFC 9112 9.6: closing with unread data resets the connection, and the reset overtakes the answer."""
    server = web.serve(application())

    async def main() -> None:
        for _ in range(20):
            client = await web.connect(server)
            await client.send(post("/async/1", b"x", "Connection: close"))
            try:
                for _ in range(50):
                    await client.send(get("/never") * 2000)
            except ConnectionError:
                pytest.fail("the connection was reset before the answer was read")
            assert (await client.answer()).body == b"async 1"
            client.end()
            assert await client.rest() == b""
            client.close()

    web.run(main())


def test_context_is_let_go_when_the_queue_is_empty(web: Web) -> None:
    connections: list[ServerConnection] = []
    app = application()

    def look(request: HTTPServerRequest) -> None:
        connections.append(request.connection)
        app(request)

    server = web.serve(look)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/async/1") + get("/async/2"))
        assert await bodies(client, 2) == ["async 1", "async 2"]
        while connections[0]._parser is not None:
            await asyncio.sleep(0)
        assert connections[0]._context is None

    web.run(main())


def test_whole_answers_before_one_that_is_cut_arrive(web: Web) -> None:
    class Cut(RequestHandler):
        def get(self) -> None:
            self.write("part")
            self.flush()
            raise ZeroDivisionError

    server = web.serve(Application([(r"/sync/(\d+)", Echo), ("/cut", Cut)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/sync/1") + get("/cut") + get("/sync/2"))
        assert (await client.answer()).body == b"sync 1"
        assert not (await client.rest()).endswith(b"0\r\n\r\n")

    web.run(main())


def test_context_does_not_travel_to_other_connections(web: Web) -> None:
    server = web.serve(application())

    async def main() -> None:
        clients = [await web.connect(server) for _ in range(8)]

        async def ask(index: int) -> None:
            assert (await clients[index].ask(get(f"/who/u{index}"))).body == f"nobody u{index}".encode()

        asking: list[Awaitable[None]] = [ask(index) for index in range(8)]
        await asyncio.gather(*asking)

    web.run(main())


def test_context_does_not_travel_along_a_pipeline(web: Web) -> None:
    """A proxy may put requests of several users on one connection."""
    server = web.serve(application())

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/who/ann") + get("/who/bob") + get("/who/eve"))
        assert await bodies(client, 3) == ["nobody ann", "nobody bob", "nobody eve"]

    web.run(main())
