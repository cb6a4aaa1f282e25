"""Streams of rows: to the end, closed early, dropped, failing, and held back."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from twisted.internet import defer

from pollux_txmysql import ConnectionLostError, MySQLConnection, MySQLError
from tests.mysql.conftest import Run, connection, pool, until_running
from tests.mysql.server import Server

LONG = "SELECT seq, REPEAT('x', 1000) FROM seq_1_to_200000"  # 200 MB


def test_to_the_end(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        assert [row async for row in one.stream("SELECT seq FROM seq_1_to_1001")] == [(n,) for n in range(1, 1002)]
        rows = [row async for row in one.stream("SELECT %s AS a, '%%' AS b", ["x"], as_dict=True)]
        assert rows == [{"a": "x", "b": "%"}]
        assert [row async for row in one.stream("SELECT 1 FROM dual WHERE FALSE")] == []
        assert [row async for row in one.stream("DO 1")] == []
        assert await one.fetchone("SELECT 2") == 2
        await one.disconnect()

    run(main())


def test_in_a_coroutine_of_twisted(run: Run, server: Server) -> None:
    async def twisted(one: MySQLConnection) -> int:
        return sum([row[0] async for row in one.stream("SELECT seq FROM seq_1_to_1000")])

    async def main() -> None:
        one = connection(server)
        future = asyncio.get_running_loop().create_future()
        defer.ensureDeferred(twisted(one)).addCallbacks(future.set_result, future.set_exception)
        assert await future == 500500
        await one.disconnect()

    run(main())


@pytest.mark.parametrize("way", ["closed", "left", "dropped"])
def test_closed_early_is_stopped_on_the_server(run: Run, server: Server, way: str) -> None:
    """And what is not read is not held here: the server waits for who is slow."""

    async def main() -> None:
        watcher, several = connection(server), pool(server, num_connections=1)
        rows = several.stream(LONG)
        assert (await anext(rows))[0] == 1
        state = "SELECT state FROM information_schema.processlist WHERE info LIKE 'SELECT seq%'"
        while await watcher.fetchone(state) != "Writing to net":
            await asyncio.sleep(0)
        if way == "closed":
            await rows.aclose()
        elif way == "left":
            async with rows:
                await anext(rows)
        del rows
        gc.collect()
        await until_running(watcher, "seq_1_to_200000", count=0)
        assert await several.fetchone("SELECT 1") == 1
        await several.disconnect()
        await watcher.disconnect()

    run(main())


def test_failures(run: Run, server: Server) -> None:
    async def main() -> None:
        watcher, one = connection(server), connection(server, retry_on_error=True)
        for wrong in ("SELEC", "SELECT * FROM nothing"):
            rows = one.stream(wrong)
            with pytest.raises(MySQLError):
                await anext(rows)
            with pytest.raises(StopAsyncIteration):
                await anext(rows)
        rows = one.stream(LONG)
        await anext(rows)
        server.kill()
        server.start()
        with pytest.raises(ConnectionLostError):
            async for _ in rows:
                pass
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()
        await watcher.disconnect()

    run(main())


def test_others_wait_in_line(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        rows = one.stream("SELECT seq FROM seq_1_to_1000")
        await anext(rows)
        waiting = one.fetchone("SELECT 1")
        seen = 1
        async for _ in rows:
            assert not waiting.called
            seen += 1
        assert (seen, await waiting) == (1000, 1)
        await one.disconnect()

    run(main())


def test_cancelled_wait_loses_no_row(run_once: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        rows = one.stream("SELECT seq FROM seq_1_to_1000")
        found: list[Any] = []
        for _ in range(1000):
            waiting = asyncio.ensure_future(anext(rows))
            await asyncio.sleep(0)
            if waiting.done():
                found.append(waiting.result()[0])
            else:
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
        found += [row[0] async for row in rows]
        assert found == list(range(1, 1001))
        await one.disconnect()

    run_once(main())
