"""What a value is when it has been to the server and back: every type, NULL, every character set, 64 MiB."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from pollux_txmysql import MySQLError
from tests.mysql.conftest import Run, connection
from tests.mysql.server import Server

# type of the column, value sent, value received if it is another one
VALUES: list[tuple[str, Any, Any]] = [
    ("TINYINT", -128, None),
    ("BIGINT", -(2**63), None),
    ("BIGINT UNSIGNED", 2**64 - 1, None),
    ("BOOL", True, 1),
    ("DOUBLE", 1.7976931348623157e308, None),
    ("FLOAT", 0.5, None),
    ("DECIMAL(65, 30)", Decimal("12345678901234567890123456789012345.123456789012345678901234567890"), None),
    ("DECIMAL(5, 2)", Decimal("-0.01"), None),
    ("DATE", datetime.date(1000, 1, 1), None),
    ("DATE", datetime.date(9999, 12, 31), None),
    ("DATETIME", datetime.datetime(2020, 2, 29, 23, 59, 59), None),
    ("DATETIME(6)", datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), None),
    ("TIMESTAMP(6)", datetime.datetime(2038, 1, 19, 3, 14, 7, 999999), None),
    ("TIME", datetime.timedelta(hours=-838, minutes=-59, seconds=-59), None),
    ("TIME(6)", datetime.timedelta(hours=838, minutes=59, seconds=58, microseconds=1), None),
    ("TIME(6)", datetime.timedelta(microseconds=-1), None),
    ("TIME", datetime.time(12, 30), datetime.timedelta(hours=12, minutes=30)),
    ("YEAR", 1901, None),
    ("CHAR(3)", "日本🎉", None),
    ("VARCHAR(5)", "", None),
    ("LONGTEXT", "x" * 100_000, None),
    ("BINARY(4)", b"a\0\xff'", None),
    ("LONGBLOB", bytes(range(256)) * 300, None),
    ("VARBINARY(10)", bytearray(b"\xff"), b"\xff"),
    ("ENUM('a', 'é')", "é", None),
    ("SET('a', 'b', 'c')", "a,c", None),
    ("BIT(12)", 0xABC, b"\x0a\xbc"),
    ("JSON", '{"a": [1, null]}', None),
    ("UUID", "123e4567-e89b-12d3-a456-426655440000", None),
    ("INET6", "2001:db8::ff00:42:8329", None),
]


def test_every_type(run: Run, server: Server, table: str) -> None:
    """As a parameter, and back by both protocols: `runQuery` has the binary one, a stream that of text."""

    async def main() -> None:
        one = connection(server)
        await one.runOperation("SET time_zone = '+0:00'")
        for number, (kind, sent, received) in enumerate(VALUES):
            name = f"{table}_{number}"
            await one.runOperation(f"CREATE TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, a {kind} NULL)")
            await one.runOperation(f"INSERT INTO {name} (a) VALUES (%s), (%s)", [sent, None])
            expected = [(sent if received is None else received,), (None,)]
            query = f"SELECT a FROM {name} ORDER BY id"
            assert await one.runQuery(query) == expected, kind
            assert await one.runQuery(query) == expected, kind  # prepared by now
            assert [row async for row in one.stream(query)] == expected, kind
            if kind not in ("FLOAT", "BIT(12)", "JSON"):  # these are not equal to what they are made of
                assert await one.fetchone(f"SELECT COUNT(*) FROM {name} WHERE a = %s", [sent]) == 1, kind
                assert await one.fetchone(f"SELECT COUNT(*) FROM {name} WHERE a = %(a)s", {"a": sent}) == 1, kind
        await one.disconnect()

    run(main())


def test_parameters_of_a_type_of_ones_own_are_refused_or_text(run_once: Run, server: Server) -> None:
    class Text(str):
        """A str like any other."""

    async def main() -> None:
        one = connection(server)
        assert await one.fetchone("SELECT %s", [Text("a'b")]) == "a'b"
        with pytest.raises(MySQLError):
            await one.fetchone("SELECT %s", [2**64])
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()

    run_once(main())


def test_every_character_set(run_once: Run, server: Server, table: str) -> None:
    """Columns in each of the server's sets, with what that set can hold, over a connection in utf8mb4."""
    texts = [
        "plain",
        "né ß",
        "Žluť",
        "Привет",
        "Γειά",
        "שלום",
        "مرحبا",
        "สวัสดี",
        "日本語",
        "한국어",
        "中文",
        "ქართული",
        "🎉",
    ]

    async def main() -> None:
        one = connection(server)
        names = [
            row[0] for row in await one.runQuery("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS")
        ]
        assert len(names) > 35
        kept = 0
        await one.runOperation("SET sql_mode = 'STRICT_ALL_TABLES'")
        for name in names:
            kind = "VARBINARY(100)" if name == "binary" else f"VARCHAR(40) CHARACTER SET {name}"
            await one.runOperation(f"CREATE TABLE {table}_{name} (a {kind})")
            for text in texts:
                try:
                    await one.runOperation(f"INSERT INTO {table}_{name} VALUES (%s)", [text])
                except MySQLError as error:
                    if error.errno == 1366:  # this set has no such character, and says so
                        continue
                    raise
                got = await one.fetchone(f"SELECT a FROM {table}_{name} WHERE a = %s", [text])
                assert got == (text.encode() if name == "binary" else text), name
                kept += 1
        assert kept > 2 * len(names)
        await one.disconnect()

    run_once(main())


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("latin1", "né ß €"),
        ("cp1251", "Привет"),
        ("greek", "Γειά"),
        ("sjis", "表ソ能"),  # whose second byte is a backslash
        ("big5", "功許蓋"),  # likewise
        ("gbk", "誠\\' OR 1=1"),
        ("euckr", "한국어"),
        ("utf8mb4", "🎉"),
    ],
)
def test_connection_in_another_character_set(run_once: Run, server: Server, charset: str, text: str) -> None:
    async def main() -> None:
        one = connection(server, charset=charset)
        assert await one.fetchone("SELECT @@character_set_client") == charset
        for query, arguments in (
            ("SELECT %s", [text]),
            ("SELECT %(a)s", {"a": text}),
            ("SELECT %s IN %s", [text, [text]]),
        ):
            assert await one.fetchone(query, arguments) == (1 if "IN" in query else text)
        if charset != "utf8mb4":
            with pytest.raises(MySQLError, match="encode"):
                await one.fetchone("SELECT %s", ["🎉"])
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()

    run_once(main())


def test_64_mib(run_once: Run, server: Server, table: str) -> None:
    """One row, there and back, in pieces of 16 MiB as the protocol has it; and what is too long."""
    size = 64 * 1024 * 1024

    async def main() -> None:
        one = connection(server)
        await one.runOperation(f"CREATE TABLE {table} (a LONGBLOB) ENGINE=Aria")
        await one.runOperation(f"INSERT INTO {table} VALUES (%s)", [b"\0" * size])
        (row,) = await one.runQuery(f"SELECT a, 1 FROM {table}")
        assert row == (b"\0" * size, 1)
        with pytest.raises(MySQLError):
            await one.runQuery("SELECT %s", [b"\0" * (4 * size)])
        assert await one.fetchone("SELECT 1") == 1
        await one.runOperation(f"DROP TABLE {table}")
        await one.disconnect()

    run_once(main())
