"""Deadlines on virtual time, and the graceful stop. Slow heads, slow bodies, slow readers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pollux_http import HTTPHeaders, HTTPServerRequest
from pollux_http.connection import ServerConnection
from tests.web.client import Client, Web, get, post
from tests.web.test_connection import Held, echo

NEVER = 1e9
TIMEOUTS = ["idle_connection_timeout", "header_timeout", "body_timeout", "send_timeout"]


def only(name: str, seconds: float = 10.0) -> dict[str, Any]:
    """Return options under which one deadline is near, and the others are far away."""
    return {timeout: seconds if timeout == name else NEVER for timeout in TIMEOUTS}


@pytest.mark.parametrize("before", [b"", get(), post("/", b"x"), get() + post("/", b"x") + get()])
def test_idle(virtual_web: Web, before: bytes) -> None:
    web = virtual_web
    server = web.serve(echo, **only("idle_connection_timeout"))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(before)
        for _ in range(before.count(b"HTTP/1.1")):
            assert (await client.answer()).status == 200
        started = web.loop.time()
        assert await client.rest() == b""
        assert web.loop.time() - started >= 5  # virtual: it was not closed at once

    web.run(main())


@pytest.mark.parametrize(
    ("deadline", "data"),
    [
        ("header_timeout", get()[:-2]), ("header_timeout", get() + get()[:-2]), ("header_timeout", get()[:3]),
        ("body_timeout", post("/", b"abc")[:-1]),
        ("body_timeout", post("/", b"abc")[:-3]),
        ("body_timeout", get("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\n"),
        ("body_timeout", get("/", "Transfer-Encoding: chunked", method="POST") + b"0\r\nTrailer: x"),
    ],
)  # fmt: skip
def test_late_request(virtual_web: Web, deadline: str, data: bytes) -> None:
    web = virtual_web
    server = web.serve(echo, **only(deadline))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(data)
        for _ in range(data.count(b"\r\n\r\n") - (deadline == "body_timeout")):
            assert (await client.answer()).status == 200
        answer = await client.answer()
        assert (answer.status, answer.one("Connection")) == (408, "close")
        assert await client.rest() == b""

    web.run(main())


def test_a_head_in_drops_is_late_nevertheless(virtual_web: Web) -> None:
    """Each byte comes in time, the head as a whole does not."""
    web = virtual_web
    server = web.serve(echo, **only("header_timeout"))

    async def main() -> None:
        client = await web.connect(server)
        dripping = web.loop.create_task(drip(client.send))
        assert (await client.answer()).status == 408
        dripping.cancel()

    async def drip(send: Any) -> None:
        for byte in get("/", *[f"X{number}: y" for number in range(50)]):
            await send(bytes([byte]))
            await asyncio.sleep(1)

    web.run(main())


def test_a_body_in_drops_makes_progress(virtual_web: Web) -> None:
    web = virtual_web
    server = web.serve(echo, **only("body_timeout"))

    async def main() -> None:
        client = await web.connect(server)
        data = post("/", b"x" * 30)
        await client.send(data[:-30])
        for _ in range(30):
            await client.send(b"x")
            await asyncio.sleep(1)
        assert (await client.answer()).status == 200

    web.run(main())


@pytest.mark.parametrize("parts", [False, True])
def test_slow_reader_is_cut(virtual_web: Web, parts: bool) -> None:
    web = virtual_web
    seen: list[HTTPServerRequest] = []

    def answer(request: HTTPServerRequest) -> None:
        seen.append(request)
        if parts:
            request.connection.start(200, None, HTTPHeaders())
            request.connection.write(b"x" * 10_000_000)
        else:
            request.connection.respond(body=b"x" * 10_000_000)

    server = web.serve(answer, **only("send_timeout"))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get())
        while not seen:
            await asyncio.sleep(0)
        stream = seen[0].connection.stream
        while not stream.closed():
            await asyncio.sleep(1)
        assert isinstance(stream.error, TimeoutError)

    web.run(main())


def test_the_application_may_take_its_time(virtual_web: Web) -> None:
    web = virtual_web
    held = Held()
    server = web.serve(held, **dict.fromkeys(TIMEOUTS, 1.0))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        request = await held.next()
        await asyncio.sleep(100)
        request.connection.start(200, None, HTTPHeaders())
        request.connection.write(b"x" * 10_000_000)  # after a long wait: no reason to cut it at once
        await asyncio.sleep(0)
        request.connection.finish()
        assert len((await client.answer()).body) == 10_000_000

    web.run(main())


def test_a_client_that_never_ends_its_side_is_left(virtual_web: Web) -> None:
    web = virtual_web
    server = web.serve(echo)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(b"rubbish\r\n\r\n")
        assert (await client.answer()).status == 400
        while " 0 connections" not in repr(server):
            await asyncio.sleep(1)

    web.run(main())


# Graceful stop


def test_shutdown_closes_idle_connections_at_once(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        address = server.sockets[0].getsockname()
        clients = [await web.connect(server) for _ in range(4)]
        assert (await clients[1].ask(get())).status == 200
        assert (await clients[2].ask(post("/", b"x"))).status == 200
        assert (await clients[3].ask(get() + get())).status == 200
        assert (await clients[3].answer()).status == 200
        while " 4 connections" not in repr(server):
            await asyncio.sleep(0)
        assert server.busy == 0
        assert await server.shutdown(None) == 0
        for client in clients:
            assert await client.rest() == b""
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    web.run(main())


def test_shutdown_answers_who_has_come_before_anybody_looked(web: Web) -> None:
    """One whose connection only the kernel knows, one whose request nobody has read, and a used one likewise."""
    server = web.serve(echo)

    async def stop() -> int:
        """From the arrival to the stop the loop does not turn."""
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        web.clients.append(Client(sock))
        for client in web.clients:
            client.sock.send(get())
        return await server.shutdown(None)

    async def main() -> None:
        clients = [await web.connect(server) for _ in range(2)]
        assert (await clients[1].ask(get())).status == 200
        while " 2 connections" not in repr(server):
            await asyncio.sleep(0)
        stopping = web.loop.create_task(stop())
        while len(web.clients) < 3:
            await asyncio.sleep(0)
        for client in web.clients:
            assert (await client.answer()).one("Connection") == "close"
            assert await client.rest() == b""
            client.close()
        assert await stopping == 0

    web.run(main())


def test_shutdown_gives_idle_clients_time_for_one_more_request(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        clients = [await web.connect(server) for _ in range(3)]
        assert (await clients[1].ask(get())).status == 200
        while " 3 connections" not in repr(server):
            await asyncio.sleep(0)
        stopping = web.loop.create_task(server.shutdown(None, drain=3600))
        await asyncio.sleep(0)
        for client in clients[:2]:
            assert (await client.ask(get())).one("Connection") == "close"
            assert await client.rest() == b""
            client.close()
        assert not stopping.done()
        clients[2].close()
        assert await stopping == 0

    web.run(main())


@pytest.mark.parametrize("data", [get(), post("/", b"x"), get() + get("/behind")])
def test_shutdown_lets_a_running_request_finish(web: Web, data: bytes) -> None:
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(data)
        request = await held.next()
        stopping = web.loop.create_task(server.shutdown(None))
        await asyncio.sleep(0)
        assert not stopping.done()
        request.connection.respond(body=b"done")
        answer = await client.answer()
        assert (answer.body, answer.one("Connection")) == (b"done", "close")
        assert await client.rest() == b""
        assert await stopping == 0

    web.run(main())


def test_shutdown_lets_a_response_in_parts_finish(web: Web) -> None:
    """Its head has promised to keep the connection; it is closed after the response all the same."""
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        for data in (get(), post("/", b"x")):
            client = await web.connect(server)
            await client.send(data)
            request = await held.next()
            request.connection.start(200, None, HTTPHeaders())
            if data == get():
                continue
            stopping = web.loop.create_task(server.shutdown(None))
            await asyncio.sleep(0)
            for each in server._connections:
                assert isinstance(each, ServerConnection)
                each.write(b"abc")
                each.finish()
            for each_client in web.clients:
                assert (await each_client.answer()).body == b"abc"
                assert await each_client.rest() == b""
            assert await stopping == 0

    web.run(main())


def test_shutdown_lets_the_client_read_what_is_unsent(web: Web) -> None:
    server = web.serve(lambda request: request.connection.respond(body=b"x" * 10_000_000))

    async def main() -> None:
        for data in (get(), post("/", b"x")):
            await (await web.connect(server, receive_buffer=4096)).send(data)
        while server.busy < 2:
            await asyncio.sleep(0)
        stopping = web.loop.create_task(server.shutdown(None))
        for client in web.clients:
            assert len((await client.answer()).body) == 10_000_000
            assert await client.rest() == b""
        assert await stopping == 0

    web.run(main())


def test_shutdown_waits_for_a_request_on_its_way(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(post("/", b"abc")[:-1])
        while server.busy < 1:
            await asyncio.sleep(0)
        stopping = web.loop.create_task(server.shutdown(None))
        await asyncio.sleep(0)
        answer = await client.ask(b"c")
        assert (answer.body, answer.one("Connection")) == (b"POST / abc", "close")
        assert await stopping == 0

    web.run(main())


def test_shutdown_cuts_off_what_is_not_done_in_time(virtual_web: Web) -> None:
    web = virtual_web
    held = Held()
    server = web.serve(held)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        gone = asyncio.Event()
        (await held.next()).connection.on_close = gone.set
        assert await server.shutdown(30) == 1
        assert await client.rest() == b""
        await gone.wait()

    web.run(main())
