"""Pools: found by name, bound to a loop and a process, closed with the loop; their limits, and what they tell."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from pymongo.asynchronous.pool import Pool
from pymongo.errors import ConfigurationError
from pymongo.pool_options import PoolOptions

import pollux
from pollux import IOLoop, registry
from pollux.guest import Guest
from pollux.guest_asyncio import AsyncioHost
from pollux.stack_context import StackContext
from pollux.testing.descriptors import nothing_left_open
from pollux_mongo import Client, ConnectionPool, ConnectionPools, PoolError, driver_pool, errors
from tests.mongo.conftest import Run
from tests.mongo.servers import MongoServer, Network
from tests.reactor.loops import BACKENDS, run_script

Make = Callable[..., Client]


def test_clients_of_one_name_share_a_pool(run: Run, make: Make, server: MongoServer) -> None:
    async def main() -> None:
        first, second, by_name = make("shared"), make("shared"), Client("shared")
        assert first.pool is second.pool is by_name.pool
        assert make("another").pool is not first.pool
        unnamed = make(None)
        assert make(None).pool is unnamed.pool
        assert unnamed.pool.pool_id == f"mongodb://127.0.0.1:{server.port}"
        assert ConnectionPools.get_connection_pool("shared") is first.pool
        with pytest.raises(ValueError, match=r"'shared' exists already, with another.*maxPoolSize") as told:
            _ = make("shared", maxconnections=7, dbpass="secret", dbuser="joe").pool
        assert "secret" not in str(told.value)
        with pytest.raises(ValueError, match=r"there is no pool 'unknown' yet.*there are: another"):
            _ = Client("unknown").pool
        await ConnectionPools.close("another")
        with pytest.raises(KeyError):
            await ConnectionPools.close("another")
        old = first.pool
        await first.close()
        await first.close()
        with pytest.raises(PoolError, match="is closed"):
            await second.users.find_one()
        assert make("shared").pool is not old
        await ConnectionPools.close()

    run(main())


def test_client_of_a_uri(run: Run, server: MongoServer, dbname: str) -> None:
    async def main() -> None:
        uri = f"mongodb://127.0.0.1:{server.port}/{dbname}?maxPoolSize=3&replicaSet=secantus&readPreference=nearest"
        async with Client(uri=uri) as db:
            await db.users.insert({"_id": 1})
            assert await db.users.find_one(1) == {"_id": 1}
            assert db.pool.dbname == dbname
            assert db.statistics().servers == ((f"127.0.0.1:{server.port}", "RSPrimary"),)
        async with Client("rs", rs="secantus", seed=[("127.0.0.1", server.port)], dbname=dbname, slave_okay=True) as db:
            assert await db.users.find_one(1) == {"_id": 1}
        with pytest.raises(ValueError, match="no database is named"):
            _ = Client(uri=f"mongodb://127.0.0.1:{server.port}/").users
        with pytest.raises(ConfigurationError, match="nonsense"):
            _ = Client("a", host="127.0.0.1", dbname="a", nonsense=1).users

    run(main())


def test_pool_of_ones_own(run: Run, server: MongoServer, dbname: str) -> None:
    async def main() -> None:
        pool = ConnectionPool(host="127.0.0.1", port=server.port, dbname=dbname)
        assert await pool.connection().users.insert({"_id": 1})
        assert repr(pool) == f"<ConnectionPool 'mongodb://127.0.0.1:{server.port}' {dbname}>"
        await pool.close()
        assert "closed" in repr(pool)

    run(main())


def test_limits_of_connections(run: Run, make: Make) -> None:
    async def main() -> None:
        few = make("few", maxconnections=3)
        await asyncio.gather(*[few.users.insert({"_id": n}) for n in range(40)])
        assert await few.users.count() == 40
        assert few.statistics().created <= 3
        kept = make("kept", maxcached=2)
        await asyncio.gather(*[kept.users.find_one(n) for n in range(10)])
        told = kept.statistics()
        assert told.open <= 2
        assert told.in_use == told.waiting == told.refused == 0
        worn = make("worn", maxusage=4, maxconnections=1)
        for number in range(12):
            assert await worn.users.find_one(number) == {"_id": number}
        assert worn.statistics().created == worn.statistics().closed == 3
        assert worn.statistics().operations == 12
        ready = make("ready", mincached=2)
        await ready.users.find_one()
        while ready.statistics().open < 2:
            await asyncio.sleep(0.01)

    run(main())


def test_no_connection_free_in_time(run: Run, make: Make, failing: MongoServer) -> None:
    async def main() -> None:
        db = make(maxconnections=1, waitQueueTimeoutMS=50)
        await db.users.insert({"_id": 1})
        failing.fail("find", blockTimeMS=10_000)
        slow = asyncio.ensure_future(db.users.find_one(1))
        while not db.statistics().in_use:
            await asyncio.sleep(0)
        with pytest.raises(errors.TooManyConnections):
            await db.users.find_one(1)
        slow.cancel()
        await asyncio.wait([slow])
        assert await db.users.find_one(1) == {"_id": 1}
        assert (db.statistics().in_use, db.statistics().waiting) == (0, 0)
        assert db.statistics().refused >= 1  # the driver may have tried twice

    run(main())


def test_statistics_of_commands(run: Run, make: Make) -> None:
    async def main() -> None:
        db = make(count_commands=True)
        for _ in range(3):
            await db.users.find_one()
        with pytest.raises(errors.DatabaseError):
            await db.users.find_one({"$nonsense": 1})
        await db.users.insert({})
        found = db.statistics().commands
        assert (found["find"].count, found["find"].failures, found["insert"].count) == (4, 1, 1)
        assert found["find"].seconds > 0
        assert db.statistics().heartbeats > 0
        assert make("silent").statistics().commands == {}

    run(main())


# Loops


def test_other_loop(backend: str, make: Make) -> None:
    """Each has its pool, and a client that was used stays with its own."""
    with nothing_left_open():
        db = make()

        async def use() -> Any:
            return await db.users.count()

        one, other = pollux.new_event_loop(backend), pollux.new_event_loop(backend)
        try:
            assert one.run_until_complete(use()) == 0
            with pytest.raises(PoolError, match="belongs to <IOLoop"):
                other.run_until_complete(use())
            mine, again = db.pool, make()

            async def use_again() -> Any:
                return again.pool, await again.users.count()

            assert other.run_until_complete(use_again())[0] is not mine
            other.close()
            assert one.run_until_complete(use()) == 0
        finally:
            one.close()
            other.close()
        one = IOLoop(backend, make_current=True)
        with pytest.raises(PoolError, match="is closed"):
            db.users.find_one()
        one.close()
        gc.collect()


def test_closed_with_the_loop(backend: str, make: Make, server: MongoServer) -> None:
    """Nobody closes anything: the sockets are gone all the same, and so are the cursors."""

    async def main() -> None:
        db = make()
        await db.users.insert([{"_id": n} for n in range(500)])
        left = db.users.find(batch_size=5)
        await left.__anext__()
        held.append(left)

    held: list[Any] = []
    with nothing_left_open():
        pollux.run(main(), backend=backend)
        loop = IOLoop(backend, make_current=True)
        db = make()
        answers: list[Any] = []

        def on_count(response: Any, error: Any) -> None:
            answers.append((response, error))
            loop.stop()

        db.users.count(callback=on_count)
        loop.start()
        assert answers == [(500, None)]
        loop.close()
        gc.collect()
    assert held[0].alive


def test_closed_loop_with_a_dead_server(backend: str, make: Make, server: MongoServer) -> None:
    """It takes leave of nobody."""

    async def main() -> None:
        db = make(port=network.port, directConnection=True)
        await db.users.insert([{"_id": n} for n in range(200)])
        held.append(db.users.find(batch_size=5))
        await held[0].__anext__()
        network.close()

    held: list[Any] = []
    with nothing_left_open(), Network(server.port) as network:
        pollux.run(main(), backend=backend)
        held.clear()
        gc.collect()


def test_what_is_under_way_when_a_pool_is_closed(run: Run, make: Make, failing: MongoServer) -> None:
    async def main() -> None:
        db = make()
        await db.users.insert({"_id": 1})
        failing.fail("find", blockTimeMS=10_000)
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        db.users.find(callback=lambda *both: answered.set_result(both))
        while not db.statistics().in_use:
            await asyncio.sleep(0)
        await db.close()
        response, error = await answered
        assert response is None
        assert isinstance(error, PoolError)

    run(main())


def test_guest_is_closed_by_its_client(make: Make) -> None:
    async def main() -> None:
        with Guest(AsyncioHost()) as guest:
            done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            async def use() -> None:
                async with make() as db:
                    done.set_result(await db.users.count())

            guest.loop.add_callback(use)
            assert await done == 0
            while any(not task.done() for task in asyncio.all_tasks(guest.loop)):
                await asyncio.sleep(0.001)

    with nothing_left_open():
        asyncio.run(main())
        gc.collect()


request: ContextVar[str] = ContextVar("request")


def test_drivers_tasks_belong_to_no_caller(run: Run, make: Make) -> None:
    """Neither its contextvars nor its stack contexts live on in what outlives the request."""

    async def main() -> None:
        entered: list[str] = []

        @contextmanager
        def context() -> Iterator[None]:
            entered.append("entered")
            yield

        request.set("the first")
        mine = asyncio.current_task()
        with StackContext(context):
            db = make(heartbeatFrequencyMS=500)
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            db.users.find_one(callback=lambda *both: answered.set_result((both, list(entered))))
        during = (await answered)[1]
        assert len(during) >= 2  # the block itself, and the callback
        entered.clear()
        beats = db.statistics().heartbeats
        while db.statistics().heartbeats == beats:
            await asyncio.sleep(0.01)
        assert entered == []
        others = [task for task in asyncio.all_tasks() if task is not mine and "periodic_executor" in repr(task)]
        assert others
        for task in others:
            if hasattr(task, "get_context"):  # Python 3.12
                assert request not in task.get_context()

    run(main())


# Processes


USABLE = [name for name, backend in BACKENDS.items() if registry.unusable(backend) is None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
def test_forked_child(server: MongoServer, dbname: str) -> None:
    """A child of a callback, which makes a loop of its own. One process for all backends: it takes long to start."""
    script = f"""
        import asyncio, gc, os, warnings
        import pollux
        from pollux_mongo import Client, PoolError
        warnings.simplefilter("ignore", ResourceWarning)  # the child drops the parent's sockets

        def new_client():
            return Client("main", host="127.0.0.1", port={server.port}, dbname={dbname!r})

        async def main(backend):
            db = new_client()
            await db.users.save({{"_id": 1}})
            child = os.fork()
            if child == 0:
                try:
                    db.users.find_one(1)
                except PoolError as error:
                    said = str(error)
                asyncio._set_running_loop(None)

                async def anew():
                    return await new_client().users.find_one(1)

                assert "forked from it" in said, said
                assert pollux.run(anew(), backend=backend) == {{"_id": 1}}
                os._exit(7)
            _, status = os.waitpid(child, 0)
            print(backend, os.waitstatus_to_exitcode(status), await db.users.find_one(1))

        for backend in {USABLE}:
            pollux.run(main(backend), backend=backend)
    """
    assert run_script(USABLE[0], script).splitlines() == [f"{name} 7 {{'_id': 1}}" for name in USABLE]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
def test_made_before_the_fork_used_after(server: MongoServer, dbname: str) -> None:
    script = f"""
        import os
        import pollux
        from pollux_mongo import Client

        db = Client("main", host="127.0.0.1", port={server.port}, dbname={dbname!r})

        async def main():
            return await db.users.count()

        children = []
        for backend in {USABLE}:
            child = os.fork()
            if child == 0:
                os._exit(pollux.run(main(), backend=backend))
            children.append(child)
        print(*[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    """
    assert run_script(USABLE[0], script).split() == ["0"] * len(USABLE)


def test_private_names_of_the_driver_are_there() -> None:
    """Those that `driver_pool.py` lists."""
    assert driver_pool.FITS
    pool = Pool(("127.0.0.1", 1), PoolOptions())
    assert list(pool.conns) == []
    assert pool.active_contexts == set()
    assert not pool.is_sdam


@pytest.mark.parametrize("fits", [True, False])
def test_both_ways_to_wait_for_an_answer(run: Run, make: Make, monkeypatch: pytest.MonkeyPatch, fits: bool) -> None:
    monkeypatch.setattr(driver_pool, "FITS", fits)

    async def main() -> None:
        async with make(maxusage=3) as db:
            await db.users.insert([{"_id": number} for number in range(300)])
            assert len(await asyncio.gather(*[db.users.find_one(number) for number in range(50)])) == 50
            assert len(await db.users.find(batch_size=20)) == 300
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(db.users.find_one({"$where": "sleep(1000)"}), 0)
            assert await db.users.count() == 300

    run(main())
