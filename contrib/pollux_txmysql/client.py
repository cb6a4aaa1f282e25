"""`MySQLConnection` and `ConnectionPool`, by txMySQL's names: what they have in common is `Client`.

A client has some channels, each with at most one connection, and a queue. A query takes a free channel, the one that
was used last, so that the others may fall idle; if there is none it waits in line. `MySQLConnection` is a client with
one channel, `ConnectionPool` one with several.

https://github.com/hybridlogic/txMySQL
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pollux.ioloop import IOLoop
from pollux_txmysql.answer import Answer
from pollux_txmysql.channel import Channel, Job, Run
from pollux_txmysql.errors import MySQLError, PoolExhaustedError
from pollux_txmysql.session import Address, Arguments, Session
from pollux_txmysql.stream import RowStream

_CONNECT_TIMEOUT = 10.0  # seconds, as most MySQL clients have it


class Client:
    """Runs statements on its connections. See `MySQLConnection` and `ConnectionPool`."""

    one_statement_each = False  # whether two statements of a caller may have different connections

    def __init__(
        self,
        address: Address,
        database: str | None,
        *,
        connect_timeout: float | None = None,
        query_timeout: float | None = None,
        idle_timeout: float | None = None,
        wait_timeout: float | None = None,
        retry_on_error: bool = False,
        temporary_error_strings: Iterable[str] = (),
    ) -> None:
        self.address = address
        self.database = database
        self.connect_timeout = _CONNECT_TIMEOUT if connect_timeout is None else connect_timeout
        self.query_timeout = query_timeout
        self.idle_timeout = idle_timeout
        self.wait_timeout = wait_timeout
        self.retry_on_error = retry_on_error
        self.temporary_error_strings = frozenset(temporary_error_strings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._channels: list[Channel] = []
        self._free: list[Channel] = []
        self._waiting: deque[Job] = deque()
        self._held: set[asyncio.Task[Any]] = set()
        self._quiet: asyncio.Future[None] | None = None

    # Statements

    def runQuery(  # noqa: N802
        self, query: str, query_args: Arguments = None, *, as_dict: bool = False
    ) -> Answer[list[Any]]:
        """Return an Answer that fires with the rows of a query: a list of tuples, or of dicts.

        :param query: with `%s` for each of `query_args` (a tuple or list), or `%(name)s` (a dict), never in quotes; a
            percent sign is then `%%`. A list among the values fits `IN %s`.
        """
        if as_dict:
            return self._submit(lambda _channel, session: _dicts(session, query, query_args), query)
        return self._submit(lambda _channel, session: session.query(query, query_args), query)

    def runOperation(self, query: str, query_args: Arguments = None) -> Answer[int]:  # noqa: N802
        """Return an Answer that fires with the number of rows a statement has changed."""
        return self._submit(lambda _channel, session: session.run(query, query_args), query)

    def fetchone(self, query: str, query_args: Arguments = None) -> Answer[Any]:
        """Return an Answer that fires with the first column of the first row, None if there is no row."""

        async def run(_channel: Channel, session: Session) -> Any:
            rows = await session.query(query, query_args)
            return rows[0][0] if rows else None

        return self._submit(run, query)

    def selectDb(self, db: str) -> Answer[None]:  # noqa: N802
        """Make a database the current one for all statements that are asked for from now on.

        If the server refuses, the Answer fails and the database before it is current again.
        """
        before, self.database = self.database, db

        def undo(failure: Failure) -> Failure:
            if self.database == db:
                self.database = before
            return failure

        answer: Answer[None] = self._submit(_nothing, f"USE {db}")
        answer.addErrback(undo)
        return answer

    def stream(self, query: str, query_args: Arguments = None, *, as_dict: bool = False) -> RowStream:
        """Return the rows of a query for `async for`, which fetches them from the server as it goes."""
        return RowStream(self, query, query_args, as_dict=as_dict)

    # The machine

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the connections; there is one once something has been asked for."""
        if self._loop is None:
            raise MySQLError("this client has no loop yet: it takes that of the first query")
        return self._loop

    def _submit(self, run: Run, query: str, *, statement: bool = True) -> Answer[Any]:
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is not loop:
            loop = self._bind()
        answer: Answer[Any] = Answer(loop, self._cancel)
        job = Job(run, query, self.database, answer, statement=statement)
        if self._free:
            self._free.pop().start(job)
        else:
            self._waiting.append(job)
            if self.wait_timeout is not None:
                job.timer = loop.call_later(self.wait_timeout, self._give_up, job)
        return answer

    def free(self, channel: Channel) -> None:
        """A channel has done its job."""
        while self._waiting:
            job = self._waiting.popleft()
            if job.timer is not None:
                job.timer.cancel()
            if not job.answer.called:
                channel.job = job
                self.loop.call_soon(channel.start, job)  # not at once: each start might end at once, and so on
                return
        self._free.append(channel)
        channel.rest()
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _cancel(self, answer: Deferred[Any]) -> None:
        for channel in self._channels:
            if channel.job is not None and channel.job.answer is answer:
                channel.interrupt(CancelledError())

    def fail_waiting(self, error: MySQLError) -> None:
        """Fail all that is in line."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            if job.timer is not None:
                job.timer.cancel()
            job.fail(error)

    def _give_up(self, job: Job) -> None:
        if not job.answer.called:
            busy = len(self._channels) - len(self._free)
            job.fail(
                PoolExhaustedError(
                    f"no connection became free within wait_timeout, {self.wait_timeout:g} s: {busy} of "
                    f"{len(self._channels)} are in use, {len(self._waiting) - 1} others wait",
                    query=job.query,
                )
            )

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it is done."""
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _until_quiet(self) -> None:
        """Wait until nothing runs and nothing waits."""
        while len(self._free) < len(self._channels):
            self._quiet = self.loop.create_future()
            await self._quiet

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the loop that runs, or that is current; a client stays with the first one while that is open."""
        loop: asyncio.AbstractEventLoop | None = asyncio._get_running_loop()
        if loop is None:
            loop = IOLoop.current(instance=False)
        if loop is None:
            raise MySQLError(
                "there is no event loop here: run one, or make one current (in a Twisted program: "
                "pollux_twisted.attach() or install())"
            )
        if loop is self._loop:
            return loop
        if self._loop is not None and self._loop.is_running() and self._thread == threading.get_ident():
            return self._loop  # one of the two is a guest of the other: Twisted's asyncioreactor, and attach()
        if self._loop is not None and not self._loop.is_closed():
            raise MySQLError(
                f"this client belongs to {self._loop!r}, and {loop!r} is running: a client is for one loop at a time"
            )
        self._adopt(loop)
        self._thread = threading.get_ident()
        return loop

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        raise NotImplementedError


class Server(Client):
    """A client that makes its connections by itself."""

    def __init__(
        self,
        channels: int,
        hostname: str,
        username: str,
        password: str,
        database: str | None,
        port: int,
        charset: str,
        tls: ssl.SSLContext | bool | None,
        **settings: Any,
    ) -> None:
        if tls is True:
            tls = ssl.create_default_context()
        address = Address(hostname, port, username, password, charset, tls or None)
        super().__init__(address, database, **settings)
        self._number = channels

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channels = [Channel(self) for _ in range(self._number)]
        self._free = list(self._channels)
        self._waiting.clear()
        if isinstance(loop, IOLoop):
            loop.add_close_callback(self._loop_closes)

    def disconnect(self) -> Answer[None]:
        """Close all connections; return an Answer that fires with None when that is done.

        What runs is stopped on the server, and it and what waits fail. A later query connects again.
        """
        loop = self._bind()
        if isinstance(loop, IOLoop):
            loop.remove_close_callback(self._loop_closes)
            loop.add_close_callback(self._loop_closes)
        closing = loop.create_task(self._disconnect())
        answer: Answer[None] = Answer(loop, lambda _answer: None)
        closing.add_done_callback(lambda done: None if done.cancelled() or answer.called else answer.callback(None))
        self.hold(closing)
        return answer

    async def _disconnect(self) -> None:
        error = MySQLError("the client was disconnected by disconnect()")
        self.fail_waiting(error)
        for channel in self._channels:
            channel.interrupt(error)
        await self._until_quiet()
        for channel in self._channels:
            channel.stop_timers()
            session, channel.session = channel.session, None
            if session is not None:
                await session.close()

    def _loop_closes(self) -> None:
        if self._loop is not None and asyncio._get_running_loop() is None:
            self._loop.run_until_complete(self._disconnect())
            return
        for channel in self._channels:  # a guest closes while its host runs: no time for a goodbye
            channel.stop_timers()
            channel.discard()

    # Several statements

    def runInteraction(  # noqa: N802
        self, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Answer[Any]:
        """Run a function in a transaction of its own; return an Answer that fires with its result.

        :param function: is called with a `Transaction`, `args` and `kwargs`. It may be a coroutine, return a Deferred,
            or neither. If it fails the transaction is rolled back, and the Answer fails with its exception; else it is
            committed. It is called once, whatever happens to the connection.
        """
        from pollux_txmysql.interaction import interact

        def run(channel: Channel, session: Session) -> Coroutine[Any, Any, Any]:
            return interact(self, channel, session, function, args, kwargs)

        return self._submit(run, f"transaction of {getattr(function, '__qualname__', function)!s}", statement=False)


class MySQLConnection(Server):
    """One connection, which is made by the first query; queries run one after the other.

    :param hostname: a name or address, or the path of a Unix socket.
    :param database: the one to select; None for none.
    :param connect_timeout: seconds within which a connection must be made, all attempts together; None: 10.
    :param query_timeout: seconds for which a statement may run; None: for ever. One that runs for longer is stopped on
        the server, and its connection is dropped.
    :param idle_timeout: seconds without a query after which the connection is closed; None: never.
    :param retry_on_error: whether a statement whose connection was lost under it is run again, three times at most. It
        may then be carried out more than once. Never so in a transaction.
    :param temporary_error_strings: messages of the server upon which a statement is run again on a new connection.
    :param wait_timeout: seconds that a query may wait in line; None: for ever.
    :param charset: the character set of the connection.
    :param tls: a context, or True for one that trusts the system's authorities; None: no TLS. With it there is no
        connection without TLS.
    """

    def __init__(
        self,
        hostname: str,
        username: str,
        password: str,
        database: str | None = None,
        connect_timeout: float | None = None,
        query_timeout: float | None = None,
        idle_timeout: float | None = None,
        retry_on_error: bool = False,
        temporary_error_strings: Iterable[str] = (),
        port: int = 3306,
        *,
        wait_timeout: float | None = None,
        charset: str = "utf8mb4",
        tls: ssl.SSLContext | bool | None = None,
    ) -> None:
        super().__init__(
            *(1, hostname, username, password, database, port, charset, tls),
            connect_timeout=connect_timeout,
            query_timeout=query_timeout,
            idle_timeout=idle_timeout,
            retry_on_error=retry_on_error,
            temporary_error_strings=temporary_error_strings,
            wait_timeout=wait_timeout,
        )


class ConnectionPool(Server):
    """Several connections, each made when it is first needed; a query has any of them.

    :param num_connections: how many statements may run at once.
    :param wait_timeout: seconds that a query may wait for a free connection before it fails with `PoolExhaustedError`;
        None: for ever.

    The other parameters are those of `MySQLConnection`.
    """

    one_statement_each = True

    def __init__(
        self,
        hostname: str,
        username: str,
        password: str,
        database: str | None = None,
        num_connections: int = 5,
        connect_timeout: float | None = None,
        query_timeout: float | None = None,
        idle_timeout: float | None = None,
        retry_on_error: bool = False,
        temporary_error_strings: Iterable[str] = (),
        port: int = 3306,
        *,
        wait_timeout: float | None = 30.0,
        charset: str = "utf8mb4",
        tls: ssl.SSLContext | bool | None = None,
    ) -> None:
        if num_connections < 1:
            raise ValueError(f"num_connections is {num_connections!r}, expected at least 1")
        super().__init__(
            *(num_connections, hostname, username, password, database, port, charset, tls),
            connect_timeout=connect_timeout,
            query_timeout=query_timeout,
            idle_timeout=idle_timeout,
            retry_on_error=retry_on_error,
            temporary_error_strings=temporary_error_strings,
            wait_timeout=wait_timeout,
        )


async def _nothing(_channel: Channel, _session: Session) -> None:
    """The database is selected before any job: nothing is left to do."""


async def _dicts(session: Session, query: str, arguments: Arguments) -> list[dict[str, Any]]:
    rows = await session.query(query, arguments)
    names = session.names()
    return [dict(zip(names, row, strict=True)) for row in rows]
