"""`Connection`: a way to collections, and with a session, transactions.

Which socket an operation takes is the driver's business. What belongs together is a session (docs:
pymongo.asynchronous.client_session): its operations see each other, and those of a transaction come all or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pymongo.errors import InvalidOperation

from pollux_mongo.answering import Callback, answer
from pollux_mongo.cursor import Cursor

if TYPE_CHECKING:
    from types import TracebackType

    from pymongo.asynchronous.client_session import AsyncClientSession

    from pollux_mongo.pool import ConnectionPool


class Connection:
    """Cursors for collections' names, all in one session if it has one.

        async with client.session() as connection:
            async with connection.transaction():
                await connection.accounts.update({"_id": "a"}, {"$inc": {"sum": -5}})
                await connection.accounts.update({"_id": "b"}, {"$inc": {"sum": 5}})

    One thing at a time: operations of a session follow each other.

    :ivar pool: where it comes from.
    :ivar session: PyMongo's `AsyncClientSession`, or None.
    """

    def __init__(self, pool: ConnectionPool, session: AsyncClientSession | None = None) -> None:
        self.pool = pool
        self.session = session

    def cursor(self, name: str, dbname: str | None = None) -> Cursor:
        """Return the `Cursor` of a collection.

        :raises pymongo.errors.InvalidName: the name cannot be one.
        """
        return Cursor(self.pool, dbname or self.pool.dbname, name, self.session)

    def __getattr__(self, name: str) -> Cursor:
        if name.startswith("_"):
            raise AttributeError(f"Connection has no attribute {name!r}; connection[{name!r}] is a collection")
        return self.cursor(name)

    def __getitem__(self, name: str) -> Cursor:
        return self.cursor(name)

    # Transactions

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Connection]:
        """Enter a transaction: it is committed at the end of the block, and aborted if that raises or is cancelled.

        :param options: `read_concern`, `write_concern`, `read_preference`, `max_commit_time_ms`.
        :raises pymongo.errors.OperationFailure: another transaction came in between (it has the label
            "TransientTransactionError": try again, or use `with_transaction`).
        """
        self.pool.check()
        async with await self._session().start_transaction(**options):
            yield self

    def with_transaction(
        self, function: Callable[[Connection], Awaitable[Any]], callback: Callback | None = None, **options: Any
    ) -> Any:
        """Return what `await function(connection)` returns, in a transaction that is tried again, for up to 120
        seconds, where others came in between."""
        self.pool.check()
        work = self._session().with_transaction(lambda _: function(self), **options)
        return answer(self.pool, work, callback)

    def commit(self, callback: Callback | None = None) -> Any:
        """Commit the transaction that was begun by `await connection.begin()`."""
        return answer(self.pool, self._session().commit_transaction(), callback)

    def rollback(self, callback: Callback | None = None) -> Any:
        """Abort the transaction."""
        return answer(self.pool, self._session().abort_transaction(), callback)

    def begin(self, callback: Callback | None = None, **options: Any) -> Any:
        """Begin a transaction; `commit` or `rollback` end it."""

        async def begin() -> None:
            await self._session().start_transaction(**options)

        self.pool.check()
        return answer(self.pool, begin(), callback)

    def _session(self) -> AsyncClientSession:
        if self.session is None:
            raise InvalidOperation("a transaction needs a session: `async with client.session() as connection`")
        return self.session

    # The end

    async def close(self) -> None:
        """End the session; a transaction that is open is aborted. May be called again."""
        if self.session is not None:
            await self.session.end_session()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
