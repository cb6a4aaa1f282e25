"""What is SQLite's alone."""

from __future__ import annotations

import datetime
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pollux_database import Connection, DataError, InterfaceError, OperationalError, ProgrammingError
from pollux_database.sqlite import as_sqlite


@pytest.mark.parametrize(
    ("mysql", "sqlite"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT %s, %s", "SELECT ?, ?"),
        ("SELECT %(a)s, %(b_2)s", "SELECT :a, :b_2"),
        ("SELECT ?, '%s'", "SELECT ?, '%s'"),
        ("SELECT ?, '100%%'", "SELECT ?, '100%%'"),
        ("SELECT %s, '100%%', 7 %% 4", "SELECT ?, '100%', 7 % 4"),
        ("SELECT %s, 'it''s %s'", "SELECT ?, 'it''s %s'"),
        ('SELECT "%s", `%s`, [%s], %s', 'SELECT "%s", `%s`, [%s], ?'),
        ("SELECT %s -- %s\n, %s /* %s\n */", "SELECT ? -- %s\n, ? /* %s\n */"),
        ("SELECT strftime('%Y', %s)", "SELECT strftime('%Y', ?)"),
    ],
)
def test_placeholders(mysql: str, sqlite: str) -> None:
    assert as_sqlite(mysql) == sqlite


def test_its_own_placeholders() -> None:
    with Connection() as db:
        assert db.get("SELECT ? AS a, ? AS b", 1, 2) == {"a": 1, "b": 2}
        assert db.get("SELECT :a AS a, strftime('%Y', '2020-01-02') AS b", a=1) == {"a": 1, "b": "2020"}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (-(2**63), -(2**63)),
        (0.1, 0.1),
        ("", ""),
        (b"\0\xff", b"\0\xff"),
        (bytearray(b"abc"), b"abc"),
        (True, 1),
        (datetime.datetime(2020, 2, 29, 23, 59, 59, 999999), "2020-02-29 23:59:59.999999"),
        (datetime.date(1, 1, 1), "0001-01-01"),
        (datetime.time(12), "12:00:00"),
        (Decimal("1234567890.12345678901234567890"), "1234567890.12345678901234567890"),
    ],
)
def test_values(value: Any, stored: Any) -> None:
    with Connection() as db:
        (row,) = db.query("SELECT %s AS value, length(%s) AS size", value, value)
        assert row.value == stored
        assert type(row.value) is type(stored)


@pytest.mark.parametrize(("value", "kind"), [(2**63, DataError), (object(), ProgrammingError), ([1], ProgrammingError)])
def test_values_it_cannot_store(value: Any, kind: type[Exception]) -> None:
    with Connection() as db:
        with pytest.raises(kind):
            db.query("SELECT %s", value)
        assert db.get("SELECT 1 AS one") == {"one": 1}


def test_database_in_memory_ends_with_its_connection() -> None:
    for name in (":memory:", "sqlite://", "sqlite:///:memory:"):
        with Connection(name) as db:
            db.execute("CREATE TABLE t (a)")
            db.reconnect()
            with pytest.raises(OperationalError, match="no such table"):
                db.query("SELECT * FROM t")


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.db", "sqlite:///a.db", f"sqlite:///{tmp_path}/a.db", tmp_path / "a.db", "sqlite:///%61.db"):
        with Connection(name) as db:
            db.execute("CREATE TABLE IF NOT EXISTS t (a)")
            db.execute("INSERT INTO t VALUES (1)")
    with Connection("a.db") as db:
        assert db.get("SELECT COUNT(*) AS many FROM t") == {"many": 5}
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


def test_locked(tmp_path: Path) -> None:
    with Connection(tmp_path / "a.db") as one, Connection(tmp_path / "a.db", timeout=0) as two:
        one.execute("CREATE TABLE t (a)")
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            two.executemany("INSERT INTO t VALUES (?)", [(1,)])
        one.execute("COMMIT")
        assert two.executemany_rowcount("INSERT INTO t VALUES (?)", [(1,)]) == 1


def test_another_thread() -> None:
    with Connection() as db:
        caught: list[Exception] = []

        def use() -> None:
            try:
                db.query("SELECT 1")
            except (ProgrammingError, InterfaceError) as error:
                caught.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert "thread" in str(caught[0])
        assert db.get("SELECT 1 AS one") == {"one": 1}
