"""`Pool`: connections that stand and have nothing to do, to be used again.

What was decided
----------------
* A connection is used again only for an equal `Route`: the same origin, TLS context, proxy with its credentials, source
  address. Nothing else is kept with it, so nothing of one request can reach the next.
* The one that was used last is taken first: those that are not needed grow old. One timer for all of them closes what
  has been idle for too long.
* The loop watches idle connections: one that the server closes, or sends something on, leaves the pool at once.
"""

from __future__ import annotations

from asyncio import TimerHandle
from contextvars import Context
from typing import TYPE_CHECKING

from pollux.ioloop import IOLoop
from pollux_http.route import Route

if TYPE_CHECKING:
    from pollux_http.client_connection import ClientConnection


class Pool:
    """Idle connections.

    :param limit: how many are kept, over all routes.
    :param idle_time: seconds after which one is closed.
    """

    def __init__(self, loop: IOLoop, limit: int, idle_time: float) -> None:
        self._loop = loop
        self._limit = limit
        self._idle_time = idle_time
        self._by_route: dict[Route, list[ClientConnection]] = {}
        self._idle: dict[ClientConnection, float] = {}  # since when, the oldest first
        self._timer: TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, route: Route) -> ClientConnection | None:
        """Return an idle connection, None if there is none for this route."""
        connections = self._by_route.get(route)
        if not connections:
            return None
        connection = connections.pop()
        if not connections:
            del self._by_route[route]
        del self._idle[connection]
        return connection

    def put(self, connection: ClientConnection) -> None:
        """Keep a connection. Beyond the limit the oldest one is closed."""
        if self._closed or self._limit < 1:
            connection.close()
            return
        if len(self._idle) >= self._limit:
            next(iter(self._idle)).close()
        self._by_route.setdefault(connection.route, []).append(connection)
        self._idle[connection] = self._loop.time()
        if self._timer is None:
            self._set_timer(self._idle_time)

    def discard(self, connection: ClientConnection) -> None:
        """Forget a connection, if it is here."""
        if self._idle.pop(connection, None) is not None:
            connections = self._by_route[connection.route]
            connections.remove(connection)
            if not connections:
                del self._by_route[connection.route]

    def close(self) -> None:
        """Close all of them, and whatever is put here from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._idle):
            connection.close()

    def _set_timer(self, delay: float) -> None:
        self._timer = self._loop.call_later(delay, self._sweep, context=Context())

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection, since in list(self._idle.items()):
            if since + self._idle_time > now:
                self._set_timer(since + self._idle_time - now)
                return
            connection.close()
