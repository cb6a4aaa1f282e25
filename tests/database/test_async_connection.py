"""`AsyncConnection`, on SQLite and on MariaDB, on every backend where the loop matters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

import pollux
from pollux.testing.descriptors import nothing_left_open
from pollux_database import AsyncConnection, Connection, IntegrityError, InterfaceError, OperationalError
from tests.reactor.loops import BACKENDS, usable


def run(main: Coroutine[Any, Any, None], backend: str | None = None) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main

    with nothing_left_open():
        pollux.run(bounded(), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_method(backend: str, db: Connection, url: str) -> None:
    usable(backend)

    async def main() -> None:
        async with AsyncConnection(url) as one:
            assert await one.execute("INSERT INTO note (text) VALUES (%s)", "one") == 1
            assert await one.execute_lastrowid("INSERT INTO note (text) VALUES (%(text)s)", text="two") == 2
            assert await one.executemany("INSERT INTO note (text) VALUES (%s)", [("three",)]) == 3
            assert await one.executemany_rowcount("INSERT INTO note (text) VALUES (%s)", [("four",), ("five",)]) == 2
            assert await one.execute_rowcount("UPDATE note SET text = 'changed' WHERE id > %s", 3) == 2
            assert await one.query("SELECT id FROM note WHERE id < 3 ORDER BY id") == [{"id": 1}, {"id": 2}]
            assert await one.get("SELECT text FROM note WHERE id = %s", 3) == {"text": "three"}
            assert [row.id async for row in one.iter("SELECT id FROM note ORDER BY id")] == [1, 2, 3, 4, 5]
            with pytest.raises(IntegrityError):
                await one.execute("INSERT INTO note (id, text) VALUES (1, 'again')")
            await one.reconnect()
            assert await one.get("SELECT COUNT(*) AS many FROM note") == {"many": 5}

    run(main(), backend)


def test_in_the_order_of_the_calls(db: Connection, url: str) -> None:
    async def main() -> None:
        async with AsyncConnection(url) as one:
            inserts = [one.execute("INSERT INTO note (text) VALUES (%s)", str(number)) for number in range(100)]
            assert await asyncio.gather(*inserts) == list(range(1, 101))

    run(main())


def test_one_thread_for_each_connection(url: str) -> None:
    async def main() -> None:
        before = set(threading.enumerate())  # some of which may be about to end
        one, two = AsyncConnection(url), AsyncConnection(url)
        assert set(threading.enumerate()) <= before
        for _ in range(3):
            await asyncio.gather(one.query("SELECT 1"), two.query("SELECT 2"))
        assert len(set(threading.enumerate()) - before) == 2
        await one.close()
        await two.close()

    run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("pollux-database"):
            thread.join()  # it ends, or the test's timeout tells


def test_iter_in_pieces(db: Connection, url: str) -> None:
    db.executemany("INSERT INTO note (text) VALUES (%s)", [(str(number),) for number in range(1000)])

    async def main() -> None:
        async with AsyncConnection(url) as one:
            assert [row.id async for row in one.iter("SELECT id FROM note ORDER BY id")] == list(range(1, 1001))
            async for row in one.iter("SELECT id FROM note ORDER BY id"):
                assert row.id == 1
                break
            assert await one.get("SELECT 1 AS one") == {"one": 1}  # the dropped iterator is closed before
            async with one.iter("SELECT id FROM note") as rows:
                await anext(rows)
            assert await one.get("SELECT 1 AS one") == {"one": 1}
            rows = one.iter("SELECT id FROM note")
            await anext(rows)
        await rows.aclose()

    run(main())


def test_cancelled_before_it_began_is_not_run(db: Connection, url: str) -> None:
    async def main() -> None:
        async with AsyncConnection(url) as one:
            await one.reconnect()
            begun, go = threading.Event(), threading.Event()
            assert one._thread is not None

            def occupy() -> None:
                begun.set()
                go.wait(30)

            one._thread.submit(occupy)
            begun.wait(30)
            insert = asyncio.ensure_future(one.execute("INSERT INTO note (text) VALUES ('never')"))
            await asyncio.sleep(0)
            insert.cancel()
            with pytest.raises(asyncio.CancelledError):
                await insert
            go.set()
            assert await one.query("SELECT * FROM note") == []

    run(main())


def test_cancelled_iteration_loses_no_row(db: Connection, url: str) -> None:
    db.executemany("INSERT INTO note (text) VALUES (%s)", [(str(number),) for number in range(600)])

    async def main() -> None:
        async with AsyncConnection(url) as one:
            rows = one.iter("SELECT id FROM note ORDER BY id")
            found = [(await anext(rows)).id]
            for _ in range(3):
                begun, go = threading.Event(), threading.Event()
                fetch = rows._source.fetch

                def slowly(db: Connection) -> None:
                    begun.set()  # noqa: B023
                    go.wait(30)  # noqa: B023
                    fetch(db)  # noqa: B023

                rows._source.fetch = slowly  # type: ignore[method-assign]
                while not begun.is_set():
                    waiting = asyncio.ensure_future(anext(rows))
                    await asyncio.sleep(0)
                    if waiting.done():
                        found.append(waiting.result().id)
                    elif await asyncio.get_running_loop().run_in_executor(None, begun.wait, 30):
                        waiting.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await waiting
                go.set()
                rows._source.fetch = fetch  # type: ignore[method-assign]
            assert found + [row.id async for row in rows] == list(range(1, 601))

    run(main())


def test_closed(url: str) -> None:
    async def main() -> None:
        one = AsyncConnection(url)
        await one.close()
        assert await _refused(one)
        await one.reconnect()
        assert await one.get("SELECT 1 AS one") == {"one": 1}
        await one.close()
        await one.close()
        assert await _refused(one)

    run(main())


async def _refused(one: AsyncConnection) -> bool:
    try:
        await one.query("SELECT 1")
    except InterfaceError as error:
        return "reconnect()" in str(error)
    return False


def test_close_lets_earlier_statements_finish(db: Connection, url: str) -> None:
    async def main() -> None:
        one = AsyncConnection(url)
        inserts = [asyncio.ensure_future(one.execute("INSERT INTO note (text) VALUES ('x')")) for _ in range(20)]
        await asyncio.sleep(0)
        await one.close()
        assert await asyncio.gather(*inserts) == list(range(1, 21))

    run(main())


def test_database_that_cannot_be_reached_is_tried_again(tmp_path: Any) -> None:
    async def main() -> None:
        async with AsyncConnection(tmp_path / "later" / "a.db") as one:
            for _ in range(2):
                with pytest.raises(OperationalError, match="cannot connect"):
                    await one.query("SELECT 1")
            (tmp_path / "later").mkdir()
            assert await one.get("SELECT 1 AS one") == {"one": 1}

    run(main())
