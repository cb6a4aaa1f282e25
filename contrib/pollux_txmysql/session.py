"""One connection to the server, by asyncmy. All that knows the driver is here.

What is known of the driver (0.2.18)
------------------------------------
* With a statement cache, a statement with parameters is prepared once on each connection and then run by its number,
  its parameters sent beside it in binary: nothing is escaped because nothing is put into the statement, and it costs
  half the CPU time. txMySQL's `runQuery` did the same. What the server cannot prepare, and parameters that have no
  binary form (a list for `IN %s`, a dict for `%(name)s`), go as text, escaped by the driver.
* Its escaping of bytes and of lists is wrong in the SQL mode NO_BACKSLASH_ESCAPES; these are refused here.
* A wait that is cancelled closes the connection: half an answer may be on its way.
* Nothing stops the server from sending rows faster than they are taken: reading is paused here between batches.
* It fetches the server's warnings and issues them as Python's, with another round trip. Here they are left to who asks
  with SHOW WARNINGS.

https://github.com/long2ice/asyncmy
"""

from __future__ import annotations

import asyncio
import datetime
import re
import socket
import ssl
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncmy
from asyncmy import errors as driver
from asyncmy.cursors import SSCursor

from pollux_txmysql.errors import ConnectError, MySQLError, translated

Arguments = tuple[Any, ...] | list[Any] | dict[str, Any] | None
Rows = list[tuple[Any, ...]]

_STATEMENTS = 100  # prepared on one connection; the server's own limit is 16,382 for all of them
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)  # seconds between attempts to connect; the last one goes on
_USE = re.compile(r"\buse\b", re.IGNORECASE)
_LONGEST = 31_536_000  # seconds: the most that the driver takes
_KILL_TIMEOUT = 5.0  # seconds for telling the server to stop a statement: a second connection, one word
# What has a binary form. A subclass may have any meaning, and goes as text.
_PLAIN: frozenset[type] = frozenset(
    {
        *(type(None), bool, int, float, Decimal, str, bytes, bytearray),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
    }
)
_NO_BACKSLASH_ESCAPES = 512  # SERVER_STATUS_NO_BACKSLASH_ESCAPES
# No route, no socket, lost during the handshake, too many connections, shutting down: another time it may work.
_PASSING = frozenset({2002, 2003, 2006, 2013, 1040, 1053, 1203})


@dataclass(frozen=True)
class Address:
    """Where the server is, and how one logs in.

    :ivar host: a name, an address, or the path of a Unix socket.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    charset: str
    tls: ssl.SSLContext | None = field(repr=False)

    def __str__(self) -> str:
        return f"mysql://{self.user}@{self.host if self.host.startswith('/') else f'{self.host}:{self.port}'}"

    async def open(self, database: str | None) -> Session:
        """Connect once.

        :raises asyncmy.errors.Error: in vain.
        """
        where = {"unix_socket": self.host} if self.host.startswith("/") else {"host": self.host, "port": self.port}
        connection = await asyncmy.connect(
            **where,
            user=self.user,
            password=self.password,
            database=database,
            charset=self.charset,
            ssl=self.tls,
            autocommit=True,
            connect_timeout=_LONGEST,  # `connect` and `kill` have deadlines of their own
            stmt_cache_size=_STATEMENTS,
        )
        return Session(connection, database)

    async def connect(self, database: str | None, timeout: float, passing_words: frozenset[str]) -> Session:
        """Connect, again and again with growing pauses where that may help, for `timeout` seconds.

        :param passing_words: messages of the server with which it may help, too.
        :raises ConnectError: in vain.
        """
        attempts = 0
        error: Exception = TimeoutError("no answer")
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self.open(database)
                    except (driver.Error, OSError, ssl.SSLError) as failed:
                        error = failed
                        if not _may_pass(failed, passing_words):
                            break
                    await asyncio.sleep(PAUSES[min(attempts, len(PAUSES) - 1)])
                    attempts += 1
        except TimeoutError:
            pass  # the last error says why
        cause = translated(error, None, ConnectError)
        tried = f" ({attempts + 1} attempts in {timeout:g} s)" if attempts else ""
        name = f"{self}/{database or ''}"
        raise ConnectError(f"cannot connect to {name}{tried}: {cause.msg}", cause.errno, cause.sqlstate) from error

    async def kill(self, number: int, timeout: float) -> str:
        """Tell the server to end the connection `number` and what runs on it. Return what there is to say of it."""
        try:
            async with asyncio.timeout(min(timeout, _KILL_TIMEOUT)):
                session = await self.open(None)
                try:
                    await session.run(f"KILL {number}", None)
                finally:
                    session.drop()
        except driver.Error as error:
            if error.args[:1] != (1094,):  # no such connection: it has ended by itself
                return f"it could not be stopped on the server: {error.args[-1]}"
        except (OSError, TimeoutError) as error:
            return f"it could not be stopped on the server: {str(error) or 'no answer'}"
        return "it was stopped on the server"


def _may_pass(error: Exception, words: frozenset[str]) -> bool:
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return False
    cause = error.__cause__
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return False
    if isinstance(error, OSError):
        return True
    return error.args[0] in _PASSING or (len(error.args) > 1 and error.args[1] in words)


class Session:
    """A connection that is logged in.

    :ivar database: the one that is selected, as far as this package has done so.
    """

    def __init__(self, connection: Any, database: str | None) -> None:
        async def no_warnings() -> tuple[()]:
            return ()

        connection.show_warnings = no_warnings
        self._connection = connection
        self._cursor = connection.cursor()
        self.database = database

    # State

    @property
    def number(self) -> int:
        """What the server calls this connection."""
        return int(self._connection.thread_id())

    def is_alive(self) -> bool:
        """Whether the connection stands, as far as the loop has been told."""
        return not self._connection._stream_broken

    @property
    def in_transaction(self) -> bool:
        """Whether there has been a BEGIN without COMMIT or ROLLBACK, by the server's last answer."""
        return bool(self._connection.get_transaction_status())

    # Statements

    async def query(self, query: str, arguments: Arguments) -> Rows:
        """Run a statement that returns rows."""
        cursor = self._cursor
        if arguments is None:
            if "%" in query:
                query = query.replace("%", "%%")  # for the driver, which takes them as those of a form
            await cursor.execute(query, ())
        else:
            await self._execute(query, arguments)
        if "use" in query.lower() and _USE.search(query):
            await self._forget_statements()
        rows = await cursor.fetchall()
        if cursor._result is not None:
            await self._drain()
        return list(rows)

    async def run(self, query: str, arguments: Arguments) -> int:
        """Run any statement; return how many rows it has changed (or returned)."""
        cursor = self._cursor
        if arguments is None:
            await cursor.execute(query)
        else:
            await self._execute(query, arguments)
        if "use" in query.lower() and _USE.search(query):
            await self._forget_statements()
        count = max(int(cursor.rowcount), 0)
        if cursor._result is not None:
            await self._drain()
        return count

    async def _execute(self, query: str, arguments: Arguments) -> None:
        if self._connection.server_status & _NO_BACKSLASH_ESCAPES:
            _refuse_unsafe(query, arguments)
        if isinstance(arguments, dict) or not _PLAIN.issuperset(map(type, arguments or ())):
            await self._cursor.execute(self._as_text(query, arguments))
            return
        try:
            await self._cursor.execute(query, arguments)
        except (TypeError, ValueError, KeyError) as error:
            raise _mismatch(query, error) from error

    async def _drain(self) -> None:
        """Take the further results of several statements in one: what fails there belongs to this query."""
        while await self._cursor.nextset():
            pass

    def names(self) -> list[str]:
        """Return the columns of the last query."""
        return [column[0] for column in self._cursor.description or ()]

    def last_key(self) -> int:
        """Return the AUTO_INCREMENT key that the last statement has made, else 0."""
        return int(self._cursor.lastrowid)

    async def select(self, database: str) -> None:
        """Make a database the current one."""
        await self._connection.select_db(database)
        self.database = database
        await self._forget_statements()

    async def _forget_statements(self) -> None:
        """A prepared statement means the tables of the database that was current when it was prepared."""
        prepared = self._connection._stmt_cache
        for statement in list(prepared.values()):
            await statement.close()
        prepared.clear()

    async def stream(self, query: str, arguments: Arguments) -> Any:
        """Run a query and return a cursor for `fetch`, which is not to be called if it has no `description`."""
        cursor = self._connection.cursor(SSCursor)
        if self._connection.server_status & _NO_BACKSLASH_ESCAPES:
            _refuse_unsafe(query, arguments)
        await cursor.execute(query if arguments is None else self._as_text(query, arguments))
        if cursor.description is not None:
            self._connection._transport.pause_reading()
        return cursor

    async def fetch(self, cursor: Any, size: int) -> Rows:
        """Return the next rows of a stream, none at its end. Only meanwhile anything is read from the server."""
        transport = self._connection._transport
        transport.resume_reading()
        rows: Rows = await cursor.fetchmany(size)
        if rows:
            transport.pause_reading()
        else:
            await cursor.close()
        return rows

    def _as_text(self, query: str, arguments: Arguments) -> str:
        try:
            text: str = self._cursor.mogrify(query, _with_tuples(arguments))
        except (TypeError, ValueError, KeyError) as error:
            raise _mismatch(query, error) from error
        return text

    # End

    async def close(self) -> None:
        """Say goodbye and close."""
        try:
            async with asyncio.timeout(_KILL_TIMEOUT):
                await self._connection.ensure_closed()
        except (driver.Error, OSError, TimeoutError):
            self.drop()

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        transport = self._connection._transport
        self._connection.close()
        if transport is not None:
            transport.abort()


def _refuse_unsafe(query: str, arguments: Any) -> None:
    for value in arguments.values() if isinstance(arguments, dict) else arguments or ():
        if isinstance(value, (bytes, bytearray, list, tuple, set, frozenset, dict)):
            raise MySQLError(
                f"a parameter of type {type(value).__name__} cannot be escaped safely in the SQL mode "
                "NO_BACKSLASH_ESCAPES: leave that mode for it",
                query=query,
            )


def _with_tuples(arguments: Any) -> Any:
    """The driver escapes no other sequence than tuples, and no bytearray."""
    if isinstance(arguments, dict):
        return {name: _with_tuples(value) for name, value in arguments.items()}
    if isinstance(arguments, (list, tuple, set, frozenset)):
        return tuple([_with_tuples(value) for value in arguments])
    return bytes(arguments) if isinstance(arguments, bytearray) else arguments


def _mismatch(query: str, error: Exception) -> MySQLError:
    """What Python's % operator says, or the conversion of a value, with what was expected."""
    return MySQLError(
        f"the parameters do not match the placeholders: {type(error).__name__}: {error}; expected a %s for each (or "
        "%(name)s for those of a dict), and %% for a percent sign",
        query=query,
    )
