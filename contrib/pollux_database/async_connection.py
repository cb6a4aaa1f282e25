"""`AsyncConnection`: `Connection` in a thread of its own, awaitable.

One thread for each connection: SQLite's connections belong to the thread that made them, PyMySQL's can do one thing
at a time, and a queue in front of one thread keeps the statements in the order in which they were asked for. The thread
starts with the first statement, which also connects.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from pollux_database.connection import Connection, Rows
from pollux_database.engine import Parameters
from pollux_database.errors import InterfaceError
from pollux_database.row import Row

T = TypeVar("T")


class AsyncConnection:
    """A connection whose methods are awaited and do not block the loop. It has the methods of `Connection`.

    Statements run one after the other in the order of their calls, whoever called. One whose awaiting is cancelled is
    not run if it had not begun; if it had, it runs to its end, and nobody sees its result.

    :param host: and the rest: as for `Connection`, whose errors come with the first statement, or `reconnect`.
    """

    def __init__(
        self,
        host: str | os.PathLike[str] = ":memory:",
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
        *,
        max_idle_time: float = 30.0,
        **options: Any,
    ) -> None:
        def connect() -> Connection:
            return Connection(
                host, database, user, password, max_idle_time=max_idle_time, blocking_threshold=None, **options
            )

        self._connect = connect
        self._connection: Connection | None = None  # touched by the thread only
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    async def query(self, query: str, *parameters: Any, **kwparameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await self._do(lambda db: db.query(query, *parameters, **kwparameters))

    async def get(self, query: str, *parameters: Any, **kwparameters: Any) -> Row | None:
        """Return the only row of a query, or None if there is none; `ProgrammingError` if there are several."""
        return await self._do(lambda db: db.get(query, *parameters, **kwparameters))

    def iter(self, query: str, *parameters: Any, **kwparameters: Any) -> AsyncRows:
        """Return an iterator for `async for`, which fetches the rows as it goes, some hundreds at a time.

        The query runs when the first row is asked for. Until the end, or until the iterator is closed or dropped, other
        statements of this connection fail.
        """
        return AsyncRows(self, _Source(lambda db: db.iter(query, *parameters, **kwparameters)))

    async def execute(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return the key it has made."""
        return await self.execute_lastrowid(query, *parameters, **kwparameters)

    async def execute_lastrowid(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return the key it has made."""
        return await self._do(lambda db: db.execute_lastrowid(query, *parameters, **kwparameters))

    async def execute_rowcount(self, query: str, *parameters: Any, **kwparameters: Any) -> int:
        """Run a statement; return how many rows it has changed."""
        return await self._do(lambda db: db.execute_rowcount(query, *parameters, **kwparameters))

    async def executemany(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`, all or nothing; return the last key."""
        return await self.executemany_lastrowid(query, parameters)

    async def executemany_lastrowid(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`, all or nothing; return the last key."""
        several = list(parameters)
        return await self._do(lambda db: db.executemany_lastrowid(query, several))

    async def executemany_rowcount(self, query: str, parameters: Iterable[Parameters]) -> int:
        """Run a statement once for each of `parameters`, all or nothing; return how many rows they have changed."""
        several = list(parameters)
        return await self._do(lambda db: db.executemany_rowcount(query, several))

    async def reconnect(self) -> None:
        """Close the connection if it is open, and make a new one; the first one, if there was none."""

        def again() -> None:
            if self._connection is None:
                self._connection = self._connect()
            else:
                self._connection.reconnect()

        self._closed = False
        await self._in_thread(again)

    async def close(self) -> None:
        """Close the connection, after the statements that were asked for before, and end its thread."""
        self._closed = True
        if self._thread is None:
            return
        thread, self._thread = self._thread, None

        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        closing = thread.submit(close)
        thread.shutdown(wait=False)
        await asyncio.wrap_future(closing)

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _do(self, action: Callable[[Connection], T]) -> asyncio.Future[T]:
        def act() -> T:
            if self._connection is None:
                self._connection = self._connect()
            return action(self._connection)

        return self._in_thread(act)

    def _in_thread(self, action: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise InterfaceError("this connection is closed: reconnect() opens it again")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="pollux-database")
        return asyncio.get_running_loop().run_in_executor(self._thread, action)

    def _let_go(self, rows: Rows) -> None:
        """Close an iterator that nobody has any more, in its thread and before what comes next."""
        if self._thread is not None:
            self._thread.submit(rows.close)


class AsyncRows:
    """The rows of an `AsyncConnection.iter()`, for `async for`; `async with` closes it."""

    def __init__(self, connection: AsyncConnection, source: _Source) -> None:
        self._connection = connection
        self._source = source
        self._waiting = source.waiting
        self._done = False

    def __aiter__(self) -> AsyncRows:
        return self

    async def __anext__(self) -> Row:
        if not self._waiting:
            if not self._done:
                await self._connection._do(self._source.fetch)
            if not self._waiting:
                self._done = True
                raise StopAsyncIteration
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Free the connection for other statements."""
        self._done = True
        self._waiting.clear()
        if (rows := self._source.rows) is not None and not self._connection._closed:
            await self._connection._do(lambda _: rows.close())

    async def __aenter__(self) -> AsyncRows:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._source.rows is not None:
            self._connection._let_go(self._source.rows)


class _Source:
    """What the thread has of an iteration. It must not have the iterator itself, whose end ends the iteration."""

    def __init__(self, begin: Callable[[Connection], Rows]) -> None:
        self._begin = begin
        self.rows: Rows | None = None
        self.waiting: deque[Row] = deque()

    def fetch(self, db: Connection) -> None:
        """Put the next rows where they are waited for, so that a cancelled wait loses none."""
        if self.rows is None:
            self.rows = self._begin(db)
        self.waiting.extend(self.rows.batch())
