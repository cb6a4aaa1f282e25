"""A database of each kind, empty: SQLite in a file, MariaDB of one's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pollux_database import Connection
from tests.mysql.server import Server, running

_numbers = itertools.count()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that the tests of a process share."""
    yield from running(tmp_path_factory)


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    server: Server = request.getfixturevalue("mariadb")
    name = f"database_{next(_numbers)}"
    with Connection(mysql_url(server, "")) as db:
        db.execute(f"CREATE DATABASE {name}")
    return mysql_url(server, name)


@pytest.fixture
def db(url: str) -> Iterator[Connection]:
    """A connection to it, with a table of notes."""
    with Connection(url) as db:
        key = "INTEGER PRIMARY KEY" if url.startswith("sqlite") else "INTEGER PRIMARY KEY AUTO_INCREMENT"
        db.execute(f"CREATE TABLE note (id {key}, text VARCHAR(200) NOT NULL, owner VARCHAR(20) UNIQUE)")
        yield db


def mysql_url(server: Server, database: str) -> str:
    """The URL of a database of the server."""
    return f"mysql://{server.user}:{quote(server.password, safe='')}@{server.host}:{server.port}/{database}"
