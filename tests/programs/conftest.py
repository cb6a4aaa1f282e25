"""Every backend in turn, a runner that lets nothing go unseen, certificates, and a Redis server."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import trustme

import pollux
from pollux.testing.descriptors import nothing_left_open
from tests.reactor.loops import BACKENDS, usable
from tests.services import program

T = TypeVar("T")
PATIENCE = 30.0  # seconds: real programs on a busy machine


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that is usable here."""
    return usable(request.param).name


class Run(Protocol):
    """Runs a coroutine on a new loop."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


@pytest.fixture
def factory(backend: str) -> Callable[[], pollux.IOLoop]:
    """What one hands to a program."""
    return partial(pollux.new_event_loop, backend)


@pytest.fixture
def run(factory: Callable[[], pollux.IOLoop]) -> Iterator[Run]:
    """A runner. Nothing may reach the loop's exception handler, and no descriptor may stay open."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        complaints: list[dict[str, Any]] = []

        async def watched() -> T:
            loop = asyncio.get_running_loop()
            assert type(loop) is pollux.IOLoop
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE):
                before = loop.statistics().fds
                result = await main
                while loop.statistics().fds > before:  # the other ends of connections that were closed
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)  # a descriptor is closed in the iteration after it was let go
                return result

        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(watched())
        gc.collect()
        assert complaints == []
        return result

    with nothing_left_open():
        yield run
        gc.collect()


@dataclass(frozen=True)
class Tls:
    """Contexts of two sides that know each other, and of a client that knows neither."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    stranger: ssl.SSLContext


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Both sides must show a certificate. The server is `localhost`."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.issue_cert("client@example.org").configure_cert(client)
    for side in (server, client):
        authority.configure_trust(side)
        side.verify_mode = ssl.CERT_REQUIRED
    return Tls(server, client, ssl.create_default_context())


@dataclass(frozen=True)
class RedisUrls:
    """The two ways to one server."""

    tcp: str
    unix: str


@pytest.fixture(scope="session")
def redis_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisUrls]:
    """A Redis server that keeps nothing. Its port stays bound here, so that nobody else gets it; as this socket does
    not listen, SO_REUSEADDR lets the server share it."""
    command, folder = program("redis-server", "redis-server"), tmp_path_factory.mktemp("redis")
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port, path = held.getsockname()[1], folder / "s"
        options = {"port": port, "bind": "127.0.0.1", "unixsocket": path, "dir": folder, "save": "", "databases": 64}
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        with subprocess.Popen([command, *arguments], stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                said: list[str] = []
                for line in server.stdout:
                    said.append(line)
                    if sum("accept connections" in each for each in said) == 2:  # a line for each way
                        break
                else:
                    pytest.fail(f"redis-server ended before it was ready:\n{''.join(said)}")
                yield RedisUrls(f"redis://127.0.0.1:{port}", f"unix://{path}")
            finally:
                server.terminate()
                server.communicate()


def documented(heading: str) -> str:
    """Return the section of docs/programs.md under `heading`."""
    page = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()
    (section,) = [text for text in page.split("\n## ") if text.startswith(f"{heading}\n")]
    return section
