"""What is MySQL's alone: values, accounts, and connections that are lost."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from pollux.errors import MissingExtraError
from pollux.testing.descriptors import refusing_address
from pollux_database import Connection, DataError, IntegrityError, OperationalError, ProgrammingError
from tests.database.conftest import mysql_url
from tests.mysql.server import Server


@pytest.fixture
def db(mariadb: Server) -> Iterator[Connection]:
    with Connection(mysql_url(mariadb, "test")) as db:
        yield db


@pytest.fixture
def lonely(mariadb: Server) -> Iterator[Server]:
    """The server, to be killed: it runs again afterwards."""
    yield mariadb
    mariadb.start()


@pytest.mark.parametrize(
    ("value", "as_type", "returned"),
    [
        (None, "CHAR", None),
        (2**63 - 1, "SIGNED", 2**63 - 1),
        (Decimal("12345.678901234567890123456789"), "DECIMAL(35, 24)", Decimal("12345.678901234567890123456789")),
        (datetime.datetime(2020, 2, 29, 23, 59, 59, 999999), "DATETIME(6)", None),
        (datetime.date(2020, 2, 29), "DATE", None),
        (datetime.timedelta(hours=-800), "TIME", None),
        (b"\0\xff'\\", "BINARY", None),
    ],
)
def test_values(db: Connection, value: Any, as_type: str, returned: Any) -> None:
    (row,) = db.query(f"SELECT CAST(%s AS {as_type}) AS value", value)
    assert row.value == (value if returned is None else returned)


def test_session(db: Connection, mariadb: Server) -> None:
    session = "SELECT @@time_zone AS zone, @@sql_mode AS mode, @@character_set_client AS text"
    row = db.get(session)
    assert row
    assert (row.zone, row.text) == ("+00:00", "utf8mb4")
    assert "TRADITIONAL" in row["mode"]
    with Connection(mysql_url(mariadb, "test"), time_zone="+2:00", sql_mode="ANSI", charset="latin1") as other:
        row = other.get(session)
        assert row
        assert (row.zone, row.text) == ("+02:00", "latin1")
        with pytest.raises(DataError, match="can't encode"):
            other.query("SELECT %s", "日本")


def test_data_that_does_not_fit_is_an_error(db: Connection) -> None:
    db.execute("CREATE TEMPORARY TABLE short (a CHAR(2), b TINYINT)")
    for value in ("('abc', 1)", "('a', 1000)"):
        with pytest.raises(DataError):
            db.execute(f"INSERT INTO short VALUES {value}")


def test_by_tornados_arguments(mariadb: Server) -> None:
    for host in (f"{mariadb.host}:{mariadb.port}", mariadb.socket):
        with Connection(host, "test", mariadb.user, mariadb.password) as db:
            assert db.get("SELECT DATABASE() AS name") == {"name": "test"}


def test_wrong_password(mariadb: Server) -> None:
    with pytest.raises(OperationalError, match=r"cannot connect to mysql://tester@.*: Access denied") as caught:
        Connection(f"{mariadb.host}:{mariadb.port}", "test", mariadb.user, "guessed")
    assert caught.value.code == 1045
    assert "guessed" not in str(caught.value)


def test_unknown_database(mariadb: Server) -> None:
    with pytest.raises(OperationalError, match="Unknown database 'nowhere'") as caught:
        Connection(mysql_url(mariadb, "nowhere"))
    assert caught.value.code == 1049


def test_nobody_listens() -> None:
    with refusing_address() as (host, port), pytest.raises(OperationalError, match="cannot connect to mysql://me@"):
        Connection(f"mysql://me:secret@{host}:{port}/test")


def test_killed_while_idle_is_noticed_before_the_next_statement(lonely: Server) -> None:
    with Connection(mysql_url(lonely, "test"), max_idle_time=0) as db:
        assert db.get("SELECT 1 AS one") == {"one": 1}
        lonely.kill()
        with pytest.raises(OperationalError, match="cannot connect"):
            db.query("SELECT 1")
        lonely.start()
        assert db.get("SELECT 1 AS one") == {"one": 1}
        lonely.kill()
        lonely.start()
        assert db.get("SELECT 1 AS one") == {"one": 1}


def test_lost_connection_is_an_error_once(lonely: Server) -> None:
    """Without a question before: the statement may have run, so it is not repeated."""
    with Connection(mysql_url(lonely, "test")) as db:
        lonely.kill()
        lonely.start()
        with pytest.raises(OperationalError, match=r"gone away|Lost connection"):
            db.query("SELECT 1")
        assert db.get("SELECT 1 AS one") == {"one": 1}


def test_lost_in_a_transaction_is_told_before_another_statement_runs(lonely: Server) -> None:
    with Connection(mysql_url(lonely, "test"), max_idle_time=0) as db:
        db.execute("CREATE OR REPLACE TABLE lost (a INT)")
        db.execute("BEGIN")
        db.execute("INSERT INTO lost VALUES (1)")
        lonely.kill()
        lonely.start()
        with pytest.raises(OperationalError, match="lost in a transaction, which is undone"):
            db.execute("INSERT INTO lost VALUES (2)")
        assert db.query("SELECT * FROM lost") == []


def test_lost_in_executemany_is_told_as_such(lonely: Server) -> None:
    with Connection(mysql_url(lonely, "test")) as db:
        db.execute("CREATE OR REPLACE TABLE many (a INT PRIMARY KEY)")
        with pytest.raises(IntegrityError):
            db.executemany("INSERT INTO many VALUES (%s)", [(1,), (1,)])
        lonely.kill()
        lonely.start()
        with pytest.raises(OperationalError):
            db.executemany("INSERT INTO many VALUES (%s)", [(1,), (2,)])
        assert db.query("SELECT * FROM many") == []


def test_killed_by_the_server_while_rows_are_read(db: Connection, mariadb: Server) -> None:
    rows = db.iter("SELECT seq, REPEAT('x', 10000) AS text FROM seq_1_to_5000")
    assert next(rows).seq == 1
    with Connection(mysql_url(mariadb, "test")) as other:
        (mine,) = other.query("SELECT id FROM information_schema.processlist WHERE info LIKE '%seq_1_to_5000'")[:1]
        other.execute(f"KILL {mine.id}")
    with pytest.raises(OperationalError):
        list(rows)
    assert list(rows) == []
    assert db.get("SELECT 1 AS one") == {"one": 1}


def test_64_mib(db: Connection) -> None:
    size = 64 * 1024 * 1024
    row = db.get("SELECT REPEAT('x', %s) AS text", size)
    assert row
    assert len(row.text) == size
    assert db.get("SELECT LENGTH(%s) AS size", row.text) == {"size": size}


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pollux\[mysql\]'"):
        Connection("mysql://localhost/test")


def test_parameters_that_do_not_match_say_what_is_expected(db: Connection) -> None:
    with pytest.raises(ProgrammingError, match="expected a %s for each"):
        db.query("SELECT %s", 1, 2)
