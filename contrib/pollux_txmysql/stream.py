"""Rows one after the other, while the server still sends them: `RowStream`.

A stream has a connection to itself until it is at its end. What is not read of it cannot be skipped in MySQL's
protocol, so one that is closed early costs its connection: the server is told to stop, and the client makes another
one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from pollux_txmysql.answer import Answer
from pollux_txmysql.channel import Channel
from pollux_txmysql.session import Arguments, Session

if TYPE_CHECKING:
    from pollux_txmysql.client import Client

_BATCH = 200  # rows fetched at once: some kilobytes, and few turns of the loop for many rows


class RowStream:
    """The rows of `Client.stream`, for `async for`, in tasks and in Twisted's coroutines; `async with` closes it.

    The query runs when the first row is asked for. It is never run again.
    """

    def __init__(self, client: Client, query: str, arguments: Arguments, *, as_dict: bool) -> None:
        self._client = client
        self._source = _Source(query, arguments, as_dict=as_dict)
        self._job: Answer[None] | None = None

    def __aiter__(self) -> RowStream:
        return self

    async def __anext__(self) -> Any:
        source = self._source
        while not source.rows:
            if source.done:
                raise StopAsyncIteration
            if self._job is None:
                self._job = self._client._submit(source.serve, source.query, statement=False)
                self._job.addCallbacks(source.end, source.fail)
            await source.more(self._client.loop)
        return source.rows.popleft()

    async def aclose(self) -> None:
        """End the stream. Rows that are not read are not sent any more."""
        self._source.rows.clear()
        self._end()

    def _end(self) -> None:
        self._source.done = True
        if self._job is not None:
            self._job.cancel()

    async def __aenter__(self) -> RowStream:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._job is not None and not self._job.called and not self._client.loop.is_closed():
            self._client.loop.call_soon(self._job.cancel)


class _Source:
    """What the channel has of a stream. It must not have the RowStream itself, whose end ends the query."""

    def __init__(self, query: str, arguments: Arguments, *, as_dict: bool) -> None:
        self.query = query
        self._arguments = arguments
        self._as_dict = as_dict
        self.rows: deque[Any] = deque()
        self.done = False
        self._ready: Answer[None] | None = None  # fires when there are rows, or none to come
        self._wanted: asyncio.Future[None] | None = None  # the channel waits for somebody who wants rows

    def more(self, loop: asyncio.AbstractEventLoop) -> Answer[None]:
        """Return an Answer that fires when there is something to look at."""
        self._ready = Answer(loop, lambda _answer: None)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        return self._ready

    async def serve(self, channel: Channel, session: Session) -> None:
        """The job."""
        loop = channel.loop
        channel.begin_timing()
        cursor = await session.stream(self.query, self._arguments)
        names = [column[0] for column in cursor.description or ()]
        while True:
            rows = await session.fetch(cursor, _BATCH) if names else []
            channel.end_timing()
            if not rows:
                return
            self.rows.extend([dict(zip(names, row, strict=True)) for row in rows] if self._as_dict else rows)
            self._wanted = loop.create_future()
            self._tell(None)
            await self._wanted
            channel.begin_timing()

    def end(self, _result: None) -> None:
        """All has been sent."""
        self.done = True
        self._tell(None)

    def fail(self, failure: Failure) -> None:
        """The query failed, or the stream was closed."""
        self.done = True
        self._tell(failure)

    def _tell(self, what: Failure | None) -> None:
        ready, self._ready = self._ready, None
        if ready is not None and not ready.called:
            if what is None:
                ready.callback(None)
            else:
                ready.errback(what)
