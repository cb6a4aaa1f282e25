"""`Results`: what a query finds, whole, in batches, or document by document.

A server sends results in batches, and sends the next one when it is asked for; so whoever is slow slows the server
down, and no more than a batch is held. But a batch may have 16 MiB (the limit of a message's documents), which takes
0.1 s and more to decode, in one piece, while the loop stands still. So from the second batch on it is asked for as many
documents as make up `BATCH_BYTES`, going by the size of a few of those before, unless the caller chose a `batch_size`.
And a consumer that never waits is made to let the others run every `TURN` seconds.

The driver frees a cursor on the server if it is cancelled while it asks for more. It cannot if the very first batch is
on its way, since only that tells the cursor's number: the server would keep it for ten minutes. So the first batch is
waited for in a task of its own, which goes on when its waiter is cancelled, and then closes the cursor. What is dropped
half read, the driver frees within a second.

Of a driver's cursor we use two private names, which a test compares with the PyMongo at hand: `_data`, the rest of the
batch, and `_batch_size`, which the public method refuses to change once the cursor is open.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from bson import encode
from bson.errors import InvalidDocument
from pymongo.errors import InvalidOperation

from pollux_mongo.answering import Callback, answer, begin

if TYPE_CHECKING:
    from pollux_mongo.pool import ConnectionPool

BATCH_BYTES = 128 * 1024  # takes about 1 ms to decode: what a callback may take
MESSAGE_BYTES = 16 * 1024 * 1024  # a server ends a batch there
TURN = 0.002  # seconds
LOOKS = 16  # documents between two looks at the clock
POLL_INTERVAL = 0.1  # seconds between two questions to a server that answers tailable cursors without waiting

# Of the driver's cursor: each returns the cursor, and is refused once it is open.
_REFINEMENTS = {
    "add_option", "allow_disk_use", "batch_size", "collation", "comment", "hint", "limit", "max", "max_await_time_ms",
    "max_time_ms", "min", "remove_option", "skip", "sort", "where",
}  # fmt: skip


class Results:
    """What a query finds: await it, and it is a list; or `async for` it. It is read once.

        users = await db.users.find({"age": 30})
        async for user in db.users.find().sort("name"):
            ...

    Nothing is asked of the server until then. The refinements of PyMongo's cursor (`sort`, `limit`, `skip`, `hint`,
    `batch_size`, `max_time_ms`, `collation`, ...) can be called before.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        open_cursor: Callable[[], Any],
        *,
        tailable: bool = False,
        batch_size: int = 0,
        codec_options: Any = None,
    ) -> None:
        self._pool = pool
        self._open_cursor = open_cursor
        self._tailable = tailable
        self._batch_size = batch_size
        self._codec_options = codec_options
        self._cursor: Any = None
        self._begun = False
        self._documents: list[Any] = []  # the batch at hand, last one first
        self._asked = 0  # documents that the last batch was to have; 0: the server decided
        self._left_loop = 0.0  # when the loop last ran others
        self._until_look = LOOKS

    @property
    def cursor(self) -> Any:
        """PyMongo's cursor; that of an aggregation is None until the first batch is there."""
        if self._cursor is None:
            made = self._open_cursor()
            if inspect.isawaitable(made):
                made.close()  # type: ignore[attr-defined]
                return None
            self._cursor = made
        return self._cursor

    @property
    def alive(self) -> bool:
        """Whether there may be more to come."""
        return not self._begun or bool(self._documents) or (self._cursor is not None and self._cursor.alive)

    def __getattr__(self, name: str) -> Any:
        if name not in _REFINEMENTS:
            raise AttributeError(f"Results has no attribute {name!r}; PyMongo's cursor is its attribute `cursor`")
        cursor = self.cursor
        if cursor is None:
            raise InvalidOperation(f"{name}() is for find(): give an aggregation its options as arguments")

        def refine(*args: Any, **options: Any) -> Results:
            getattr(cursor, name)(*args, **options)
            if name == "batch_size":
                self._batch_size = args[0] if args else options["batch_size"]
            return self

        return refine

    # Reading

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.to_list().__await__()

    async def to_list(self, length: int | None = None) -> list[Any]:
        """Return what is left, or at most `length` documents of it. (Of a tailable cursor: what is there by now.)

        :raises ValueError: `length` is below 1.
        """
        if length is not None and length < 1:
            raise ValueError(f"length is at least 1, or None for all, got {length}")
        found: list[Any] = []
        while length is None or len(found) < length:
            if not self._documents and not await self._fetch():
                break
            if length is None:
                found += reversed(self._documents)
                self._documents.clear()
            else:
                while self._documents and len(found) < length:
                    found.append(self._documents.pop())
        return found

    def __aiter__(self) -> Results:
        return self

    async def __anext__(self) -> Any:
        if self._documents:
            self._until_look -= 1
            if self._until_look <= 0:
                self._until_look = LOOKS
                now = monotonic()
                if now - self._left_loop > TURN:
                    await asyncio.sleep(0)
                    self._left_loop = monotonic()
        elif not await self._wait_for_batch():
            raise StopAsyncIteration
        return self._documents.pop()

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Iterate over lists of documents, as they come from the server."""
        while self._documents or await self._wait_for_batch():
            batch = self._documents[::-1]
            self._documents.clear()
            yield batch

    def each(self, function: Callable[[Any], Any], callback: Callback | None = None) -> Any:
        """Call `function` with each document, and wait for what it returns if that can be awaited: a socket's
        `write_message`, say. So nobody is sent more than he takes.

        :param callback: called as `callback(count, error)` in the end.
        :returns: an awaitable of how many they were; None with a callback.
        """
        return answer(self._pool, self._each(function), callback)

    async def _each(self, function: Callable[[Any], Any]) -> int:
        count = 0
        try:
            async for document in self:
                count += 1
                result = function(document)
                if inspect.isawaitable(result):
                    await result
        finally:
            await self.close()
        return count

    # Batches

    async def _wait_for_batch(self) -> bool:
        """Have documents at hand; False if there are no more. A tailable cursor waits for them."""
        while not await self._fetch():
            if not (self._tailable and self._cursor.alive):
                return False
            # A server waits for documents itself, for a second or max_await_time_ms, and then says that there are none.
            if monotonic() - self._left_loop < POLL_INTERVAL:
                await asyncio.sleep(POLL_INTERVAL)
        return True

    async def _fetch(self) -> bool:
        """Ask for a batch; False if there is none, or none yet."""
        self._pool.check()
        asked_at = monotonic()
        if not self._begun:
            self._begun = True
            batch = await finished(self._pool, self._first_batch(), self.close)
        elif self._cursor is None or not self._cursor.alive:
            return False
        else:
            if not self._batch_size and self._asked:
                self._cursor._batch_size = self._asked
            batch = await _next_batch(self._cursor)
        self._left_loop = asked_at if self._tailable and not batch else monotonic()
        if not self._batch_size and self._cursor.alive:
            self._asked = self._fitting(batch) or self._asked
        batch.reverse()
        self._documents = batch
        return bool(batch)

    async def _first_batch(self) -> list[Any]:
        if self._pool.opening is not None:
            await asyncio.wait([self._pool.opening])
        cursor = self._cursor if self._cursor is not None else self._open_cursor()
        self._cursor = await cursor if inspect.isawaitable(cursor) else cursor
        return await _next_batch(self._cursor)

    def _fitting(self, batch: Sequence[Any]) -> int:
        """Return how many documents like these make up `BATCH_BYTES`; 0 if that cannot be told."""
        if not batch:
            return 0
        if len(batch) < self._asked:  # the server has stopped at its limit
            size = MESSAGE_BYTES // len(batch)
        else:
            some = {0, len(batch) // 2, len(batch) - 1}
            try:
                sizes = [len(encode(batch[place], codec_options=self._codec_options)) for place in some]
            except (InvalidDocument, TypeError):  # made of types that only the caller's codec knows
                return 0
            size = sum(sizes) // len(sizes)
        return max(1, BATCH_BYTES // max(1, size))

    # The end

    async def close(self) -> None:
        """Free the cursor on the server. What was read whole is freed already. May be called again."""
        self._begun = True
        self._documents.clear()
        if self._cursor is not None:
            await self._cursor.close()

    async def __aenter__(self) -> Results:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


async def _next_batch(cursor: Any) -> list[Any]:
    try:
        batch = [await cursor.next()]
    except StopAsyncIteration:
        return []
    batch.extend(cursor._data)
    cursor._data.clear()
    return batch


async def finished(pool: ConnectionPool, work: Any, close: Callable[[], Awaitable[None]]) -> Any:
    """Return `await work`. If its waiter is cancelled the work goes on, and then `close` is called."""
    task = begin(pool, work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:

        def free(done: asyncio.Task[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                begin(pool, close())  # type: ignore[arg-type]  # a coroutine

        task.add_done_callback(free)
        raise
