"""Sessions, transactions, and files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from gridfs.errors import NoFile
from pymongo.errors import InvalidOperation, OperationFailure

from pollux import gen
from pollux_mongo import Client, Connection
from tests.mongo.conftest import Run

Make = Callable[..., Client]


async def balance(db: Client) -> list[int]:
    return [account["sum"] for account in await db.accounts.find().sort("_id")]


def test_all_or_nothing(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.accounts.insert([{"_id": "a", "sum": 10}, {"_id": "b", "sum": 0}])
        async with db.transaction() as connection:
            await connection.accounts.update({"_id": "a"}, {"$inc": {"sum": -5}})
            await connection["accounts"].update_one({"_id": "b"}, {"$inc": {"sum": 5}})
            assert (await connection.accounts.find_one("b"))["sum"] == 5
            assert await balance(db) == [10, 0]  # nobody else sees it yet
        assert await balance(db) == [5, 5]
        with pytest.raises(ZeroDivisionError):
            async with db.transaction() as connection:
                await connection.accounts.update({"_id": "a"}, {"$inc": {"sum": -5}})
                raise ZeroDivisionError
        assert await balance(db) == [5, 5]

    run(main())


def test_cancelled_transaction_is_aborted(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.accounts.insert([{"_id": "a", "sum": 10}, {"_id": "b", "sum": 0}])
        written = asyncio.Event()

        async def handler() -> None:
            async with db.transaction() as connection:
                await connection.accounts.update({"_id": "a"}, {"$inc": {"sum": -5}})
                written.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(handler())
        await written.wait()
        task.cancel()
        await asyncio.wait([task])
        assert await balance(db) == [10, 0]
        await db.accounts.update({"_id": "a"}, {"$inc": {"sum": 1}})  # nothing is locked
        assert await balance(db) == [11, 0]

    run(main())


def test_with_transaction_tries_again(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.accounts.insert([{"_id": "a", "sum": 0}])

        async def add(connection: Connection) -> str:
            account = await connection.accounts.find_one("a")
            await connection.accounts.update({"_id": "a"}, {"$set": {"sum": account["sum"] + 1}})
            return "added"

        async def one_of_many() -> Any:
            async with db.session() as connection:
                return await connection.with_transaction(add)

        assert await asyncio.gather(*[one_of_many() for _ in range(5)]) == ["added"] * 5
        assert await balance(db) == [5]

    run(main())


def test_conflict_is_told(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.accounts.insert([{"_id": "a", "sum": 0}])
        async with db.transaction() as first:
            await first.accounts.update({"_id": "a"}, {"$inc": {"sum": 1}})
            with pytest.raises(OperationFailure) as caught:
                async with db.transaction() as second:
                    await second.accounts.update({"_id": "a"}, {"$inc": {"sum": 1}})
            assert caught.value.has_error_label("TransientTransactionError")
        assert await balance(db) == [1]

    run(main())


def test_with_callbacks(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.accounts.insert([{"_id": "a", "sum": 0}])
        async with db.session() as connection:
            for end, expected in ((connection.rollback, [0]), (connection.commit, [1])):
                assert (await gen.Task(connection.begin)).args == (None, None)
                await gen.Task(connection.accounts.update, {"_id": "a"}, {"$inc": {"sum": 1}})
                assert (await gen.Task(end)).args == (None, None)
                assert await balance(db) == expected
        with pytest.raises(InvalidOperation, match="needs a session"):
            db.pool.connection().commit()
        with pytest.raises(InvalidOperation):
            await connection.accounts.find_one("a")  # it has ended
        with pytest.raises(AttributeError):
            _ = connection._nothing
        assert await db.pool.connection().cursor("accounts").count() == 1

    run(main())


# Files


async def pieces(count: int, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        await asyncio.sleep(0)
        yield bytes([number % 251]) * 100_000
    if then is not None:
        raise then


def test_files(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        files = db.gridfs()
        whole = b"".join([piece async for piece in pieces(12)])
        streamed = await files.put(pieces(12), "streamed", metadata={"type": "text"})
        at_once = await files.put(whole, "at once")
        assert await files.get(at_once) == whole
        digest, most = hashlib.sha256(), 0
        async for piece in files.read(streamed):
            digest.update(piece)
            most = max(most, len(piece))
        assert digest.digest() == hashlib.sha256(whole).digest()
        assert most <= 255 * 1024
        found = await files.find({"filename": "streamed"})
        assert [(file["_id"], file["length"], file["metadata"]) for file in found] == [
            (streamed, len(whole), {"type": "text"})
        ]
        await files.rename(streamed, "renamed")
        assert sorted([file["filename"] async for file in files.find()]) == ["at once", "renamed"]
        assert (await gen.Task(files.delete, streamed)).args == (None, None)
        for call in (files.get, files.delete):
            with pytest.raises(NoFile):
                await call(streamed)
        response, error = (await gen.Task(files.get, streamed)).args
        assert response is None
        assert isinstance(error, NoFile)
        assert await files.get(await files.put(b"", "empty")) == b""

    run(main())


@pytest.mark.parametrize("how", ["source fails", "cancelled"])
def test_unfinished_file_leaves_nothing(run: Run, make: Make, how: str) -> None:
    async def main() -> None:
        db = make()
        files = db.gridfs("pictures", chunk_size_bytes=50_000)
        if how == "cancelled":
            begun = asyncio.Event()

            async def endless() -> AsyncIterator[bytes]:
                async for piece in pieces(5):
                    yield piece
                begun.set()
                await asyncio.Event().wait()

            task = asyncio.ensure_future(files.put(endless(), "half"))
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            with pytest.raises(ConnectionResetError):
                await files.put(pieces(5, ConnectionResetError()), "half")
        assert await files.find() == []
        assert await db.pictures.chunks.count() == 0

    run(main())
