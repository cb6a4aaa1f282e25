"""Where we reach into the driver: its pool of connections to one server.

PyMongo lets the class of its pool be chosen (`_pool_class`, which its own tests use) and has no public way to limit
idle connections or to wear them out, which asyncmongo had (`maxcached`, `maxusage`). These private names are all that
is used of it; a test compares them with the PyMongo at hand:

* `Pool.checkin(conn)`: an operation gives its connection back. `Pool.conns`: the idle ones. `Pool.is_sdam`: whether the
  pool is that of a monitor, which is left alone.
* `AsyncConnection.close_conn(None)`: close without an event; `checkin` then reports the end, as it does for broken
  ones.
"""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.pool import AsyncConnection, Pool


class DriverPool(Pool):
    """The driver's pool, with two limits more.

    :param maxcached: idle connections that are kept, 0 for all.
    :param maxusage: operations after which a connection is closed, 0 for none.
    """

    def __init__(self, maxcached: int, maxusage: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._maxcached = maxcached
        self._maxusage = maxusage
        self._used: dict[int, int] = {}  # operations of a connection, by its number

    async def checkin(self, conn: AsyncConnection) -> None:
        """Take a connection back, or close it."""
        if not conn.closed and not self.is_sdam and self._is_one_too_many(conn):
            await conn.close_conn(None)
        if conn.closed:
            self._used.pop(conn.id, None)
        await super().checkin(conn)

    def _is_one_too_many(self, conn: AsyncConnection) -> bool:
        if self._maxusage:
            used = self._used[conn.id] = self._used.get(conn.id, 0) + 1
            if used >= self._maxusage:
                return True
        return bool(self._maxcached) and len(self.conns) >= self._maxcached
