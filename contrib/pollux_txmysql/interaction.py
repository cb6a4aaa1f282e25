"""Transactions: `interact` runs a function between BEGIN and COMMIT or ROLLBACK, on one connection.

* Nothing in a transaction is run again: what came before it is undone with the connection.
* A connection lost while COMMIT is under way leaves open whether the transaction was committed. That is said, for only
  the caller can find out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from pollux.ioloop import IOLoop
from pollux_twisted import as_future
from pollux_txmysql.answer import Answer
from pollux_txmysql.channel import Channel, Run
from pollux_txmysql.client import Client, Server
from pollux_txmysql.errors import ConnectionLostError, MySQLError
from pollux_txmysql.session import Session


class Transaction(Client):
    """A transaction that is open: `runQuery`, `runOperation`, `fetchone`, `selectDb`. Its statements run one after the
    other on one connection, none of them twice.
    """

    def __init__(self, server: Server, session: Session) -> None:
        super().__init__(server.address, server.database, query_timeout=server.query_timeout)
        self._adopt(server.loop)
        self._channels = [Channel(self, session)]
        self._free = list(self._channels)
        self._over = False

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def _submit(self, run: Run, query: str, *, statement: bool = True) -> Answer[Any]:
        if self._over:
            raise MySQLError("this transaction is over: its function has returned", query=query)
        return super()._submit(run, query, statement=statement)

    async def end(self) -> None:
        """Take no more statements, and wait for those that were asked for."""
        self._over = True
        await self._until_quiet()
        self._channels[0].stop_timers()


async def interact(
    server: Server,
    channel: Channel,
    session: Session,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run `function` in a transaction and return its result."""
    await _timed(channel, session, "START TRANSACTION")
    transaction = Transaction(server, session)
    running = server.loop.create_task(_called(server.loop, function, transaction, args, kwargs))
    try:
        result = await running
    except BaseException as error:
        await transaction.end()
        if session.is_alive() and isinstance(error, Exception):  # else the connection is dropped, which does it
            await _timed(channel, session, "ROLLBACK")
        raise
    await transaction.end()
    if not session.is_alive():
        raise ConnectionLostError("the connection was lost in a transaction, which is undone")
    try:
        await _timed(channel, session, "COMMIT")
    except Exception as error:
        if session.is_alive():
            raise
        words = "the connection was lost while committing: whether the transaction was committed is not known"
        raise ConnectionLostError(words, query="COMMIT") from error
    return result


async def _called(
    loop: asyncio.AbstractEventLoop,
    function: Callable[..., Any],
    transaction: Transaction,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    result = function(transaction, *args, **kwargs)
    if isinstance(result, Deferred) and not isinstance(result, Answer) and isinstance(loop, IOLoop):
        return await as_future(result, loop)
    return await result if inspect.isawaitable(result) else result


async def _timed(channel: Channel, session: Session, word: str) -> None:
    channel.begin_timing()
    await session.run(word, None)
    channel.end_timing()
