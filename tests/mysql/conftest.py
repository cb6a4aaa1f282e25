"""A MariaDB server, and a runner on every backend that lets nothing go unseen."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

import pollux
from pollux.testing.descriptors import nothing_left_open
from pollux_txmysql import ConnectionPool, MySQLConnection
from tests.mysql.server import PATIENCE, Server, running
from tests.reactor.loops import BACKENDS, usable

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that the tests of a process share."""
    yield from running(tmp_path_factory)


@pytest.fixture
def server(mariadb: Server) -> Iterator[Server]:
    """The server; it may be killed."""
    mariadb.start()
    yield mariadb
    mariadb.start()


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that is usable here."""
    return usable(request.param).name


def _runner(backend: str | None) -> Iterator[Run]:
    def run(main: Coroutine[Any, Any, T]) -> T:
        complaints: list[dict[str, Any]] = []

        async def watched() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE):
                return await main

        result = pollux.run(watched(), backend=backend)
        gc.collect()
        assert complaints == []
        return result

    with nothing_left_open():
        yield run
        gc.collect()


@pytest.fixture
def run(backend: str) -> Iterator[Run]:
    """Run a coroutine on each backend in turn. No descriptor may stay open, and no complaint reach the loop."""
    yield from _runner(backend)


@pytest.fixture
def run_once() -> Iterator[Run]:
    """The same on the backend of one's choice: for what is slow and has nothing to do with pollers."""
    yield from _runner(None)


@pytest.fixture
def table(mariadb: Server) -> str:
    """The name of a table that no other test has."""
    return f"t{next(_numbers)}"


def connection(server: Server, **options: Any) -> MySQLConnection:
    """A connection to the server."""
    return MySQLConnection(server.host, server.user, server.password, server.database, port=server.port, **options)


def pool(server: Server, **options: Any) -> ConnectionPool:
    """A pool of connections to the server."""
    return ConnectionPool(server.host, server.user, server.password, server.database, port=server.port, **options)


async def until_running(watcher: MySQLConnection, words: str, count: int = 1) -> None:
    """Wait until `count` statements with `words` in them are running on the server."""
    marked = "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info LIKE %s"
    while await watcher.fetchone(marked, [f"%{words}%"]) != count:
        await asyncio.sleep(0)
