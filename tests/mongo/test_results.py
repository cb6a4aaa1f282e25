"""Results whole, in batches and one by one; what is asked of the server, and what becomes of its cursor."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from bson import encode
from pymongo import monitoring
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import InvalidOperation

from pollux import gen
from pollux_mongo import Client
from pollux_mongo.results import BATCH_BYTES
from tests.mongo.conftest import Run
from tests.mongo.servers import MongoServer

Make = Callable[..., Client]


class Sent(monitoring.CommandListener):
    """Notes what was sent, and what was answered."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.killed: list[int] = []
        self.when: dict[str, Callable[[], object]] = {}  # what to do when a command is about to be sent

    def started(self, event: Any) -> None:
        self.commands.append((event.command_name, dict(event.command)))
        self.when.pop(event.command_name, lambda: None)()

    def succeeded(self, event: Any) -> None:
        if event.command_name == "killCursors":
            self.killed += event.reply["cursorsKilled"]

    def failed(self, event: Any) -> None:
        pass

    def names(self) -> list[str]:
        return [name for name, _ in self.commands if name in ("find", "getMore", "aggregate", "killCursors")]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the loop's own work brings about."""
    while not condition():
        await asyncio.sleep(0.002)


def documents(count: int, size: int = 10) -> list[dict[str, Any]]:
    return [{"_id": number, "filling": "x" * size} for number in range(count)]


def test_ways_to_read(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.numbers.insert(documents(1000))
        ids = list(range(1000))
        assert [d["_id"] for d in await db.numbers.find()] == ids
        assert [d["_id"] async for d in db.numbers.find()] == ids
        batches = [[d["_id"] for d in batch] async for batch in db.numbers.find(batch_size=300).batches()]
        assert [len(batch) for batch in batches] == [300, 300, 300, 100]
        assert [number for batch in batches for number in batch] == ids
        seen: list[int] = []
        assert await db.numbers.find().each(lambda d: seen.append(d["_id"])) == 1000
        assert seen == ids
        async with db.numbers.find() as results:
            assert [d["_id"] for d in await results.to_list(150)] == ids[:150]
            assert (await results.__anext__())["_id"] == 150
            assert results.alive
            assert [d["_id"] for d in await results.to_list()] == ids[151:]
            assert not results.alive
            assert await results == []
        assert [d["_id"] async for d in db.numbers.aggregate([{"$sort": {"_id": 1}}], batchSize=10)] == ids
        with pytest.raises(ValueError, match="at least 1"):
            await db.numbers.find().to_list(0)

    run(main())


def test_refinements(run: Run, make: Make) -> None:
    async def main() -> None:
        numbers = make().numbers
        await numbers.insert(documents(50))
        refined = numbers.find().sort("_id", -1).skip(5).limit(10).batch_size(3).max_time_ms(20_000).comment("c")
        assert [d["_id"] async for d in refined] == list(range(44, 34, -1))
        with pytest.raises(InvalidOperation):
            refined.limit(5)
        with pytest.raises(InvalidOperation, match="as arguments"):
            numbers.aggregate([]).sort("_id")
        with pytest.raises(AttributeError, match="its attribute `cursor`"):
            _ = numbers.find().nonsense
        assert isinstance(numbers.find().cursor, AsyncCursor)
        assert numbers.aggregate([]).cursor is None

    run(main())


def test_consumer_decides_how_much_is_sent(run: Run, make: Make) -> None:
    """Backpressure: nobody is asked for more before what was sent is used up."""
    sent = Sent()

    async def main() -> None:
        numbers = make(event_listeners=[sent]).numbers
        await numbers.insert(documents(100))
        taken = 0

        async def slow(document: dict[str, Any]) -> None:
            nonlocal taken
            taken += 1
            await asyncio.sleep(0)
            assert len(sent.names()) == (taken + 9) // 10  # batches of ten

        assert await numbers.find(batch_size=10).each(slow) == 100

    run(main())


def test_batches_are_cut_to_size(run: Run, make: Make) -> None:
    sent = Sent()

    async def main() -> None:
        big = make(event_listeners=[sent]).big
        await big.insert(documents(600, 20_000))
        sent.commands.clear()
        sizes = [sum(len(encode(document)) for document in batch) async for batch in big.find().batches()]
        assert len(sizes) > 20
        assert max(sizes[1:]) <= BATCH_BYTES
        assert min(sizes[1:-1]) > BATCH_BYTES / 2
        sent.commands.clear()
        await big.find(batch_size=700)
        assert sent.names() == ["find"]  # the caller knows best

    run(main())


def test_documents_are_not_kept(run: Run, make: Make) -> None:
    async def main() -> None:
        big = make().big
        for _ in range(3):
            await big.insert([{"filling": "x" * 10_000} for _ in range(200)])
        await big.find_one()
        tracemalloc.start()
        try:
            count = 0
            async for _ in big.find():
                count += 1
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert count == 600
        assert most < 4_000_000  # of 6 MB: the first batch has 101 documents, as bytes and decoded

    run(main())


def test_loop_goes_on_while_documents_are_read(run: Run, make: Make) -> None:
    """A consumer that never waits lets others run, though all it reads has come already."""

    async def main() -> None:
        numbers = make().numbers
        await numbers.insert(documents(2000))
        results = numbers.find(batch_size=2000)
        await results.__anext__()
        loop, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        loop.call_soon(turn)
        async for _ in results:
            for _ in range(300):  # some work
                pass
        assert turns

    run(main())


# Cancellation


@pytest.mark.usefixtures("cursors_freed")
def test_cancelled_between_batches(run: Run, make: Make) -> None:
    """Whoever is cancelled while he does something else with a document."""
    sent = Sent()

    async def main() -> None:
        numbers = make(event_listeners=[sent]).numbers
        await numbers.insert(documents(500))

        busy = asyncio.Event()

        async def handler() -> None:
            async with numbers.find(batch_size=10) as results:
                async for _ in results:
                    busy.set()
                    await asyncio.Event().wait()

        task = asyncio.ensure_future(handler())
        await busy.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert len(sent.killed) == 1

    run(main())


@pytest.mark.usefixtures("cursors_freed")
def test_dropped_half_read(run: Run, make: Make) -> None:
    """A loop that is left by `break`: the driver frees the cursor when nobody knows it any more."""
    sent = Sent()

    async def main() -> None:
        numbers = make(event_listeners=[sent]).numbers
        await numbers.insert(documents(500))
        async for _ in numbers.find():
            break
        await until(lambda: bool(sent.killed))

    run(main())


@pytest.mark.usefixtures("cursors_freed")
@pytest.mark.parametrize("command", ["find", "aggregate", "getMore"])
def test_cancelled_while_the_server_works(run: Run, make: Make, command: str) -> None:
    """The first batch is on its way: only its answer tells what is to be freed. The pool stays whole."""
    sent = Sent()

    async def main() -> None:
        db = make(event_listeners=[sent], maxconnections=3)
        await db.numbers.insert(documents(500))
        reading = db.numbers.aggregate([{"$match": {}}]) if command == "aggregate" else db.numbers.find(batch_size=50)
        task = asyncio.ensure_future(reading.to_list())
        sent.when[command] = task.cancel
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: len(sent.killed) == 1)
        assert len(await db.numbers.find()) == 500
        await until(lambda: not db.statistics().in_use)

    run(main())


@pytest.mark.usefixtures("cursors_freed")
def test_callback_is_told_of_an_error_in_the_middle(run: Run, make: Make, failing: MongoServer) -> None:
    async def main() -> None:
        numbers = make().numbers
        await numbers.insert(documents(500))
        failing.fail("getMore", errorCode=2)
        response, error = (await gen.Task(numbers.find)).args
        assert response is None
        assert error.code == 2
        response, error = (await gen.Task(numbers.find)).args
        assert (len(response), error) == (500, None)

    run(main())


def test_tailable(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.database.create_collection("log", capped=True, size=100_000)
        await db.log.insert({"n": 0})
        arrived: asyncio.Queue[int] = asyncio.Queue()
        async with db.log.find(tailable=True) as results:
            reading = asyncio.ensure_future(results.each(lambda line: arrived.put(line["n"])))
            for number in range(5):
                assert await arrived.get() == number
                await db.log.insert({"n": number + 1})
            assert await arrived.get() == 5
            assert results.alive
            reading.cancel()
            await asyncio.wait([reading])
        assert await db.log.find(tailable=True).to_list() == await db.log.find()

    run(main())


def test_private_names_of_the_driver_are_there(run: Run, make: Make) -> None:
    async def main() -> None:
        numbers = make().numbers
        await numbers.insert(documents(10))
        for results in (numbers.find(batch_size=3), numbers.aggregate([{"$match": {}}], batchSize=3)):
            await results.__anext__()
            assert results.cursor._data is not None
            assert results.cursor._batch_size == 3

    run(main())
