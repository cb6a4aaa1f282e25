"""Every backend in turn, one server for all tests of a process, and runners that let nothing go unseen."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

import pollux
from pollux.testing.descriptors import nothing_left_open
from pollux_mongo import Client
from tests.mongo.servers import MongoServer, Network
from tests.reactor.loops import BACKENDS, usable

T = TypeVar("T")
PATIENCE = 40.0  # seconds: a real server on a busy machine
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The driver (4.20, on asyncio's loop too) leaves it to the garbage collector to close a socket whose connecting or
    handshake was cancelled. We make no sockets ourselves, and transports still complain.
    """
    words = "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(words))


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that is usable here."""
    return usable(request.param).name


class Run(Protocol):
    """Runs a coroutine on a new loop."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


@pytest.fixture
def run(backend: str) -> Iterator[Run]:
    """A runner. Nothing may reach the loop's exception handler, and no descriptor may stay open."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        complaints: list[dict[str, Any]] = []

        async def watched() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE):
                return await main

        with asyncio.Runner(loop_factory=partial(pollux.new_event_loop, backend)) as runner:
            result = runner.run(watched())
        gc.collect()
        assert complaints == []
        return result

    with nothing_left_open():
        yield run
        gc.collect()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that is a replica set of its own. No test may leave it changed, save for its database."""
    with MongoServer(tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture
def failing(server: MongoServer) -> Iterator[MongoServer]:
    """The server, for a test that makes it fail."""
    yield server
    server.stop_failing()


@pytest.fixture
def cursors_freed(server: MongoServer) -> Iterator[None]:
    """After the test the server keeps no more cursors than before. (Where a network broke, it does.)"""
    before = server.open_cursors()
    yield
    assert server.open_cursors() <= before


@pytest.fixture
def network(server: MongoServer) -> Iterator[Network]:
    """A way to the server that can fail."""
    with Network(server.port) as network:
        yield network


@pytest.fixture
def dbname(server: MongoServer) -> Iterator[str]:
    """A database of the test's own."""
    name = f"test{next(_numbers)}"
    yield name
    server.command(name, dropDatabase=1)


@pytest.fixture
def make(server: MongoServer, dbname: str) -> Callable[..., Client]:
    """What makes clients of the test's database. They fail soon, if they fail."""

    def make(pool_id: str | None = "test", **options: Any) -> Client:
        where = {} if {"uri", "seed", "host"} & options.keys() else {"host": "127.0.0.1", "port": server.port}
        return Client(pool_id, **{"dbname": dbname, "serverSelectionTimeoutMS": 15_000, **where, **options})

    return make
