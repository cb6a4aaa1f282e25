"""`Channel`: one connection of a client, as it comes and goes, and the one job that it has.

* A job is a coroutine on a `Session`. It is not a task: making one costs a third of what a short query does. `_Step`
  drives it from one future to the next; what needs a task (connecting, the functions of interactions) gets one.
* A connection that the loop knows to be lost is replaced before anything is sent. One that is lost under a statement
  means that nobody knows whether the statement was carried out: it is run again only if the client said so
  (`retry_on_error`), and never in a transaction, of which the new connection knows nothing.
* A statement that is past its time, or cancelled, is stopped on the server by a second connection, and the channel is
  not free before that is done: so a client never has more statements running than connections.
* Timers: one that is late rather than one for each query. It is set for the first query, and when it fires it looks
  what the time limit is by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from asyncmy import errors as driver
from twisted.python.failure import Failure

from pollux_txmysql.answer import Answer
from pollux_txmysql.errors import ConnectionLostError, MySQLError, QueryTimeoutError, translated
from pollux_txmysql.session import PAUSES, Session

if TYPE_CHECKING:
    from pollux_txmysql.client import Client

_TRIES = 3  # runs of one statement at most: one that ends the server each time must not do so for ever
Run = Callable[["Channel", Session], Coroutine[Any, Any, Any]]
_LOST = frozenset({2006, 2013, 2055, 1053, 1927, 3169, 4031})  # the last four: what a server says before it hangs up


class Job:
    """Something to do on a connection, and the Answer to it.

    :ivar run: what is to be done.
    :ivar query: what messages call it.
    :ivar database: the one it is for; None for whichever is current.
    :ivar statement: whether it is one statement: `query_timeout` applies to it, and it may be run again should its
        connection be lost. Else it sees to that by itself.
    """

    __slots__ = ("answer", "database", "query", "run", "statement", "timer")

    def __init__(self, run: Run, query: str, database: str | None, answer: Answer[Any], *, statement: bool) -> None:
        self.run, self.query, self.database, self.answer, self.statement = run, query, database, answer, statement
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, error: BaseException) -> None:
        """Tell the caller, unless it has cancelled."""
        if not self.answer.called:
            self.answer.errback(Failure(error, type(error), error.__traceback__))


class Channel:
    """A connection of a client. `start` gives it a job; when that is done it tells its client by `free`.

    :param session: a connection that is made already and belongs to somebody else: a transaction's. It is not replaced.
    """

    def __init__(self, client: Client, session: Session | None = None) -> None:
        self._client = client
        self._pinned = session is not None
        self.session = session
        self.job: Job | None = None
        self._step: _Step | None = None
        self._interruption: BaseException | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The client's."""
        return self._client.loop

    # Jobs

    def start(self, job: Job) -> None:
        """Begin with a job. Its first steps are taken at once."""
        if job.answer.called:  # cancelled on its way here
            self.job = None
            self._client.free(self)
            return
        self.job = job
        self._interruption = None
        _Step(self, self._perform(job))

    def interrupt(self, error: BaseException) -> None:
        """Break the job off; its caller gets `error`, if it still waits."""
        if self._step is None:
            if self.job is not None:
                self.job.fail(error)  # it has not begun, and will not
        elif self._interruption is None:
            self._interruption = error
            self._step.cancel()

    async def _perform(self, job: Job) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = await self._attempt(job)
        except asyncio.CancelledError as cancelled:
            error = await self._broken_off(job, cancelled)
        except Exception as failed:
            error = failed
        finally:
            self._deadline = None
            self.job = self._step = None
        self._client.free(self)  # first: what the caller does next may need a connection
        if error is not None:
            job.fail(error)
        elif not job.answer.called:
            job.answer.callback(result)

    async def _attempt(self, job: Job) -> Any:
        client = self._client
        attempt = 0
        while True:
            attempt += 1
            session = self.session
            if session is None or not session.is_alive():
                session = await self._open(job)
            in_transaction = session.in_transaction
            try:
                self.begin_timing()
                if session.database != job.database and job.database is not None:
                    await session.select(job.database)
                if not job.statement:
                    self.end_timing()
                result = await job.run(self, session)
                self._deadline = None
                if client.one_statement_each and session.in_transaction:
                    await self._refuse_transaction(job, session)
                return result
            except Exception as failed:
                self._deadline = None
                error = self._understood(failed, job, session)
                passing = isinstance(error, MySQLError) and error.msg in client.temporary_error_strings
                again = passing or (isinstance(error, ConnectionLostError) and client.retry_on_error)
                if not again or not job.statement or in_transaction or self._pinned or attempt == _TRIES:
                    if error is failed:
                        raise
                    raise error from failed
            self.discard()
            await asyncio.sleep(PAUSES[attempt - 1])

    def _understood(self, failed: Exception, job: Job, session: Session) -> Exception:
        """Return what the caller is told, and let go of a connection that is of no more use."""
        error = translated(failed, job.query) if job.statement or isinstance(failed, driver.Error) else failed
        said = error.errno if isinstance(error, MySQLError) else None
        if session.is_alive() and not (isinstance(failed, driver.Error) and said in _LOST):
            return error
        in_transaction = session.in_transaction
        session.drop()
        if not self._pinned:
            self.session = None
        if not isinstance(failed, driver.Error) or not isinstance(error, MySQLError):
            return error
        words = "whether the statement was carried out is not known"
        if in_transaction:
            words = "its transaction is undone"
            self._undone(job)
        return ConnectionLostError(
            f"the connection was lost, {words}: {error.msg}", error.errno, error.sqlstate, job.query
        )

    async def _open(self, job: Job) -> Session:
        """Make a connection in place of none, or of one that is known to be lost."""
        session = self.session
        if self._pinned:
            raise ConnectionLostError("the connection was lost in this transaction, which is undone", query=job.query)
        self.session = None
        if session is not None:
            session.drop()
            if session.in_transaction:
                self._undone(job)
                raise ConnectionLostError(
                    "the connection was lost in a transaction, which is undone; this statement was not sent",
                    query=job.query,
                )
        client = self._client
        connecting = client.loop.create_task(
            client.address.connect(job.database, client.connect_timeout, client.temporary_error_strings)
        )
        self.session = await connecting
        return self.session

    def _undone(self, job: Job) -> None:
        """A transaction begun by hand is lost. What waits in line behind was asked for when nobody knew: it may be the
        rest of it, and must not be carried out by itself."""
        if job.statement and not self._pinned:
            error = "the transaction before this statement was undone, as its connection was lost; it was not sent"
            self._client.fail_waiting(ConnectionLostError(error))

    async def _refuse_transaction(self, job: Job, session: Session) -> None:
        await session.run("ROLLBACK", None)
        raise MySQLError(
            "this statement has begun a transaction, which was rolled back: on a pool the next statement may have "
            "another connection. Use runInteraction",
            query=job.query,
        )

    async def _broken_off(self, job: Job, cancelled: asyncio.CancelledError) -> BaseException:
        """After an interruption: get rid of the connection, and of what runs on it on the server."""
        session, error = self.session, self._interruption
        if not self._pinned:
            self.session = None
        if session is not None:
            session.drop()
            if session.in_transaction:
                self._undone(job)
            client = self._client
            words = await client.loop.create_task(client.address.kill(session.number, client.connect_timeout))
            if isinstance(error, QueryTimeoutError):
                error = QueryTimeoutError(f"{error.msg}; {words}", query=job.query)
        return error or cancelled

    # Time

    def begin_timing(self) -> None:
        """A statement begins: it has `query_timeout` seconds."""
        if (limit := self._client.query_timeout) is not None:
            loop = self._client.loop
            self._deadline = loop.time() + limit
            if self._timer is None:
                self._timer = loop.call_at(self._deadline, self._look_at_the_time)

    def end_timing(self) -> None:
        """The statement is done, though not the job."""
        self._deadline = None

    def _look_at_the_time(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        loop = self._client.loop
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._look_at_the_time)
        else:
            limit = self._client.query_timeout
            self.interrupt(QueryTimeoutError(f"the query ran for longer than query_timeout, {limit:g} s"))

    def rest(self) -> None:
        """Begin to be idle: the connection is closed when that has lasted for `idle_timeout` seconds."""
        if (limit := self._client.idle_timeout) is not None and self.session is not None:
            loop = self._client.loop
            self._idle_since = loop.time()
            if self._idle_timer is None:
                self._idle_timer = loop.call_at(self._idle_since + limit, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        limit, loop = self._client.idle_timeout, self._client.loop
        if limit is None or self.session is None or self.job is not None or self.session.in_transaction:
            return  # a job that ends sets the timer anew
        if loop.time() < self._idle_since + limit:
            self._idle_timer = loop.call_at(self._idle_since + limit, self._look_whether_idle)
        else:
            session, self.session = self.session, None
            self._client.hold(loop.create_task(session.close()))

    # End

    def discard(self) -> None:
        """Close the connection at once; the next job has a new one."""
        session, self.session = self.session, None
        if session is not None:
            session.drop()

    def stop_timers(self) -> None:
        """Leave nothing behind in the loop."""
        for timer in (self._timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._idle_timer = None


class _Step:
    """Drives a coroutine that waits for futures only, each from the callback of the one before."""

    __slots__ = ("_cancelled", "_coroutine", "_waiting")

    def __init__(self, channel: Channel, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._cancelled = False
        self._waiting: asyncio.Future[Any] | None = None
        channel._step = self
        self._go_on(None)

    def _go_on(self, _done: asyncio.Future[Any] | None) -> None:
        try:
            if self._cancelled:
                self._cancelled = False
                future = self._coroutine.throw(asyncio.CancelledError())
            else:
                future = self._coroutine.send(None)
        except StopIteration:
            self._waiting = None
            return
        future._asyncio_future_blocking = False  # which a task does to say that it has taken it
        self._waiting = future
        future.add_done_callback(self._go_on)

    def cancel(self) -> None:
        """Cancel what is waited for: the coroutine gets CancelledError, as one in a task would."""
        if self._waiting is not None and not self._waiting.cancel():
            self._cancelled = True  # it is done already: the coroutine hears of it when it goes on
