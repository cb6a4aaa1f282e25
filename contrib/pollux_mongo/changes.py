"""`Changes`: a change stream, which tells of every write (docs: MongoDB manual, "Change Streams").

The driver resumes a stream by itself after a failure of the network or of the primary, from the last change it has
handed out, so none is lost or told twice. Only what it cannot resume (the oplog has gone on too far, the collection was
dropped) ends it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pollux_mongo.answering import Callback, answer
from pollux_mongo.results import finished

if TYPE_CHECKING:
    from pollux_mongo.pool import ConnectionPool


class Changes:
    """The changes of a collection, a database or all databases, as they happen.

        async with db.users.watch([{"$match": {"operationType": "insert"}}]) as changes:
            async for change in changes:
                ...

    It begins when it is entered, or first asked for a change; what happens after that is told.
    """

    def __init__(self, pool: ConnectionPool, watch: Callable[[], Any]) -> None:
        self._pool = pool
        self._watch = watch
        self._stream: Any = None
        self._closed = False

    @property
    def stream(self) -> Any:
        """PyMongo's `AsyncChangeStream`; None before it has begun."""
        return self._stream

    @property
    def resume_token(self) -> Any:
        """Where the stream is: `watch(resume_after=token)` goes on from there, also in another process."""
        return None if self._stream is None else self._stream.resume_token

    @property
    def alive(self) -> bool:
        """Whether changes may come."""
        return not self._closed and (self._stream is None or self._stream.alive)

    async def begin(self) -> Changes:
        """Begin now, and return when the server watches."""
        self._pool.check()
        if self._stream is None and not self._closed:
            await finished(self._pool, self._begin(), self.close)
        return self

    async def _begin(self) -> None:
        if self._pool.opening is not None:
            await asyncio.wait([self._pool.opening])
        self._stream = await self._watch()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Any:
        if self._stream is None:
            await self.begin()
        else:
            self._pool.check()
        if self._closed:
            raise StopAsyncIteration
        return await self._stream.next()

    async def next(self, timeout: float | None = None) -> Any:
        """Return the next change; None if there is none within `timeout` seconds (None: wait without limit).

        The server is asked again and again: a timeout loses nothing.
        """
        if timeout is None:
            return await self.__anext__()
        await self.begin()
        loop = self._pool.io_loop
        deadline = loop.time() + timeout
        while not self._closed:
            change = await self._stream.try_next()  # the server itself waits, for a second or max_await_time_ms
            if change is not None or loop.time() >= deadline:
                return change
        return None

    def each(self, function: Callable[[Any], Any], callback: Callback | None = None) -> Any:
        """Call `function` with each change, and wait for what it returns if that can be awaited. It goes on until the
        stream ends, is closed, or `function` fails.

        :param callback: called as `callback(count, error)` in the end.
        :returns: an awaitable of how many they were; None with a callback.
        """
        return answer(self._pool, self._each(function), callback)

    async def _each(self, function: Callable[[Any], Any]) -> int:
        count = 0
        try:
            async for change in self:
                count += 1
                result = function(change)
                if inspect.isawaitable(result):
                    await result
        finally:
            await self.close()
        return count

    async def close(self) -> None:
        """End the stream, on the server too. May be called again."""
        self._closed = True
        if self._stream is not None:
            await self._stream.close()

    async def __aenter__(self) -> Changes:
        return await self.begin()

    async def __aexit__(self, *error: object) -> None:
        await self.close()
