"""10,000 idle keep-alive connections and 64 busy ones, held by one server on the pollers that can."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from pollux import IOLoop, registry
from pollux.testing.descriptors import files_allowed
from tests.web.client import get

IDLE, BUSY, ROUNDS = 10_000, 64, 10
SPARE = 200  # descriptors that a process needs beside them

SERVER = """
    import sys, resource
    from pollux import IOLoop
    from pollux_web import Application, RequestHandler

    class Hello(RequestHandler):
        def get(self):
            self.write(self.request.path)

    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    IOLoop.configure(sys.argv[1])
    server = Application([(".*", Hello)]).listen(0, "127.0.0.1")
    print(server.sockets[0].getsockname()[1], flush=True)
    IOLoop.current().add_handler(0, lambda fd, events: IOLoop.current().stop(), IOLoop.READ)  # stdin's end
    IOLoop.current().start()
"""


@pytest.fixture(params=["epoll", "poll"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    backends = {backend.name: backend for backend in registry.backends()}
    if reason := registry.unusable(backends[request.param]):
        pytest.skip(f"{request.param}: {reason}")
    needed = IDLE + BUSY + SPARE
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files; the hard limit (ulimit -Hn) is {hard}")
    command = [sys.executable, "-c", textwrap.dedent(SERVER), request.param, str(needed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
            assert server.poll() is None
            assert server.stdin is not None
            server.stdin.close()
            assert server.wait(30) == 0
        finally:
            server.kill()


@pytest.mark.timeout(180)
def test_many_idle_and_some_busy(port: int) -> None:
    # The clients need no poller that can do this: they block, one at a time, but for the busy ones.
    with files_allowed(IDLE + BUSY + SPARE):
        idle = [connect(port, number) for number in range(IDLE)]
        try:
            ask(idle, "/first")
            loop = IOLoop("auto", make_current=False)
            try:
                loop.run_sync(lambda: all_busy(port), timeout=120)
            finally:
                loop.close()
            ask(idle, "/last")
        finally:
            for client in idle:
                client.close()


def connect(port: int, number: int) -> socket.socket:
    """Connect from one of several addresses: each has some 28,000 ports only."""
    client = socket.create_connection(("127.0.0.1", port), 60, source_address=(f"127.0.0.{2 + number // 5000}", 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(clients: list[socket.socket], path: str) -> None:
    """Ask on each; many at once, as poll(2) looks at all 10,000 for each event list."""
    for start in range(0, len(clients), 500):
        some = clients[start : start + 500]
        for client in some:
            client.sendall(get(path))
        for client in some:
            assert answered(client.recv(4096), path)


def answered(data: bytes, path: str) -> bool:
    return data.startswith(b"HTTP/1.1 200 OK\r\n") and data.endswith(b"\r\n\r\n" + path.encode())


async def all_busy(port: int) -> None:
    """Keep 64 connections busy at the same time."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        with connect(port, number) as client:
            client.setblocking(False)
            for turn in range(ROUNDS):
                path = f"/{number}/{turn}"
                await loop.sock_sendall(client, get(path))
                assert answered(await loop.sock_recv(client, 4096), path)

    tasks: list[Any] = [one(number) for number in range(BUSY)]
    await asyncio.gather(*tasks)
