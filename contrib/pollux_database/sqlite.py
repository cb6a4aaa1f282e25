"""SQLite, by Python's own sqlite3.

* sqlite3 opens transactions of its own accord unless `isolation_level` is None. Here each statement is its own
  transaction until one says BEGIN, as with MySQL.
* SQLite's placeholders are `?` and `:name`, MySQL's driver has `%s` and `%(name)s`. Both are taken here, so that a
  program may change its database by the URL alone: a statement that has one of MySQL's outside of quotes and comments
  is read as PyMySQL reads it, `%%` being a percent sign; any other goes to SQLite as it is.
* SQLite knows no dates and no decimals. The conversions that sqlite3 brings are deprecated since Python 3.12, so dates
  are stored here as text of ISO 8601 and decimals as their digits, and are read back as what is stored: text.

https://docs.python.org/3/library/sqlite3.html, https://www.sqlite.org/lang_expr.html#parameters
"""

from __future__ import annotations

import datetime
import re
import sqlite3
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pollux_database.engine import Parameters
from pollux_database.errors import ProgrammingError

_MEMORY = ":memory:"
# Text and names in quotes, comments, MySQL's placeholders, doubled percent signs.
_PARTS = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^]]*\] | --[^\n]* | /\*.*?\*/
        | %s | %\((?P<name>\w+)\)s | %%""",
    re.VERBOSE | re.DOTALL,
)


class Sqlite:
    """A database in a file, or in memory.

    :param path: of the file, which is made if it is not there; `:memory:` for one that ends with its connection.
    :param options: for `sqlite3.connect`, such as `timeout` (5 seconds): how long to wait for another's lock.
    """

    may_be_lost = False
    # sqlite3 itself raises a few of Python's own: OverflowError for an integer past 64 bits, ValueError for a NUL.
    failures: tuple[type[Exception], ...] = (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError)

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.where = f"sqlite:///{path}" if path != _MEMORY else "sqlite://"
        self._path = path
        self._options = options

    def connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(self._path, isolation_level=None, **self._options)
        return connection

    def execute(
        self, connection: sqlite3.Connection, statement: str, parameters: Parameters, *, stream: bool
    ) -> sqlite3.Cursor:
        if not parameters:
            return connection.execute(statement)
        return connection.execute(as_sqlite(statement), _bound(parameters))

    def execute_many(
        self, connection: sqlite3.Connection, statement: str, parameters: list[Parameters]
    ) -> tuple[int, int]:
        cursor = connection.executemany(as_sqlite(statement), [_bound(each) for each in parameters])
        (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()  # executemany leaves it out
        return max(cursor.rowcount, 0), last

    def abandon(self, cursor: sqlite3.Cursor) -> None:
        pass

    def in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def lost(self, connection: sqlite3.Connection, error: BaseException) -> bool:
        return False


@lru_cache(maxsize=512)
def as_sqlite(statement: str) -> str:
    """Return a statement with SQLite's placeholders in place of MySQL's.

    >>> as_sqlite("SELECT 100 %% 7 WHERE name = %s AND note = '%s'")
    "SELECT 100 % 7 WHERE name = ? AND note = '%s'"
    """
    if not any(part[0].endswith("s") and part[0].startswith("%") for part in _PARTS.finditer(statement)):
        return statement

    def replaced(part: re.Match[str]) -> str:
        text = part[0]
        if text == "%s":
            return "?"
        if part["name"]:
            return f":{part['name']}"
        return text.replace("%%", "%")

    return _PARTS.sub(replaced, statement)


def _bound(parameters: Parameters) -> Parameters:
    if isinstance(parameters, dict):
        return {name: _storable(value) for name, value in parameters.items()}
    return tuple([_storable(value) for value in parameters])


def _storable(value: Any) -> Any:
    if value is None or isinstance(value, (int, float, str, bytes)):
        return value
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (bytearray, memoryview)):
        return value
    raise ProgrammingError(
        f"a parameter is of type {type(value).__name__}; SQLite takes None, int, float, str, bytes, dates and Decimal"
    )
