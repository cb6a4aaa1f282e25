"""The websockets package, client and server, on our loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from tests.programs.conftest import Run, Tls


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "fail":
            await connection.close(4000, "as asked")
            return
        await connection.send(message)


@asynccontextmanager
async def served(tls: Tls | None = None) -> AsyncIterator[str]:
    async with serve(echo, "127.0.0.1", 0, ssl=tls.server if tls else None, max_size=2**22) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"wss://localhost:{port}" if tls else f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_many_clients(run: Run, tls: Tls, encrypted: bool) -> None:
    """Twenty at once, each with short and long messages (compressed), text and binary."""

    async def client(url: str) -> None:
        async with connect(url, ssl=tls.client if encrypted else None, max_size=2**22) as connection:
            for message in ("", "hello", "x" * 2**20, b"\0\xff" * 1_000):
                await connection.send(message)
                assert await connection.recv() == message

    async def main() -> None:
        async with served(tls if encrypted else None) as url:
            await asyncio.gather(*(client(url) for _ in range(20)))

    run(main())


def test_ping_and_close_codes(run: Run) -> None:
    async def main() -> None:
        async with served() as url, connect(url) as connection:
            assert await (await connection.ping()) >= 0
            await connection.send("fail")
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as asked")

    run(main())


def test_server_that_goes_away(run: Run) -> None:
    """Clients learn the code 1001; the server waits for them."""

    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        port = next(iter(server.sockets)).getsockname()[1]
        clients: list[ClientConnection] = [await connect(f"ws://127.0.0.1:{port}") for _ in range(5)]
        server.close()
        await server.wait_closed()
        for each in clients:
            with pytest.raises(ConnectionClosed):
                await each.recv()
            assert each.close_code == 1001
            await each.wait_closed()

    run(main())


def test_silent_peer_is_found_by_its_missing_pong(run: Run) -> None:
    """The other end accepts the handshake and then reads nothing more."""

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(
                f"ws://127.0.0.1:{port}", ping_interval=0.01, ping_timeout=0.05, close_timeout=0.05
            ) as connection:
                (peer,) = server.connections
                peer.transport.pause_reading()
                with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
                    await connection.recv()
                peer.transport.abort()

    run(main())
