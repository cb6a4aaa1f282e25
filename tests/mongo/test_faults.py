"""What goes wrong between us and a server: a clear error or a completed retry; nothing lost, the pool whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo.errors import (
    AutoReconnect,
    DocumentTooLarge,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from pollux.testing.descriptors import refusing_address
from pollux_mongo import Client, errors
from tests.mongo.conftest import Run
from tests.mongo.servers import MongoServer, Network
from tests.mongo.test_results import documents

Make = Callable[..., Client]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that may be killed."""
    with MongoServer(tmp_path_factory.mktemp("mortal"), "--sync-on-commit") as server:
        yield server


async def whole(db: Client) -> bool:
    """Wait until no connection is at work and none is waited for: a lost one would keep us here. (The driver itself
    takes one now and then, and gives all up when its monitor has noticed, later than we, that the network broke.)
    """
    while (told := db.statistics()).in_use or told.waiting:
        await asyncio.sleep(0.005)
    return told.open >= 0 and (await db.command("ping"))["ok"] == 1


async def refused_with(db: Client, *words: str) -> None:
    """Ask until the error says so: at first it may be that nobody was heard of yet."""
    said = ""
    while not all(word in said for word in words):
        with pytest.raises(ServerSelectionTimeoutError) as caught:
            await db.users.find_one()
        said = str(caught.value)


def test_killed_and_restarted(run: Run, mortal: MongoServer) -> None:
    """kill -9 while a batch is on its way. The restarted server is found by itself, with what was written; it knows
    nothing of the cursors of before.
    """

    async def main() -> None:
        db = Client("mortal", host="127.0.0.1", port=mortal.port, dbname="test", serverSelectionTimeoutMS=20_000)
        await db.numbers.drop()
        await db.numbers.insert(documents(1000), j=True)
        half_read = db.numbers.find()
        await half_read.to_list(101)
        mortal.fail("getMore", blockTimeMS=10_000)
        count = 0
        with pytest.raises(errors.InterfaceError):
            async for _ in db.numbers.find():
                count += 1
                if count == 101:
                    asyncio.get_running_loop().call_later(0.05, mortal.kill)
        assert count == 101  # what had come is right
        mortal.start()
        with pytest.raises((errors.InterfaceError, errors.DatabaseError)):
            await half_read.to_list()
        await db.numbers.insert({"_id": 1000})
        assert [d["_id"] for d in await db.numbers.find()] == list(range(1001))
        assert await whole(db)
        assert db.statistics().cleared >= 1

    run(main())


def test_refused_port(run: Run) -> None:
    async def main() -> None:
        with refusing_address() as (host, port):
            db = Client("nobody", host=host, port=port, dbname="test", serverSelectionTimeoutMS=100)
            await refused_with(db, f"{host}:{port}: ", "Connect")
            told: list[Any] = []
            db.users.find(callback=lambda *both: told.append(both))
            with pytest.raises(errors.RSConnectionError):
                await db.users.insert({})
            while not told:
                await asyncio.sleep(0.005)
            assert isinstance(told[0][1], ServerSelectionTimeoutError)
            assert db.statistics().failed_heartbeats >= 1
            assert db.statistics().servers == ((f"{host}:{port}", "Unknown"),)

    run(main())


def test_no_such_replica_set(run: Run, make: Make, server: MongoServer) -> None:
    async def main() -> None:
        db = make("wrong", seed=[("127.0.0.1", server.port)], rs="another", serverSelectionTimeoutMS=100)
        await refused_with(db, 'replica set name "another"')

    run(main())


def test_network_swallows_everything(run: Run, make: Make, network: Network) -> None:
    async def main() -> None:
        db = make(port=network.port, directConnection=True, socketTimeoutMS=1500, retryReads=False)
        await db.users.insert({"_id": 1})
        network.swallow()
        with pytest.raises(NetworkTimeout, match="timed out"):
            await db.users.find_one(1)
        network.heal()
        assert await db.users.find_one(1) == {"_id": 1}
        assert await whole(db)

    run(main())


def test_monitor_interrupts_what_waits_for_ever(run: Run, make: Make, network: Network) -> None:
    """No time limit is set; but the driver's monitor hears nothing of the server either, and ends the waiting."""

    async def main() -> None:
        db = make(
            port=network.port, directConnection=True, heartbeatFrequencyMS=500, connectTimeoutMS=1500, retryReads=False,
            socketTimeoutMS=None,
        )  # fmt: skip
        await db.users.insert({"_id": 1})
        network.swallow()
        with pytest.raises(AutoReconnect):
            await asyncio.gather(*[db.users.find_one(1) for _ in range(3)])
        network.heal()
        assert await db.users.find_one(1) == {"_id": 1}
        assert await whole(db)

    run(main())


def test_time_limit_of_an_operation(run: Run, make: Make, failing: MongoServer) -> None:
    async def main() -> None:
        db = make(maxconnections=1)
        await db.users.insert({"_id": 1})
        failing.fail("find", blockTimeMS=10_000)
        with pytest.raises(errors.Error) as caught, pymongo.timeout(0.1):
            await db.users.find_one(1)
        assert caught.value.timeout
        with pymongo.timeout(20):
            assert await db.users.find_one(1) == {"_id": 1}
        assert await whole(db)

    run(main())


def test_network_is_cut(run: Run, make: Make, network: Network) -> None:
    """Reads and writes are tried again once, by the driver, and a write is not done twice."""

    async def main() -> None:
        db = make(port=network.port)
        await db.users.insert({"_id": 1, "n": 0})
        for _ in range(5):
            network.cut()
            assert (await db.users.find_one(1))["_id"] == 1
            network.cut()
            await db.users.update({"_id": 1}, {"$inc": {"n": 1}})
        assert (await db.users.find_one(1))["n"] == 5
        assert await whole(db)

    run(main())


def test_network_is_cut_under_load(run: Run, make: Make, network: Network) -> None:
    """Each of many either succeeds or is told; what succeeded is there."""

    async def main() -> None:
        db = make(port=network.port, maxconnections=10)
        await db.users.find_one()

        async def insert(number: int) -> int | None:
            try:
                await db.users.insert({"_id": number})
            except errors.InterfaceError:
                return None
            return number

        tasks = [asyncio.ensure_future(insert(number)) for number in range(200)]
        while db.statistics().operations < 100:
            await asyncio.sleep(0)
        network.cut()
        said = {number for number in await asyncio.gather(*tasks) if number is not None}
        there = {document["_id"] for document in await db.users.find()}
        assert said <= there
        assert await whole(db)

    run(main())


def test_without_retries(run: Run, make: Make, failing: MongoServer) -> None:
    async def main() -> None:
        db = make(autoreconnect=False)
        await db.users.insert({"_id": 1})
        for command, work in (("find", db.users.find_one), ("insert", db.users.insert_one)):
            failing.fail(command, closeConnection=True)
            with pytest.raises(AutoReconnect):
                await work({"_id": 2})
        assert await db.users.find_one(1) == {"_id": 1}
        assert await whole(db)

    run(main())


def test_commands_that_fail_once(run: Run, make: Make, failing: MongoServer) -> None:
    """Failpoints of the server: a retry completes."""

    async def main() -> None:
        db = make(heartbeatFrequencyMS=500)  # failpoints change nothing that the monitors are told of
        await db.users.insert([{"_id": 1, "n": 0}])
        failing.fail("find", closeConnection=True)
        assert await db.users.find_one(1) == {"_id": 1, "n": 0}
        failing.fail("find", errorCode=91)  # ShutdownInProgress
        assert len(await db.users.find()) == 1
        failing.fail("update", errorCode=91, errorLabels=["RetryableWriteError"])
        await db.users.update({"_id": 1}, {"$inc": {"n": 1}})
        failing.fail("insert", closeConnection=True)
        await db.users.insert({"_id": 2})
        assert (await db.users.find_one(1))["n"] == 1
        assert await db.users.count() == 2
        failing.fail("aggregate", "count", times=1, errorCode=8000)
        with pytest.raises(OperationFailure) as caught:
            await db.users.count()
        assert caught.value.code == 8000
        assert await whole(db)

    run(main())


def test_largest_documents(run: Run, make: Make) -> None:
    """15 MB, to and fro; and what is larger than a server takes (16 MiB) is refused here."""

    async def main() -> None:
        db = make()
        large = bytes(range(256)) * (15_000_000 // 256)
        await db.files.insert({"_id": 1, "content": large})
        found = await db.files.find_one(1)
        assert found["content"] == large
        with pytest.raises(DocumentTooLarge, match="too large"):
            await db.files.insert({"_id": 2, "content": large + bytes(2_000_000)})
        assert await db.files.count() == 1
        assert await whole(db)

    run(main())


def test_a_hundred_clients_at_once(run: Run, make: Make) -> None:
    """Each with requests of its own, over ten connections: every answer reaches whoever asked."""

    async def main() -> None:
        async def client(number: int) -> None:
            db = make("shared", maxconnections=10)
            for turn in range(4):
                _id = f"{number}.{turn}"
                await db.users.insert({"_id": _id, "number": number})
                assert await db.users.find_one(_id) == {"_id": _id, "number": number}
            assert len(await db.users.find({"number": number})) == 4

        await asyncio.gather(*[client(number) for number in range(100)])
        db = make("shared", maxconnections=10)
        assert await db.users.count() == 400
        assert db.statistics().created <= 10
        assert await whole(db)

    run(main())


def test_slow_consumer_holds_up_nobody(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make(maxconnections=2)
        await db.numbers.insert(documents(500, 1000))
        slow = db.numbers.find(batch_size=50)
        count = 0
        async for _ in slow:
            count += 1
            if count % 50 == 1:
                assert await asyncio.gather(*[db.numbers.count() for _ in range(4)]) == [500] * 4
                assert db.statistics().in_use == 0  # it keeps no connection while it thinks
        assert count == 500

    run(main())
