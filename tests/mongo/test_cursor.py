"""Operations on a collection, by asyncmongo's names and by PyMongo's, on every backend."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from pymongo import DESCENDING, InsertOne, UpdateOne
from pymongo.errors import CollectionInvalid, DuplicateKeyError, InvalidName, OperationFailure

import pollux_mongo as asyncmongo
from pollux import IOLoop, gen
from pollux_mongo import Client, Cursor, errors
from tests.mongo.conftest import Run
from tests.mongo.servers import MongoServer

Make = Callable[..., Client]


def test_writes_answer_as_get_last_error_did(run: Run, make: Make) -> None:
    async def main() -> None:
        users = make().users
        document: dict[str, Any] = {"name": "joe"}
        assert await users.insert(document) == [{"ok": 1.0, "err": None, "n": 1}]
        assert "_id" in document
        assert (await users.insert([{"_id": 1}, {"_id": 2}]))[0]["n"] == 2
        (done,) = await users.update({"_id": 1}, {"$set": {"name": "ann"}})
        assert (done["n"], done["updatedExisting"], "upserted" in done) == (1, True, False)
        (done,) = await users.update({"_id": 9}, {"name": "new"}, upsert=True)
        assert (done["updatedExisting"], done["upserted"]) == (False, 9)
        (done,) = await users.update({"_id": 77}, {"$set": {"name": "nobody"}})
        assert (done["n"], done["updatedExisting"]) == (0, False)
        (done,) = await users.update({}, {"$set": {"seen": True}}, multi=True, w=1)
        assert done["n"] == 4
        assert await users.find_one(1) == {"_id": 1, "name": "ann", "seen": True}
        await users.save({"_id": 1, "name": "bob"})
        assert await users.find_one({"_id": 1}) == {"_id": 1, "name": "bob"}
        saved: dict[str, Any] = {"name": "saved"}
        await users.save(saved)
        assert await users.count({"_id": saved["_id"]}) == 1
        assert (await users.remove(1))[0]["n"] == 1
        assert (await users.remove({"seen": True}, multi=False))[0]["n"] == 1
        assert (await users.remove())[0]["n"] == 3
        assert await users.count() == 0

    run(main())


def test_queries(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        await db.users.insert([{"_id": n, "age": n % 5, "name": f"user {n}"} for n in range(20)])
        found = await db.users.find({"age": 3}, ["name"], 1, 2, sort="_id")
        assert found == [{"_id": 8, "name": "user 8"}, {"_id": 13, "name": "user 13"}]
        assert await db.users.find({"_id": 3}, []) == [{"_id": 3}]
        assert [d["_id"] for d in await db.users.find(sort=[("age", -1), ("_id", 1)], limit=2)] == [4, 9]
        ones = db.users.find(filter={"age": 1}, projection={"age": 0}).sort("_id")
        assert [user["_id"] for user in await ones] == [1, 6, 11, 16]
        assert len(await db.users.find(limit=None, slave_okay=True, timeout=False, batch_size=7)) == 20
        assert await db.users.find_one({"age": 99}) is None
        last = await db.users.find_one({"age": 2}, {"name": 1}, sort=[("_id", DESCENDING)])
        assert last == {"_id": 17, "name": "user 17"}
        assert sorted(await db.users.distinct("age", {"_id": {"$lt": 3}})) == [0, 1, 2]
        summed = await db.users.aggregate([{"$group": {"_id": "$age", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
        assert summed == [{"_id": age, "n": 4} for age in range(5)]
        assert len(await db.users.aggregate([{"$match": {}}], batchSize=3).to_list(5)) == 5
        assert sorted(await db.collection_names()) == ["users"]

    run(main())


def test_find_and_modify(run: Run, make: Make) -> None:
    async def main() -> None:
        foo = make().foo
        query = {"_id": 2}
        assert await foo.find_and_modify(query, {"$set": {"s": "a"}}, upsert=True, new=True) == {"_id": 2, "s": "a"}
        assert await foo.find_and_modify(query, {"$set": {"s": "b"}}) == {"_id": 2, "s": "a"}
        assert await foo.find_and_modify(query, {"t": 1}, new=True, fields=["t"]) == {"_id": 2, "t": 1}
        assert await foo.find_and_modify(query, remove=True) == {"_id": 2, "t": 1}
        assert await foo.find_and_modify(query, remove=True) is None
        with pytest.raises(TypeError, match="either updates or removes"):
            await foo.find_and_modify(query)

    run(main())


def test_indexes_and_hints(run: Run, make: Make) -> None:
    async def main() -> None:
        users = make().users
        await users.insert([{"_id": n, "name": f"user {n % 7}"} for n in range(30)])
        assert await users.ensure_index("name") == "name_1"
        assert await users.create_index([("name", 1), ("_id", -1)]) == "name_1__id_-1"
        assert {*await users.index_information()} == {"_id_", "name_1", "name_1__id_-1"}
        assert [index["name"] async for index in users.list_indexes()] == [*await users.index_information()]
        assert len(await users.find({"name": "user 3"}, hint={"name": 1})) == 4
        assert len(await users.find({"name": "user 3"}, hint="name_1")) == 4
        with pytest.raises(OperationFailure):
            await users.find({"name": "user 3"}, hint="no such index")
        await users.drop_index("name_1")
        assert {*await users.index_information()} == {"_id_", "name_1__id_-1"}
        await users.drop()
        assert await users.count() == 0

    run(main())


def test_pymongos_names(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        users = db.users
        assert (await users.insert_one({"_id": 1})).inserted_id == 1
        assert (await users.insert_many([{"_id": 2}, {"_id": 3}])).inserted_ids == [2, 3]
        assert (await users.update_many({}, {"$inc": {"n": 1}})).modified_count == 3
        assert (await users.update_one({"_id": 1}, {"$inc": {"n": 1}})).matched_count == 1
        assert (await users.replace_one({"_id": 2}, {"n": 5})).modified_count == 1
        assert (await users.find_one_and_update({"_id": 3}, {"$set": {"n": 9}}))["n"] == 1
        assert (await users.delete_one({"_id": 3})).deleted_count == 1
        written = await users.bulk_write([InsertOne({"_id": 4}), UpdateOne({"_id": 1}, {"$set": {"n": 0}})])
        assert (written.inserted_count, written.modified_count) == (1, 1)
        more = f"{db.pool.dbname}.more"
        everywhere = await db.bulk_write(
            [InsertOne({"_id": 5}, namespace=users.full_collection_name), InsertOne({"_id": 6}, namespace=more)]
        )
        assert everywhere.inserted_count == 2
        assert await users.count_documents({}) == await users.estimated_document_count() == 4
        assert sorted(await users.distinct("n")) == [0, 5]
        await users.rename("people")
        assert await db.people.find_one({"_id": 2}) == {"_id": 2, "n": 5}
        assert (await db.people.delete_many({})).deleted_count == 4
        assert users.full_name == f"{db.pool.dbname}.users"
        assert db.database.name == db.pool.dbname
        assert users.with_options(write_concern=users.write_concern).name == "users"
        assert (await db.command("ping"))["ok"] == 1
        assert (await db.command({"count": "more"}))["n"] == 1
        assert (await db.command("no such command", check=False))["ok"] == 0

    run(main())


def test_collections_below_collections(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make()
        assert db.users.archive.old.full_collection_name == f"{db.pool.dbname}.users.archive.old"
        assert isinstance(db["find"], Cursor)
        assert db.connection("users", "other").full_collection_name == "other.users"
        await db.users.archive.insert({"_id": 1})
        assert await db["users.archive"].find_one(1) == {"_id": 1}
        with pytest.raises(TypeError, match=r"'fnid_one': that is a collection; did you mean find_one\(\)"):
            db.users.fnid_one({})
        with pytest.raises(TypeError, match="async for"):
            iter(db.users)
        for name in ("", "a..b", ".a", "a$b", "a\0b"):
            with pytest.raises(InvalidName):
                db[name]
        with pytest.raises(AttributeError):
            _ = db._nothing
        with pytest.raises(AttributeError):
            _ = db.users._nothing

    run(main())


def test_bad_arguments_are_refused_before_anything_is_sent(run: Run, make: Make) -> None:
    async def main() -> None:
        users = make().users
        with pytest.raises(TypeError, match="sort by _id"):
            users.find(snapshot=True)
        with pytest.raises(TypeError, match="max_time_ms"):
            users.find(max_scan=5)
        with pytest.raises(TypeError, match="two names of one argument"):
            users.find({"a": 1}, filter={"a": 1})
        with pytest.raises(TypeError, match=r"by operators such as \$set"):
            users.update({}, {"name": "joe"}, multi=True)
        with pytest.raises(errors.DatabaseError, match="operators alone"):
            users.update({}, {"name": "joe", "$set": {"a": 1}})
        with pytest.raises(TypeError, match="an update is a document"):
            users.update({}, 5)
        with pytest.raises(TypeError, match="safe is True or False"):
            users.insert({}, safe=1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callback= needs safe=True"):
            users.insert({}, safe=False, callback=print)
        with pytest.raises(TypeError, match=r"callback\(response, error\)"):
            users.find_one(1, callback=5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await users.find_one(1, nonsense=True)
        assert await users.find(snapshot=False, debug=True, _must_use_master=True) == []

    run(main())


def test_duplicate_keys(run: Run, make: Make) -> None:
    async def main() -> None:
        users = make().users
        await users.insert({"_id": 1})
        with pytest.raises(errors.IntegrityError) as caught:
            await users.insert({"_id": 1})
        assert isinstance(caught.value, DuplicateKeyError)
        assert caught.value.code == 11000
        with pytest.raises(errors.DatabaseError):
            await users.insert([{"_id": 2}, {"_id": 1}, {"_id": 3}])
        assert await users.count() == 2
        with pytest.raises(errors.DatabaseError):
            await users.insert([{"_id": 2}, {"_id": 4}], continue_on_error=True)
        assert await users.count() == 3
        await users.create_index("name", unique=True, sparse=True)
        await users.insert({"name": "joe"})
        with pytest.raises(DuplicateKeyError, match="name"):
            await users.update({"_id": 1}, {"$set": {"name": "joe"}})

    run(main())


# Callbacks and generators


class Answers:
    """Callbacks that note what they are called with, and stop the loop when there were enough."""

    def __init__(self, loop: IOLoop) -> None:
        self._loop = loop
        self._missing = 0
        self.got: dict[str, tuple[Any, Any]] = {}

    def __call__(self, name: str) -> Callable[[Any, Any], None]:
        self._missing += 1

        def callback(response: Any, error: Any) -> None:
            self.got[name] = (response, error)
            self._missing -= 1
            if not self._missing:
                self._loop.stop()

        return callback

    def wait(self) -> None:
        """Run the loop until all were called."""
        timer = self._loop.call_later(30, self._loop.stop)
        self._loop.start()
        self._loop.remove_timeout(timer)
        assert not self._missing


@pytest.fixture
def loop(backend: str) -> Generator[IOLoop, None, None]:
    loop = IOLoop(backend, make_current=True)
    yield loop
    loop.close()


def test_a_program_of_asyncmongos_days(loop: IOLoop, server: MongoServer, dbname: str) -> None:
    """Made before the loop runs; each answer by its callback; the pool goes with the loop."""
    db = asyncmongo.Client(
        pool_id="mydb", host="127.0.0.1", port=server.port, maxcached=10, maxconnections=50, dbname=dbname,
        backend="tornado",
    )  # fmt: skip
    answers = Answers(loop)
    assert db.users.insert({"_id": "insert.1"}, callback=answers("inserted")) is None
    answers.wait()
    db.users.insert({"_id": "insert.1"}, callback=answers("again"))
    db.users.find_one({"_id": "insert.1"}, callback=answers("found"))
    db.users.find_one({"_id": "nobody"}, callback=answers("nobody"))
    db.users.find({"_id": {"$gt": "a"}}, limit=1, callback=answers("many"))
    db.connection(collectionname="users", dbname=dbname).find(callback=answers("connection"))
    db.users.aggregate([{"$count": "n"}], callback=answers("aggregated"))
    db.collection_names(callback=answers("names"))
    change: dict[str, Any] = {"query": {"_id": 2}, "update": {"$set": {"s": "a"}}, "upsert": True, "new": True}
    db.command("findAndModify", "foo", callback=answers("modified"), **change)
    answers.wait()
    got = answers.got
    assert got["inserted"] == ([{"ok": 1.0, "err": None, "n": 1}], None)
    assert got["again"][0] is None
    assert isinstance(got["again"][1], errors.IntegrityError)
    assert got["found"] == ({"_id": "insert.1"}, None)
    assert got["nobody"] == (None, None)
    assert got["many"] == got["connection"] == ([{"_id": "insert.1"}], None)
    assert got["aggregated"] == ([{"n": 1}], None)
    assert "users" in got["names"][0]
    assert got["modified"][0]["value"] == {"_id": 2, "s": "a"}
    db.users.remove({"_id": "insert.1"}, callback=answers("removed"))
    db.users.insert_one({"_id": 2}, callback=answers("modern"))
    answers.wait()
    assert answers.got["removed"][0][0]["n"] == 1
    assert answers.got["modern"][0].inserted_id == 2


def test_unacknowledged_writes_begin_by_themselves(loop: IOLoop, make: Make) -> None:
    db = make(maxconnections=2)
    for _ in range(4):
        db.stats.update({"_id": 1}, {"$inc": {"n": 1}}, safe=False, upsert=True)

    async def until_all_are_there() -> int:
        await db.stats.update({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        while (n := (await db.stats.find_one(1))["n"]) < 5:
            await gen.sleep(0.001)
        return int(n)

    assert loop.run_sync(until_all_are_there, timeout=30) == 5
    assert db.statistics().open <= 2

    async def awaited() -> Any:
        return await db.stats.remove(1, safe=False), await db.stats.insert({}, safe=False)

    assert loop.run_sync(awaited, timeout=30)[1] == [{"ok": 1.0, "err": None, "n": 1}]


def test_generators(loop: IOLoop, make: Make) -> None:
    db = make()

    @gen.engine
    def with_task(callback: Callable[[Any], None]) -> Generator[Any, Any, None]:
        yield gen.Task(db.users.insert, [{"_id": 1}, {"_id": 2}])
        response, error = (yield gen.Task(db.users.find_one, 1)).args
        assert (response, error) == ({"_id": 1}, None)
        response, error = (yield gen.Task(db.users.insert, {"_id": 1})).args
        assert response is None
        assert isinstance(error, DuplicateKeyError)
        callback((yield gen.Task(db.users.find)).args[0])

    @gen.coroutine
    def with_yield() -> Generator[Any, Any, Any]:
        found, count, one = yield [db.users.find(), db.users.count(), db.users.find_one(2)]
        with pytest.raises(DuplicateKeyError):
            yield db.users.insert({"_id": 1})
        names = yield {"names": db.collection_names()}
        raise gen.Return((found, count, one, names))

    assert loop.run_sync(lambda: gen.Task(with_task), timeout=30) == [{"_id": 1}, {"_id": 2}]
    found, count, one, names = loop.run_sync(with_yield, timeout=30)
    assert (found, count, one, names) == ([{"_id": 1}, {"_id": 2}], 2, {"_id": 2}, {"names": ["users"]})


def test_what_a_callback_raises_is_logged_and_the_loop_lives(
    loop: IOLoop, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    db = make()
    answers = Answers(loop)

    def raises(response: Any, error: Any) -> None:
        raise ZeroDivisionError("in the callback")

    db.users.find_one(1, callback=raises)
    db.users.find_one(1, callback=answers("after"))
    answers.wait()
    while not caplog.records:
        loop.run_sync(lambda: db.users.find_one(1), timeout=30)
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_create_twice(run: Run, make: Make) -> None:
    """What is not here is there: PyMongo's database."""

    async def main() -> None:
        database = make().database
        await database.create_collection("here")
        with pytest.raises(CollectionInvalid):
            await database.create_collection("here")

    run(main())
