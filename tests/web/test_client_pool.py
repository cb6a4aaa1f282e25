"""Which connections are used again, and which are not; on every backend."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest

from pollux import IOLoop
from pollux.backend import Backend
from pollux.testing.descriptors import nothing_left_open
from pollux_http import AsyncHTTPClient, HTTPStreamClosedError
from tests.web.client import Web
from tests.web.origins import OK, Peer, client, origin


async def turns(count: int = 20) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 OK\r\nContent-Length: 4\r\n\r\n",
    ],
)
def test_not_after_such_answers(web: Web, answer: bytes) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer)
            await peer.gone()

        async with origin(serve) as server, client() as http:
            for number in (1, 2):
                response = await http.fetch(server.url)
                assert response.body in (b"ok", b"")
                assert server.connections == number
                assert len(http.pool) == 0

    web.run(main())


def test_not_if_the_caller_says_so(web: Web) -> None:
    async def main() -> None:
        async with origin(None, OK) as server, client() as http:
            await http.fetch(server.url, headers={"Connection": "close"})
            assert server.requests[0].one("Connection") == "close"
            assert len(http.pool) == 0

    web.run(main())


def test_what_comes_on_an_idle_connection_closes_it(web: Web) -> None:
    """A second response that nobody asked for must not become the answer to the next request."""

    async def main() -> None:
        sent = asyncio.Event()

        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await sent.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await peer.gone()

        async with origin(serve) as server, client() as http:
            assert (await http.fetch(server.url)).body == b"ok"
            assert len(http.pool) == 1
            sent.set()
            while len(http.pool):
                await asyncio.sleep(0)
            assert (await http.fetch(server.url)).body == b"ok"
            assert server.connections == 2

    web.run(main())


def test_closed_by_the_server_while_idle(web: Web) -> None:
    async def main() -> None:
        async with origin(None, OK) as server, client() as http:
            await http.fetch(server.url)
            while len(http.pool):
                await asyncio.sleep(0)
            await http.fetch(server.url)
            assert server.connections == 2

    web.run(main())


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
def test_retry_where_it_is_safe(web: Web, method: str) -> None:
    """The server closes the reused connection when it sees the second request."""

    async def main() -> None:
        requests = 0

        async def serve(peer: Peer) -> None:
            nonlocal requests
            first = requests == 0
            await peer.request()
            requests += 1
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if first:
                await peer.head()
                requests += 1

        body = b"x" if method in ("PUT", "POST", "PATCH") else None
        async with origin(serve) as server, client() as http:
            await http.fetch(server.url)
            future = http.fetch(server.url, method=method, body=body)
            if method in ("POST", "PATCH"):
                with pytest.raises((HTTPStreamClosedError, ConnectionError)):
                    await future
                assert (requests, server.connections) == (2, 1)
            else:
                assert (await future).code == 200
                assert (requests, server.connections) == (3, 2)

    web.run(main())


def test_retry_is_once_and_not_on_new_connections(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            if server.connections == 1:
                await peer.request()
                await peer.send(OK)
            await peer.head()

        async with origin(serve) as server, client() as http:
            await http.fetch(server.url)
            with pytest.raises(HTTPStreamClosedError, match="before the response"):
                await http.fetch(server.url)
            assert server.connections == 2
            with pytest.raises(HTTPStreamClosedError):
                await http.fetch(server.url)
            assert server.connections == 3

    web.run(main())


def test_no_retry_once_something_has_come(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await peer.send(b"HTTP/1.1 2")

        async with origin(serve) as server, client() as http:
            await http.fetch(server.url)
            with pytest.raises(HTTPStreamClosedError, match="within the response head"):
                await http.fetch(server.url)
            assert server.connections == 1

    web.run(main())


@pytest.mark.parametrize("sends", [b"", b"HTTP/1.1 400 Bad\r\n\r\n"])
def test_health_check_before_what_cannot_be_retried(web: Web, sends: bytes) -> None:
    """The server's end is in the kernel, but the loop has not polled since."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        peers: list[socket.socket] = []

        async def accept() -> None:
            peer = (await web.loop.sock_accept(listener))[0]
            peers.append(peer)
            await web.loop.sock_recv(peer, 65536)
            await web.loop.sock_sendall(peer, OK)

        async with client() as http:
            accepting = asyncio.ensure_future(accept())
            await http.fetch(url)
            await accepting
            peers[0].setblocking(True)
            peers[0].sendall(sends)
            peers[0].shutdown(socket.SHUT_WR)  # nothing is awaited between this and fetch
            accepting = asyncio.ensure_future(accept())
            response = await http.fetch(url, method="POST", body=b"x")
            assert response.body == b"ok"
            await accepting
            assert len(peers) == 2
        for each in (listener, *peers):
            each.close()

    web.run(main())


def test_idle_timeout(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        async with origin(None, *[OK] * 9) as server, client(idle_connection_timeout=10) as http:
            for _ in range(3):
                await http.fetch(server.url)
                await asyncio.sleep(9)
            assert server.connections == 1
            await asyncio.sleep(2)
            assert len(http.pool) == 0
            await http.fetch(server.url)
            assert server.connections == 2

    web.run(main())


def test_limit_of_idle_connections(web: Web) -> None:
    async def main() -> None:
        async with origin(None, *[OK] * 9) as server, client(max_idle_connections=2) as http:
            await asyncio.gather(*[http.fetch(server.url) for _ in range(5)])
            assert server.connections == 5
            assert len(http.pool) == 2
        async with origin(None, *[OK] * 9) as server, client(max_idle_connections=0) as http:
            for _ in range(2):
                await http.fetch(server.url)
            assert server.connections == 2

    web.run(main())


def test_only_the_same_way_shares_a_connection(web: Web) -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"network_interface": "127.0.0.1"},
        {"allow_ipv6": False},
    ]

    async def main() -> None:
        async with origin(None, *[OK] * 9) as server, client() as http:
            for number, options in enumerate(ways, 1):
                for _ in range(2):
                    await http.fetch(server.url, **options)
                assert server.connections == number
            # Credentials belong to a request, not to a connection.
            await http.fetch(server.url, auth_username="u", auth_password="p")
            await http.fetch(server.url)
            assert server.connections == len(ways)
            assert server.requests[-2].one("Authorization") is not None
            assert server.requests[-1].one("Authorization") is None

    web.run(main())


def test_the_loops_own_client_is_closed_with_the_loop(backend: Backend) -> None:
    """Its idle sockets too."""

    async def main() -> AsyncHTTPClient:
        async with origin(None, OK) as server:
            http = AsyncHTTPClient()
            assert AsyncHTTPClient() is http
            AsyncHTTPClient(force_instance=True).close()
            await http.fetch(server.url)
            assert (len(http.pool), http._closed) == (1, False)
        again = http
        again.close()
        http = AsyncHTTPClient()
        assert http is not again
        async with origin(None, OK) as server:
            await http.fetch(server.url)
            return http

    gc.collect()
    with nothing_left_open():
        loop = IOLoop(backend, make_current=False)
        http = loop.run_sync(main)
        loop.close()
        assert (http._closed, len(http.pool)) == (True, 0)
        with pytest.raises(RuntimeError, match="closed"):
            http.fetch("http://localhost/")
        gc.collect()
