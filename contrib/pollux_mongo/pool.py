"""`ConnectionPool`: one driver client for a loop and a name, as long as the loop lives.

The driver (docs: pymongo.asynchronous.mongo_client) belongs to the loop it first ran on, keeps tasks there that watch
the servers, and must be closed before that loop is. So a pool is made for a loop, is found there by its name, and is
closed by the loop's close callback. The driver's own tasks belong to no caller: they are started in an empty context,
not in that of the request which happens to come first.

After a fork the sockets are the parent's as well: a child that used one would garble its parent's answers. The driver
only warns of that; here it is an error, and so is use from another loop.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import _get_running_loop
from collections.abc import Coroutine
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError

from pollux.ioloop import IOLoop
from pollux.log import gen_log
from pollux_mongo.driver_pool import DriverPool
from pollux_mongo.errors import PoolError
from pollux_mongo.options import PoolOptions, pool_options
from pollux_mongo.statistics import CommandMonitor, ConnectionMonitor, HeartbeatMonitor, PoolStatistics

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.asynchronous.database import AsyncDatabase

    from pollux_mongo.connection import Connection

FAREWELL = 2.0  # seconds to tell the servers of the end (endSessions, killCursors): whoever is gone forgets by himself

_getpid = os.getpid


class ConnectionPool:
    """The connections to one server or replica set, on one loop. Made by `Client`, or by this class' own name for a
    pool that is nobody else's, which its maker closes.

    :param options: those of `Client`.
    :ivar pool_id: its name.
    :ivar io_loop: the loop it belongs to.
    :ivar driver: PyMongo's `AsyncMongoClient`.
    :ivar dbname: the name of its database.
    :raises ValueError, TypeError: the options make no sense.
    :raises pymongo.errors.PyMongoError: the driver refuses one of its options.
    """

    def __init__(self, pool_id: str | None = None, *, io_loop: IOLoop | None = None, **options: Any) -> None:
        self._start(pool_id, io_loop or IOLoop.current(), pool_options(**options))

    def _start(self, pool_id: str | None, loop: IOLoop, options: PoolOptions) -> None:
        self.pool_id = pool_id or options.where
        self.io_loop = loop
        self.options = options
        self._pid = _getpid()
        self._closed = False
        self.tasks: set[asyncio.Task[Any]] = set()  # what was begun with a callback, and is not done
        self._connections = ConnectionMonitor()
        self._heartbeats = HeartbeatMonitor()
        self._commands = CommandMonitor() if options.count_commands else None
        monitors = [self._connections, self._heartbeats, *options.listeners]
        if self._commands is not None:
            monitors.append(self._commands)
        self.driver: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            **options.driver,
            event_listeners=monitors,
            _pool_class=partial(DriverPool, options.maxcached, options.maxusage),
        )
        try:
            self._database = self.driver.get_default_database(options.dbname)
            if options.dbname is not None:
                self._database = self.driver[options.dbname]
        except ConfigurationError:
            raise ValueError(
                "no database is named: give dbname=..., or a URI with one, as mongodb://host:27017/dbname"
            ) from None
        self.dbname = self._database.name
        # Done when the driver's tasks run. It waits for no server, but for the look-up of a mongodb+srv:// URI.
        self.opening: asyncio.Task[None] | None = Context().run(loop.create_task, self.driver.aconnect())
        self.opening.add_done_callback(self._opened)
        loop.add_close_callback(self._loop_closes)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self.opening = None
        if not opening.cancelled():
            opening.exception()  # the operation that comes first raises the same

    async def opened_first(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return `await work`, when the driver's own tasks were started."""
        try:
            if self.opening is not None:
                await asyncio.wait([self.opening])
        except BaseException:
            work.close()
            raise
        return await work

    def __repr__(self) -> str:
        return f"<ConnectionPool {self.pool_id!r} {self.dbname}{' closed' if self._closed else ''}>"

    # Who may use it

    def check(self) -> None:
        """:raises PoolError: it cannot be used from here."""
        if _get_running_loop() is not self.io_loop or _getpid() != self._pid or self._closed:
            self._refuse()

    def _refuse(self) -> None:
        """Raise, or return if no loop runs in this thread but the pool's is the current one."""
        what = f"pool {self.pool_id!r}"
        if _getpid() != self._pid:
            self._raise(
                f"{what} belongs to process {self._pid}, and this is {_getpid()}, forked from it: connections cannot "
                "be shared. Make a Client in the child"
            )
        if self._closed:
            self._raise(f"{what} is closed. Make a new Client: it gets a new pool")
        here = _get_running_loop() or IOLoop.current(instance=False)
        if here is not self.io_loop:
            self._raise(
                f"{what} belongs to {self.io_loop!r}, and was used on {here!r}: connections live on the loop that "
                "made them. Make a Client where that loop runs: one with the same pool_id gets a pool of its own there"
            )

    def _raise(self, message: str) -> NoReturn:
        raise PoolError(message)

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """PyMongo's `AsyncDatabase`: everything that is not here is there.

        :raises PoolError: the pool cannot be used from here.
        """
        self.check()
        return self._database

    def connection(self, session: AsyncClientSession | None = None) -> Connection:
        """Return a `Connection`: names of collections, and with a session, transactions."""
        from pollux_mongo.connection import Connection

        self.check()
        return Connection(self, session)

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of what the pool does. Costs nothing but the call; may be called by anybody."""
        counted, beats = self._connections, self._heartbeats
        servers = self.driver.topology_description.server_descriptions().items()
        return PoolStatistics(
            pool_id=self.pool_id,
            open=counted.created - counted.closed,
            in_use=counted.taken - counted.returned,
            waiting=counted.started - counted.taken - counted.refused,
            created=counted.created,
            closed=counted.closed,
            operations=counted.taken,
            refused=counted.refused,
            cleared=counted.cleared,
            heartbeats=beats.answered,
            failed_heartbeats=beats.failed_ones,
            servers=tuple(sorted((f"{host}:{port}", found.server_type_name) for (host, port), found in servers)),
            commands=self._commands.snapshot() if self._commands is not None else {},
        )

    # The end

    async def close(self) -> None:
        """End sessions and cursors on the server, and close all connections; what is under way is cancelled. A loop
        that is closed does this by itself. May be called again.

        :raises PoolError: it belongs to another loop or process.
        """
        if self._closed:
            return
        self.check()
        self._leave_loop()
        under_way = self.tasks - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        if self.opening is not None:
            under_way.add(self.opening)
        if under_way:
            await asyncio.wait(under_way, timeout=FAREWELL)
        try:
            async with asyncio.timeout(FAREWELL):
                await self.driver.close()
        except Exception as error:  # whatever keeps us from it, the closing is left
            gen_log.info("pool %r: no farewell to the server: %r", self.pool_id, error)
            await self.driver.close()  # by now it has forgotten what it was to tell

    def _leave_loop(self) -> None:
        self._closed = True
        self.io_loop.remove_close_callback(self._loop_closes)
        pools = _pools_of(self.io_loop)
        if pools.get(self.pool_id) is self:
            del pools[self.pool_id]

    def _loop_closes(self) -> None:
        if _get_running_loop() is None:
            self.io_loop.run_until_complete(self.close())
        else:  # a guest, whose host runs
            self._leave_loop()
            gen_log.warning(
                "pool %r was not closed before its loop: with a guest loop, `await client.close()` first", self.pool_id
            )


def _pools_of(loop: IOLoop) -> dict[str, ConnectionPool]:
    # With the loop, not beside it: whoever drops the loop drops its pools.
    pools: dict[str, ConnectionPool] = vars(loop).setdefault("_mongo_pools", {})
    return pools


class ConnectionPools:
    """The named pools of a loop; asyncmongo's name. Nothing is kept here: they live with their loops."""

    @staticmethod
    def get_connection_pool(
        pool_id: str | None, options: PoolOptions | None = None, *, io_loop: IOLoop | None = None, **named: Any
    ) -> ConnectionPool:
        """Return the loop's pool of this name; make it if there is none.

        :param pool_id: None: named for where its servers are.
        :param options: checked ones; or, `named`, those of `Client`. If there are none at all, the pool must exist.
        :raises ValueError: the pool exists, and was made with other options; or it does not, and none are given.
        :raises PoolError: the pool exists, but the process was forked since.
        """
        loop = io_loop or IOLoop.current()
        pools = _pools_of(loop)
        if options is None and named:
            options = pool_options(**named)
        if options is None and (pool_id is None or pool_id not in pools):
            raise ValueError(
                f"there is no pool {pool_id!r} yet on {loop!r} (there are: {', '.join(sorted(pools)) or 'none'}): "
                "say what it is to be connected to: host and port, uri, or rs and seed; and dbname"
            )
        name = pool_id or (options.where if options is not None else "")
        pool = pools.get(name)
        if pool is None:
            assert options is not None  # noqa: S101  # checked above
            pool = ConnectionPool.__new__(ConnectionPool)
            pool._start(name, loop, options)
            pools[name] = pool
        elif options is not None and options != pool.options:
            differing = ", ".join(pool.options.differences(options))
            raise ValueError(
                f"pool {name!r} exists already, with another {differing}: give each pool a pool_id of its own, or make "
                "all clients of one pool with the same options"
            )
        return pool

    @staticmethod
    async def close(pool_id: str | None = None) -> None:
        """Close the current loop's pool of this name, or all of its pools.

        :raises KeyError: it has none of this name.
        """
        pools = _pools_of(IOLoop.current())
        chosen = [pools[pool_id]] if pool_id is not None else list(pools.values())
        await asyncio.gather(*[pool.close() for pool in chosen])
