"""`examples/07_db.py` on SQLite and MySQL, and `examples/07a_txmysql.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database.conftest import mysql_url
from tests.examples.programs import output
from tests.mysql.server import Server, running
from tests.reactor.loops import BACKENDS

SAID = [
    "IOLoop takes 20 minutes",
    "- IOStream",
    "- IOLoop",
    "- gen",
    "refused: IntegrityError",
    "60 minutes in all, the longest is gen",
    "* IOLoop",
    "* IOStream",
    "* gen",
]


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sqlite(backend: str) -> None:
    assert output(backend, "07_db.py") == SAID


def test_sqlite_in_a_file(tmp_path: Path) -> None:
    assert output("poll", "07_db.py", str(tmp_path / "talks.db")) == SAID
    assert (tmp_path / "talks.db").exists()


def test_mysql(mariadb: Server) -> None:
    assert output("poll", "07_db.py", mysql_url(mariadb, "test")) == SAID


@pytest.mark.parametrize("backend", BACKENDS)
def test_txmysql(backend: str, mariadb: Server) -> None:
    account = [f"{mariadb.host}:{mariadb.port}", mariadb.user, mariadb.password, mariadb.database]
    *lines, error = output(backend, "07a_txmysql.py", *account)
    assert lines == [
        "account 1 of Ada: 100",
        "account 2 of Grace: 100",
        "60 transferred",
        "rolled back: account 1 has not got 60",
        "{'name': 'Ada', 'money': 40}",
        "{'name': 'Grace', 'money': 160}",
    ]
    assert error.startswith("error 1054: Unknown column 'nothing'")
