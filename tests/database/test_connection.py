"""`Connection`, on SQLite and on MariaDB: what both must do alike."""

from __future__ import annotations

from typing import Any

import pytest

from pollux_database import (
    Connection,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    Row,
)


def insert(db: Connection, *texts: str) -> None:
    db.executemany("INSERT INTO note (text) VALUES (%s)", [(text,) for text in texts])


def texts(db: Connection) -> list[str]:
    return [row.text for row in db.query("SELECT text FROM note ORDER BY id")]


def test_rows_by_attribute_and_by_key(db: Connection) -> None:
    db.execute("INSERT INTO note (text, owner) VALUES (%s, %s)", "hello", None)
    (row,) = db.query("SELECT * FROM note")
    assert isinstance(row, Row)
    assert (row.id, row["text"], row.owner) == (1, "hello", None)
    assert row == {"id": 1, "text": "hello", "owner": None}
    row.text = "changed"
    assert row["text"] == "changed"
    with pytest.raises(AttributeError, match="no column 'title' in this row, which has id, text, owner"):
        _ = row.title


def test_get_is_a_row_or_none_and_never_one_of_several(db: Connection) -> None:
    insert(db, "one", "two")
    assert db.get("SELECT text FROM note WHERE id = %s", 2) == {"text": "two"}
    assert db.get("SELECT text FROM note WHERE id = %s", 3) is None
    with pytest.raises(ProgrammingError, match="expected one row or none, got 2"):
        db.get("SELECT text FROM note")


@pytest.mark.parametrize("form", ["positional", "named"])
def test_parameters_are_escaped(db: Connection, form: str) -> None:
    for number, text in enumerate(
        ["Robert'); DROP TABLE note;--", '"', "\\", "%s %(x)s %%", "\n\x1a", "né 日本 🎉"], 1
    ):
        if form == "positional":
            db.execute("INSERT INTO note (text) VALUES (%s)", text)
            row = db.get("SELECT id, text FROM note WHERE text = %s AND text NOT LIKE '%%nothing'", text)
        else:
            db.execute("INSERT INTO note (text) VALUES (%(text)s)", text=text)
            row = db.get("SELECT id, text FROM note WHERE text = %(text)s AND id >= %(low)s", text=text, low=1)
        assert row == {"id": number, "text": text}


def test_percent_signs_without_parameters_are_what_they_are(db: Connection) -> None:
    insert(db, "100%", "%s")
    assert db.query("SELECT id FROM note WHERE text LIKE '%s%'") == [{"id": 2}]
    assert db.query("SELECT 7 % 4 AS rest") == [{"rest": 3}]
    assert db.query("SELECT 7 %% %s AS rest", 4) == [{"rest": 3}]


def test_keys_and_counts(db: Connection) -> None:
    assert db.execute("INSERT INTO note (text) VALUES ('one')") == 1
    assert db.execute_lastrowid("INSERT INTO note (text) VALUES ('two')") == 2
    assert db.execute_rowcount("UPDATE note SET text = 'changed'") == 2
    assert db.execute_rowcount("DELETE FROM note WHERE id = %s", 7) == 0
    assert db.execute_rowcount("DELETE FROM note") == 2
    assert db.query("DELETE FROM note") == []


def test_executemany_is_all_or_nothing(db: Connection) -> None:
    insert(db, "before")
    several: list[Any] = [("one", "a"), ("two", "b"), ("three", "a")]
    with pytest.raises(IntegrityError):
        db.executemany("INSERT INTO note (text, owner) VALUES (%s, %s)", several)
    assert texts(db) == ["before"]
    assert db.executemany_rowcount("INSERT INTO note (text, owner) VALUES (%s, %s)", several[:2]) == 2
    assert db.executemany("INSERT INTO note (text) VALUES (%(text)s)", [{"text": "named"}]) > 1
    assert db.executemany("INSERT INTO note (text) VALUES (%s)", []) == 0
    assert texts(db) == ["before", "one", "two", "named"]


def test_executemany_in_a_transaction_is_a_part_of_it(db: Connection) -> None:
    db.execute("BEGIN")
    insert(db, "one")
    db.execute("ROLLBACK")
    assert texts(db) == []


def test_each_statement_is_a_transaction_until_begin(db: Connection, url: str) -> None:
    with Connection(url) as other:
        insert(db, "one")
        assert texts(other) == ["one"]
        db.execute("BEGIN")
        insert(db, "two")
        assert texts(other) == ["one"]
        db.execute("COMMIT")
        assert texts(other) == ["one", "two"]


def test_close_undoes_what_is_not_committed(db: Connection, url: str) -> None:
    with Connection(url) as other:
        other.execute("BEGIN")
        insert(other, "one")
    assert texts(db) == []


def test_iter_reads_to_its_end(db: Connection) -> None:
    insert(db, *[str(number) for number in range(1000)])
    rows = db.iter("SELECT id, text FROM note WHERE id > %s ORDER BY id", 10)
    assert next(rows) == {"id": 11, "text": "10"}
    assert [row.text for row in rows] == [str(number) for number in range(11, 1000)]
    assert list(rows) == []
    assert db.query("SELECT COUNT(*) AS many FROM note") == [{"many": 1000}]


def test_unfinished_iter_keeps_the_connection_until_it_is_closed_or_dropped(db: Connection) -> None:
    insert(db, *[str(number) for number in range(600)])
    rows = db.iter("SELECT * FROM note")
    next(rows)
    with pytest.raises(ProgrammingError, match="not all read"):
        db.execute("DELETE FROM note")
    rows.close()
    rows.close()
    assert list(rows) == []
    for row in db.iter("SELECT * FROM note ORDER BY id"):
        assert row.id == 1
        break
    with db.iter("SELECT * FROM note") as rows:
        next(rows)
    assert db.execute_rowcount("DELETE FROM note") == 600


def test_closing_the_connection_ends_an_iter(db: Connection) -> None:
    insert(db, *[str(number) for number in range(600)])
    rows = db.iter("SELECT id FROM note ORDER BY id")
    next(rows)
    db.reconnect()
    assert len(list(rows)) < 599  # those it had fetched already
    assert db.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        (DatabaseError, "SELEC 1"),
        (DatabaseError, "SELECT * FROM nothing"),
        (IntegrityError, "INSERT INTO note (text) VALUES (NULL)"),
        (IntegrityError, "INSERT INTO note (id, text) VALUES (1, 'again')"),
    ],
)
def test_errors_are_ours_and_carry_the_statement(db: Connection, kind: type[DatabaseError], statement: str) -> None:
    insert(db, "one")
    with pytest.raises(kind) as caught:
        db.execute(statement)
    assert caught.value.statement == statement
    assert isinstance(caught.value.code, int)
    assert caught.value.__cause__ is not None
    assert f"[statement: {statement}]" in str(caught.value)
    with pytest.raises(kind):
        list(db.iter(statement))
    assert texts(db) == ["one"]


def test_errors_are_short_and_tell_no_parameters(db: Connection) -> None:
    with pytest.raises(DatabaseError) as caught:
        db.execute(f"SELECT nothing, {'x' * 1000} FROM note WHERE text = %s", "my secret")
    assert len(str(caught.value)) < 1500
    assert str(caught.value).endswith("x...]")
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize("parameters", [(), (1,), (1, 2, 3)])
def test_number_of_parameters_does_not_match(db: Connection, parameters: tuple[int, ...]) -> None:
    with pytest.raises(DatabaseError):
        db.query("SELECT %s, %s", *parameters)
    with pytest.raises(ProgrammingError):
        db.executemany("INSERT INTO note (id, text) VALUES (%s, %s)", [(1, 2), parameters])
    assert texts(db) == []


def test_closed(db: Connection) -> None:
    db.close()
    db.close()
    assert repr(db).endswith(" closed>")
    for use in (db.query, db.execute, db.iter):
        with pytest.raises(InterfaceError, match=r"closed: reconnect\(\)"):
            use("SELECT 1")
    db.reconnect()
    assert db.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["postgres://localhost/test"], "cannot tell which database 'postgres://localhost/test' is: expected a path"),
        (["mysql://me:secret@localhost:port/test"], "Port could not be cast"),
        (["mysql://me:secret@localhost/test?charset=latin1"], "keyword arguments, such as charset='latin1'"),
        (["mysql://localhost/one/two"], "expected a path"),
        (["sqlite://test.db"], "four slashes"),
        (["sqlite:///test.db?mode=ro"], "keyword arguments"),
        (["localhost:many", "test"], "the port in 'localhost:many' is not a number"),
        (["mysql://localhost/test", "test"], "put it into the URL"),
        (["localhost", None, "me"], "user and password are for MySQL, with a database"),
    ],
)
def test_arguments_that_name_no_database(arguments: list[str], words: str) -> None:
    with pytest.raises(ProgrammingError) as caught:
        Connection(*arguments)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_file_that_cannot_be_opened(tmp_path: Any) -> None:
    with pytest.raises(OperationalError, match=r"cannot connect to sqlite:///.*: unable to open"):
        Connection(tmp_path / "nowhere" / "test.db")
