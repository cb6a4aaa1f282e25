"""`Client`: what a program has in hand. It names a pool, and finds collections in it.

A client is cheap, as it was with asyncmongo: each request may make one, and all with the same `pool_id` share the pool
of their loop. It takes its pool when it is first used, so one that a module makes before the loop runs works too; from
then on it belongs to that loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pollux.ioloop import IOLoop
from pollux_mongo.answering import Callback, answer
from pollux_mongo.bucket import Bucket
from pollux_mongo.changes import Changes
from pollux_mongo.connection import Connection
from pollux_mongo.cursor import Cursor
from pollux_mongo.options import PoolOptions, pool_options
from pollux_mongo.pool import ConnectionPool, ConnectionPools
from pollux_mongo.results import Results
from pollux_mongo.statistics import PoolStatistics

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase


class Client:
    """A database: `client.users` and `client["users"]` are collections in it, see `Cursor`.

        db = Client("main", host="127.0.0.1", port=27017, dbname="shop", maxconnections=50)
        user = await db.users.find_one({"name": "joe"})
        db.users.find({"age": {"$gt": 30}}, callback=on_users)     # on_users(response, error)

    :param pool_id: the name of its pool. Without further options the pool must exist; without a name it is called for
        where its servers are.
    :param host: name, address, path of a Unix socket, or a mongodb:// URI; default localhost.
    :param port: default 27017.
    :param dbname: the database; default the one of the URI.
    :param dbuser: the user, who is looked for in `dbname` if there is no URI (`authSource=` says otherwise).
    :param dbpass: the password.
    :param mincached: connections that are kept open, default 0.
    :param maxcached: idle connections that are kept, default 0: all.
    :param maxconnections: open connections to each server, default 100; 0: any number. Whoever finds none free waits,
        `waitQueueTimeoutMS` for how long.
    :param maxusage: operations after which a connection is closed, default 0: none.
    :param uri: a mongodb:// or mongodb+srv:// URI, in place of host and port; it can say all the rest, too.
    :param rs: the name of a replica set; `seed`: some of its members, as pairs (host, port).
    :param slave_okay: prefer secondaries for reading.
    :param secondary_only: read from secondaries alone.
    :param autoreconnect: False: do not try again what a broken connection has failed.
    :param io_loop: the loop, default the current one when it is first used.
    :param count_commands: have `statistics` tell of commands by name; costs about a tenth of a short command.
    :param options: those of PyMongo's `AsyncMongoClient`: `tls`, `tlsCAFile`, `serverSelectionTimeoutMS` (30,000),
        `readPreference`, `event_listeners`, ...
    :raises ValueError, TypeError: they contradict each other. (The driver refuses its own when it is first used.)
    """

    def __init__(
        self,
        pool_id: str | None = None,
        host: str | None = None,
        port: int | None = None,
        dbname: str | None = None,
        dbuser: str | None = None,
        dbpass: str | None = None,
        mincached: int = 0,
        maxcached: int = 0,
        maxconnections: int | None = None,
        maxusage: int = 0,
        *,
        uri: str | None = None,
        rs: str | None = None,
        seed: Iterable[tuple[str, int] | str] | None = None,
        io_loop: IOLoop | None = None,
        **options: Any,
    ) -> None:
        given = {
            "host": host, "port": port, "dbname": dbname, "dbuser": dbuser, "dbpass": dbpass, "mincached": mincached,
            "maxcached": maxcached, "maxconnections": maxconnections, "maxusage": maxusage, "uri": uri, "rs": rs,
            "seed": seed, **options,
        }  # fmt: skip
        named = {name: value for name, value in given.items() if value is not None}
        told = {*named} - {name for name in ("mincached", "maxcached", "maxusage") if named[name] == 0}
        self._options: PoolOptions | None = pool_options(**named) if told or pool_id is None else None
        self._pool_id = pool_id
        self._io_loop = io_loop
        self._pool: ConnectionPool | None = None

    def __repr__(self) -> str:
        return f"<Client {self._pool!r}>" if self._pool is not None else f"<Client {self._pool_id!r}, not used yet>"

    @property
    def pool(self) -> ConnectionPool:
        """Its pool, which is made or found now if this is the first use.

        :raises ValueError: the pool exists with other options, or there is none and no options; see `ConnectionPools`.
        :raises pymongo.errors.PyMongoError: the driver refuses an option.
        """
        if self._pool is None:
            self._pool = ConnectionPools.get_connection_pool(self._pool_id, self._options, io_loop=self._io_loop)
        return self._pool

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """PyMongo's `AsyncDatabase`: everything that is not here is there.

        :raises PoolError: used on another loop, or in a forked process.
        """
        return self.pool.database

    # Collections

    def __getattr__(self, name: str) -> Cursor:
        if name.startswith("_"):
            raise AttributeError(f"Client has no attribute {name!r}; client[{name!r}] is a collection")
        cursor = self.connection(name)
        vars(self)[name] = cursor  # the next time Python finds it by itself
        return cursor

    def __getitem__(self, name: str) -> Cursor:
        return self.connection(name)

    def connection(self, collectionname: str, dbname: str | None = None) -> Cursor:
        """Return the `Cursor` of a collection, of another database if one is named. (The name is asyncmongo's.)

        :raises pymongo.errors.InvalidName: the name cannot be one.
        """
        pool = self.pool
        return Cursor(pool, dbname or pool.dbname, collectionname)

    def collection_names(self, callback: Callback | None = None, **options: Any) -> Any:
        """Return the list of the names of the database's collections."""
        return answer(self.pool, self.database.list_collection_names(**options), callback)

    # The database

    def command(
        self,
        command: Any,
        value: Any = 1,
        callback: Callback | None = None,
        check: bool = True,
        allowable_errors: Any = None,
        **options: Any,
    ) -> Any:
        """Run a command of the database; return the server's answer.

        :param command: its name, whose argument is `value`; or the whole document, its name first.
        :param check: False: return the answer also where it tells of an error.
        :param options: further fields, and those of PyMongo's `command` (`read_preference`, `session`).
        :raises pymongo.errors.OperationFailure: the server refused it.
        """
        work = self.database.command(command, value, check, allowable_errors, **options)
        return answer(self.pool, work, callback)

    def aggregate(self, pipeline: Any, *, callback: Callback | None = None, **options: Any) -> Any:
        """Run an aggregation that begins with no collection: `$documents`, `$currentOp`. See `Cursor.aggregate`."""
        database = self.database
        results = Results(
            self.pool,
            partial(database.aggregate, pipeline, **options),
            batch_size=options.get("batchSize", 0),
            codec_options=database.codec_options,
        )
        return results if callback is None else answer(self.pool, results.to_list(), callback)

    def watch(self, pipeline: Any = None, **options: Any) -> Changes:
        """Return the `Changes` of all the database's collections from now on. Needs a replica set."""
        return Changes(self.pool, partial(self.database.watch, pipeline, **options))

    def bulk_write(self, models: Any, *, callback: Callback | None = None, **options: Any) -> Any:
        """Write to several collections in one command, for MongoDB 8 and newer: PyMongo's models with a `namespace`."""
        self.pool.check()
        return answer(self.pool, self.pool.driver.bulk_write(models, **options), callback)

    def gridfs(self, name: str = "fs", **options: Any) -> Bucket:
        """Return the `Bucket` of this name, for files."""
        return Bucket(self.pool, name, **options)

    # Sessions

    def session(self, **options: Any) -> Connection:
        """Return a `Connection` with a session; leave it with `async with`, or close it.

        :param options: `causal_consistency` (default True), `snapshot`, `default_transaction_options`.
        """
        self.pool.check()
        return Connection(self.pool, self.pool.driver.start_session(**options))

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Connection]:
        """Enter a transaction in a session of its own; see `Connection.transaction`."""
        async with self.session() as connection, connection.transaction(**options):
            yield connection

    # Life

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of what the pool does."""
        return self.pool.statistics()

    async def close(self) -> None:
        """Close the pool, for all clients that share it. Need not be called: it is closed with its loop."""
        if self._pool is not None:
            await self._pool.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
