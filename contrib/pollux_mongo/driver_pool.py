"""Where we reach into the driver: its pool of connections to one server, and how a connection waits for an answer.

PyMongo lets the class of its pool be chosen (`_pool_class`, which its own tests use). Two things are gained by that:

* Limits that asyncmongo had and the driver has no public name for: `maxcached` idle connections, `maxusage` operations.
* The driver waits for each answer with two tasks: one reads, the other looks twice a second whether the operation is to
  be interrupted (which its monitor does when a server fails). That is a fifth of a short operation's CPU time. Here the
  answer is awaited in the task that asked, and the interruption, instead of setting a flag, ends the waiting.

The private names that this takes are those below; `FITS` is False for a PyMongo that lacks one, which is then used as
it is. A test says so of the PyMongo at hand.

* `Pool.connect`, `checkin(conn)`, `conns` (the idle ones), `active_contexts`, `is_sdam` (the pool of a monitor, which
  is left alone);
* `AsyncConnection.receive_message(request_id)`, `close_conn(None)` (close without an event; `checkin` then reports the
  end, as it does for broken ones), `cancel_context`, `conn`, `_raise_connection_failure(error)`, `max_message_size`;
* `AsyncNetworkingInterface.get_conn`, `gettimeout`; `PyMongoProtocol.read`, `close`;
* `_csot.get_timeout`, `get_deadline`: of `timeoutMS`. `_UNPACK_REPLY`: from bytes to a message, by its kind.
"""

from __future__ import annotations

import asyncio
import time
from types import MethodType
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous import pool as _pool
from pymongo.errors import ProtocolError

if TYPE_CHECKING:
    from pymongo.asynchronous.pool import AsyncConnection, Pool
else:
    AsyncConnection, Pool = _pool.AsyncConnection, _pool.Pool

try:
    from pymongo import _csot
    from pymongo.errors import _OperationCancelled
    from pymongo.message import _UNPACK_REPLY
    from pymongo.network_layer import AsyncNetworkingInterface, PyMongoProtocol
    from pymongo.pool_shared import _CancellationContext

    FITS = all(
        hasattr(owner, name)
        for owner, names in (
            (Pool, ("connect", "checkin")),
            (AsyncConnection, ("receive_message", "close_conn", "_raise_connection_failure")),
            (AsyncNetworkingInterface, ("get_conn", "gettimeout")),
            (PyMongoProtocol, ("read", "close")),
            (_csot, ("get_timeout", "get_deadline")),
        )
        for name in names
    )
except ImportError:
    FITS = False


class DriverPool(Pool):
    """The driver's pool, with two limits more, of connections that wait as above.

    :param maxcached: idle connections that are kept, 0 for all.
    :param maxusage: operations after which a connection is closed, 0 for none.
    """

    def __init__(self, maxcached: int, maxusage: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._maxcached = maxcached
        self._maxusage = maxusage
        self._used: dict[int, int] = {}  # operations of a connection, by its number
        if not (maxcached or maxusage):
            self.checkin = super().checkin  # type: ignore[method-assign]  # nothing to do, so nothing in between

    async def connect(self, *args: Any, **kwargs: Any) -> AsyncConnection:
        """Make a connection."""
        conn = await super().connect(*args, **kwargs)
        if FITS and not self.is_sdam:
            interruption = _Interruption(conn.conn.get_conn)
            async with self.lock:
                self.active_contexts.discard(conn.cancel_context)
                self.active_contexts.add(interruption)
            if conn.cancel_context.cancelled:
                interruption.cancel()
            conn.cancel_context = interruption
            conn.receive_message = MethodType(_receive_message, conn)  # type: ignore[method-assign]
        return conn

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


class _Interruption(_CancellationContext):
    """What the driver cancels to interrupt an operation, and when it closes the connection."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol

    def cancel(self) -> None:
        if not self.cancelled:
            super().cancel()
            # Later: a connection that is being closed does so by itself, with another error.
            asyncio.get_running_loop().call_soon(self._protocol.close, _OperationCancelled("operation cancelled"))


async def _receive_message(self: AsyncConnection, request_id: int | None) -> Any:
    """Return the next message. What goes wrong closes the connection, as in the method that this stands in for."""
    try:
        protocol = self.conn.get_conn
        if _csot.get_timeout():
            timeout: float | None = max(0.0, _csot.get_deadline() - time.monotonic())
        else:
            timeout = protocol.gettimeout or None
        if timeout is None:
            data, kind = await protocol.read(request_id, self.max_message_size)
        else:
            try:
                async with asyncio.timeout(timeout):
                    data, kind = await protocol.read(request_id, self.max_message_size)
            except TimeoutError:
                raise TimeoutError("timed out") from None
        if kind not in _UNPACK_REPLY:
            raise ProtocolError(f"Got opcode {kind!r} but expected {list(_UNPACK_REPLY)!r}")
        return _UNPACK_REPLY[kind](data)
    except BaseException as error:
        await self._raise_connection_failure(error)
