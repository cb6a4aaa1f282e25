"""`Connection`: a small synchronous database module, by the names Tornado had until version 2 (later: torndb).

* Each statement is a transaction of its own, until one says BEGIN.
* A connection lost is an error for the statement that met it, which is not repeated: nobody can tell whether the server
  has carried it out. The next statement has a new connection. One that has been idle is asked first whether it still
  stands, which repeats nothing; but never in a transaction, whose beginning a new connection would not have.
* It blocks. What that means for an event loop is told by `BlockingWarning`; `AsyncConnection` is the way out.

http://www.tornadoweb.org/en/branch2.4/database.html, https://peps.python.org/pep-0249/
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from pollux_database.blocking import tell_if_blocking
from pollux_database.engine import Parameters
from pollux_database.errors import DatabaseError, InterfaceError, OperationalError, ProgrammingError, translated
from pollux_database.row import Row
from pollux_database.url import engine_of

_BATCH = 256  # rows that an iteration fetches at once: few enough to hold, and one hop to a thread for all of them


class Connection:
    """A connection to a database, to be used by one thread at a time.

    >>> with Connection() as db:
    ...     db.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")
    ...     db.execute("INSERT INTO note (text) VALUES (%s)", "hello")
    ...     db.get("SELECT * FROM note WHERE id = %s", 1).text
    0
    1
    'hello'

    :param host: a path (SQLite), `:memory:`, or a URL: `sqlite:///PATH`, `mysql://USER:PASSWORD@HOST:PORT/DATABASE`,
        with what is special in a URL quoted. Or, if `database` is given, MySQL's host (`name`, `name:port`, or the path
        of a Unix socket), as Tornado had it.
    :param max_idle_time: seconds after which a server is asked whether the connection still stands.
    :param blocking_threshold: seconds for which a statement may hold up a running loop without a warning; None: any.
    :param options: for the driver: `sqlite3.connect` or `pymysql.connect`. MySQL also takes `time_zone` ("+0:00").
    :raises OperationalError: the database cannot be reached or opened; wrong user or password.
    :raises ProgrammingError: the arguments name no database.
    :raises MissingExtraError: MySQL without PyMySQL.
    """

    def __init__(
        self,
        host: str | os.PathLike[str] = ":memory:",
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
        *,
        max_idle_time: float = 30.0,
        blocking_threshold: float | None = 0.1,
        **options: Any,
    ) -> None:
        self._closed = True  # for __del__ and close, should the next line fail
        self._engine = engine_of(host, database, user, password, options)
        self._max_idle_time = max_idle_time
        self._threshold = float("inf") if blocking_threshold is None else blocking_threshold
        self._driver: Any = None
        self._last_use = 0.0
        self._rows: weakref.ref[Rows] | None = None
        self.reconnect()

    # Statements

    def query(self, query: str, *parameters: Any, **kwparameters: Any) -> list[Row]:
        """Return the rows of a query.

        :param query: with `%s` for each of `parameters`, or `%(name)s` for each of `kwparameters`, never in quotes;
            then a percent sign is `%%`. SQLite's own `?` and `:name` also do, with SQLite.
        """
        with self._executed(query, kwparameters or parameters) as cursor:
            return _rows(cursor, cursor.fetchall())

    def get(self, query: str, *parameters: Any, **kwparameters: Any) -> Row | None:
        """Return the only row of a query, or None if there is none.

        :raises ProgrammingError: there are several.
        """
        rows = self.query(query, *parameters, **kwparameters)
        if len(rows) > 1:
            raise ProgrammingError(f"expected one row or none, got {len(rows)}", None, query)
        return rows[0] if rows else None

    def iter(self, query: str, *parameters: Any, **kwparameters: Any) -> Rows:
        """Return an iterator over the rows of a query, which fetches them as it goes.

        Until it is at its end or closed the connection can do nothing else. With MySQL, to close it early means to read
        what is left.
        """
        with self._statement(query):
            rows = Rows(self, self._run(query, kwparameters or parameters, stream=True), query)
        self._rows = weakref.ref(rows)
        return rows

    def execute(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return the key it has made (see `execute_lastrowid`)."""
        return self.execute_lastrowid(query, *parameters, **kwparameters)

    def execute_lastrowid(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return the key that it has made: the AUTO_INCREMENT column, or SQLite's rowid.

        Of a statement that has inserted nothing the number means nothing.
        """
        with self._executed(query, kwparameters or parameters) as cursor:
            return int(cursor.lastrowid or 0)

    def execute_rowcount(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return how many rows it has changed."""
        with self._executed(query, kwparameters or parameters) as cursor:
            return max(int(cursor.rowcount), 0)

    def executemany(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`; return the last key (see `executemany_lastrowid`)."""
        return self.executemany_lastrowid(query, parameters)

    def executemany_lastrowid(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`, all or nothing; return the key that the database calls last.

        That is the last row's with SQLite, and with MySQL the first one of the last batch that was sent.
        """
        return self._many(query, parameters)[1]

    def executemany_rowcount(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`, all or nothing; return how many rows they have changed."""
        return self._many(query, parameters)[0]

    def _many(self, query: str, parameters: Iterable[Parameters]) -> tuple[int, int]:
        """All or nothing as far as the table can be rolled back: MySQL's MyISAM cannot. In a transaction of yours it is
        part of that, and what to do after an error is yours to decide.
        """
        several = list(parameters)
        if not several:
            return 0, 0
        with self._statement(query):
            driver = self._ready()
            own = not self._engine.in_transaction(driver)
            if own:
                self._engine.execute(driver, "BEGIN", (), stream=False).close()
            try:
                done = self._engine.execute_many(driver, query, several)
                if own:
                    self._engine.execute(driver, "COMMIT", (), stream=False).close()
            except BaseException as error:
                if own and not self._engine.lost(driver, error) and self._engine.in_transaction(driver):
                    self._engine.execute(driver, "ROLLBACK", (), stream=False).close()
                raise
            return done

    # Life

    def close(self) -> None:
        """Close the connection. Again: nothing. What a transaction has not committed is undone."""
        self._closed = True
        self._drop()

    def reconnect(self) -> None:
        """Close the connection if it is open, and make a new one. A database in memory is a new one, too, and empty.

        :raises OperationalError: the database cannot be reached or opened; wrong user or password.
        """
        self._drop()
        started = time.monotonic()
        try:
            self._driver = self._engine.connect()
        except self._engine.failures as error:
            failure = translated(error)
            kind = OperationalError if isinstance(error, OSError) else type(failure)
            raise kind(f"cannot connect to {self._engine.where}: {failure}", failure.code) from error
        self._closed = False
        self._last_use = time.monotonic()
        tell_if_blocking(self._last_use - started, self._threshold, f"connect to {self._engine.where}")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self._engine.where}{' closed' if self._closed else ''}>"

    def __del__(self) -> None:
        self.close()

    # Inside

    @contextmanager
    def _statement(self, statement: str) -> Iterator[None]:
        """What every statement runs in: its errors become ours, and its time is taken."""
        started = time.monotonic()
        try:
            yield
        except self._engine.failures as error:
            if self._driver is not None and self._engine.lost(self._driver, error):
                self._drop()
            raise translated(error, statement) from error
        finally:
            self._last_use = time.monotonic()
            tell_if_blocking(self._last_use - started, self._threshold, statement)

    @contextmanager
    def _executed(self, statement: str, parameters: Parameters) -> Iterator[Any]:
        with self._statement(statement):
            cursor = self._run(statement, parameters, stream=False)
            try:
                yield cursor
            finally:
                cursor.close()

    def _run(self, statement: str, parameters: Parameters, *, stream: bool) -> Any:
        return self._engine.execute(self._ready(), statement, parameters, stream=stream)

    def _ready(self) -> Any:
        """Return the driver's connection, a new one if need be."""
        if self._closed:
            raise InterfaceError("this connection is closed: reconnect() opens it again")
        if self._rows is not None and (rows := self._rows()) is not None and not rows.done:
            raise ProgrammingError(
                "the rows of an iter() are not all read: read them to the end, close() the iterator, or use another "
                "connection"
            )
        if self._driver is not None and self._engine.may_be_lost:
            idle = time.monotonic() - self._last_use
            if idle > self._max_idle_time and not self._engine.alive(self._driver):
                was_in_transaction = self._engine.in_transaction(self._driver)
                self._drop()
                if was_in_transaction:
                    raise OperationalError("the connection was lost in a transaction, which is undone: begin it again")
        if self._driver is None:
            self.reconnect()
        return self._driver

    def _drop(self) -> None:
        driver, rows = getattr(self, "_driver", None), getattr(self, "_rows", None)
        self._driver = self._rows = None
        if rows is not None and (left := rows()) is not None:
            left.abandon()
        if driver is not None:
            try:
                driver.close()
            except self._engine.failures:
                pass  # it is gone already, which is what was wanted


class Rows:
    """The rows of an `iter()`, fetched as they are asked for. An iterator; `with` closes it."""

    def __init__(self, connection: Connection, cursor: Any, statement: str) -> None:
        self._connection = connection
        self._cursor = cursor
        self._statement = statement
        self._waiting: deque[Row] = deque()
        self.done = False

    def __iter__(self) -> Rows:
        return self

    def __next__(self) -> Row:
        if not self._waiting:
            self._waiting.extend(self.batch())
            if not self._waiting:
                raise StopIteration
        return self._waiting.popleft()

    def batch(self) -> list[Row]:
        """Return the next few rows, none at the end."""
        if self.done:
            return []
        try:
            with self._connection._statement(self._statement):
                rows = _rows(self._cursor, self._cursor.fetchmany(_BATCH))
        except BaseException:
            self.done = True
            raise
        if not rows:
            self.close()
        return rows

    def close(self) -> None:
        """Free the connection for other statements. Rows that were not asked for are dropped."""
        self._waiting.clear()
        if not self.done:
            self.done = True
            with self._connection._statement(self._statement):
                self._cursor.close()

    def abandon(self) -> None:
        """End here: the connection is closed or lost. Rows that have been fetched are still given out."""
        if not self.done:
            self.done = True
            self._connection._engine.abandon(self._cursor)

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except DatabaseError:
            pass  # the connection was lost: the next statement has a new one


def _rows(cursor: Any, values: Iterable[tuple[Any, ...]]) -> list[Row]:
    if cursor.description is None:  # not a query
        return []
    names = [column[0] for column in cursor.description]
    return [Row(zip(names, each, strict=True)) for each in values]
