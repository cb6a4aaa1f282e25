"""aiohttp's server and client on our loop, beyond what docs/programs.md shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

import pollux
from tests.programs.conftest import Run, Tls

MEBIBYTE = 1 << 20


async def upper(request: web.Request) -> web.StreamResponse:
    """Answer with the body in capitals, as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk.upper())
    await response.write_eof()
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


def application() -> web.Application:
    app = web.Application(client_max_size=16 * MEBIBYTE)
    app.add_routes([web.post("/upper", upper), web.get("/echo", echo), web.get("/never", never)])
    return app


@asynccontextmanager
async def served(tls: Tls | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a running server."""
    runner = web.AppRunner(application(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None).start()
    scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
    connector = aiohttp.TCPConnector(ssl=tls.client if tls else True, force_close=tls is not None)
    async with aiohttp.ClientSession(f"{scheme}://{host}:{runner.addresses[0][1]}", connector=connector) as session:
        yield session
    await runner.cleanup()


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 65_536


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_streams_both_ways_at_once(run: Run, tls: Tls, encrypted: bool) -> None:
    """Twenty bodies of a mebibyte, chunked, with the answers' bodies on their way meanwhile."""

    async def main() -> None:
        async with served(tls if encrypted else None) as session:

            async def exchange() -> bytes:
                async with session.post("/upper", data=pieces(16)) as response:
                    return await response.read()

            assert await asyncio.gather(*(exchange() for _ in range(20))) == [b"X" * MEBIBYTE] * 20

    run(main())


def test_websocket(run: Run) -> None:
    async def main() -> None:
        async with served() as session:
            async with session.ws_connect("/echo") as socket:
                for text in ("", "hello", "x" * MEBIBYTE):
                    await socket.send_str(text)
                    assert await socket.receive_str() == text

    run(main())


def test_timeout_and_cancellation_reach_the_server(run: Run) -> None:
    """The client gives up, its connection closes, and the server cancels the handler."""

    async def main() -> None:
        async with served() as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/never", timeout=aiohttp.ClientTimeout(total=0.05))
            while any("never" in repr(task.get_coro()) for task in asyncio.all_tasks()):
                await asyncio.sleep(0.001)

    run(main())


def test_client_that_does_not_know_the_authority_is_refused(run: Run, tls: Tls) -> None:
    async def main() -> None:
        async with served(tls) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get("/never", ssl=tls.stranger)

    run(main())


def test_run_app(factory: Callable[[], pollux.IOLoop]) -> None:
    """aiohttp's own way to run a program takes the loop."""
    seen: list[object] = []

    async def started(app: web.Application) -> None:
        loop = asyncio.get_running_loop()
        seen.append(loop)

        def leave() -> None:
            raise web.GracefulExit

        loop.call_later(0.01, leave)

    app = application()
    app.on_startup.append(started)
    loop = factory()
    web.run_app(app, host="127.0.0.1", port=0, loop=loop, print=None)
    assert seen == [loop]
    assert loop.is_closed()
