"""Change streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from pollux_mongo import Client
from tests.mongo.conftest import Run
from tests.mongo.servers import Network
from tests.mongo.test_results import Sent, until

Make = Callable[..., Client]


def test_every_write_is_told(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        async with db.users.watch(full_document="updateLookup") as changes, db.watch() as everywhere:
            await db.users.insert({"_id": 1})
            await db.other.insert({"_id": 1})
            await db.users.update({"_id": 1}, {"$set": {"name": "joe"}})
            seen = [await changes.__anext__() for _ in range(2)]
            assert seen[1]["fullDocument"] == {"_id": 1, "name": "joe"}
            await db.users.remove(1)
            seen.append(await changes.next())
            assert [change["operationType"] for change in seen] == ["insert", "update", "delete"]
            assert [(await everywhere.next())["ns"]["coll"] for _ in range(4)] == ["users", "other", "users", "users"]
            assert await changes.next(timeout=0) is None
        assert not changes.alive
        with pytest.raises(StopAsyncIteration):
            await changes.next()
        await changes.close()

    run(main())


def test_go_on_later(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        async with db.users.watch([{"$match": {"operationType": "insert"}}]) as changes:
            await db.users.insert([{"_id": n} for n in range(3)])
            assert (await changes.next())["documentKey"] == {"_id": 0}
            token = changes.resume_token
            assert changes.stream is not None
        async with db.users.watch(resume_after=token) as changes:
            assert [(await changes.next())["documentKey"]["_id"] for _ in range(2)] == [1, 2]

    run(main())


def test_each_waits_for_a_slow_receiver(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        changes = db.users.watch()
        await changes.begin()
        told: list[int] = []
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def write_message(change: dict[str, Any]) -> None:
            await asyncio.sleep(0)
            told.append(change["documentKey"]["_id"])
            if len(told) == 20:
                raise ConnectionResetError("the socket is closed")

        assert changes.each(write_message, callback=lambda *both: ended.set_result(both)) is None
        for number in range(20):
            await db.users.insert({"_id": number})
        response, error = await ended
        assert response is None
        assert isinstance(error, ConnectionResetError)
        assert told == list(range(20))
        assert not changes.alive

    run(main())


@pytest.mark.usefixtures("cursors_freed")
@pytest.mark.parametrize("when", ["beginning", "waiting"])
def test_cancelled(run: Run, make: Make, when: str) -> None:
    """Nothing stays on the server."""
    sent = Sent()

    async def main() -> None:
        db = make(event_listeners=[sent])
        await db.users.insert({"_id": 0})
        task = asyncio.ensure_future(db.users.watch().__anext__())
        sent.when["aggregate" if when == "beginning" else "getMore"] = task.cancel
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: len(sent.killed) == 1)

    run(main())


def test_nothing_is_lost_where_the_network_breaks(run: Run, make: Make, network: Network) -> None:
    async def main() -> None:
        direct, db = make("direct"), make("through", port=network.port)
        got: list[int] = []
        async with db.users.watch() as changes:
            for number in range(12):
                await direct.users.insert({"_id": number})
                if number % 4 == 3:
                    network.cut()
                got.append((await changes.next())["documentKey"]["_id"])
        assert got == list(range(12))

    run(main())


def test_refused(run: Run, make: Make) -> None:
    async def main() -> None:
        changes = make().users.watch([{"$nonsense": 1}])
        with pytest.raises(OperationFailure):
            await changes.begin()

    run(main())
