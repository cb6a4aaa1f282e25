"""Transactions: functions of every kind, on every backend; committed, rolled back, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import defer

from pollux_txmysql import MySQLError, QueryTimeoutError, Transaction
from tests.mysql.conftest import Run, connection, pool, until_running
from tests.mysql.server import Server


async def coroutine(transaction: Transaction, table: str, fail: bool) -> str:
    await transaction.runOperation(f"INSERT INTO {table} VALUES (%s)", [1])
    await asyncio.sleep(0)
    if fail:
        raise KeyError("mine")
    assert await transaction.fetchone(f"SELECT COUNT(*) FROM {table}") == 1
    return "result"


@defer.inlineCallbacks
def generator(transaction: Transaction, table: str, fail: bool) -> Any:
    yield transaction.runOperation(f"INSERT INTO {table} VALUES (%s)", [1])
    if fail:
        raise KeyError("mine")
    return "result"


def callbacks(transaction: Transaction, table: str, fail: bool) -> Any:
    def done(_count: int) -> str:
        if fail:
            raise KeyError("mine")
        return "result"

    return transaction.runOperation(f"INSERT INTO {table} VALUES (%s)", [1]).addCallback(done)


def neither(transaction: Transaction, table: str, fail: bool) -> str:
    """Its statement is waited for all the same."""
    transaction.runOperation(f"INSERT INTO {table} VALUES (%s)", [1])
    if fail:
        raise KeyError("mine")
    return "result"


@pytest.mark.parametrize("function", [coroutine, generator, callbacks, neither])
def test_every_kind_of_function(run: Run, server: Server, table: str, function: Callable[..., Any]) -> None:
    async def main() -> None:
        several = pool(server, num_connections=2)
        await several.runOperation(f"CREATE TABLE {table} (a INT)")
        with pytest.raises(KeyError, match="mine"):
            await several.runInteraction(function, table, fail=True)
        assert await several.fetchone(f"SELECT COUNT(*) FROM {table}") == 0
        assert await several.runInteraction(function, table, fail=False) == "result"
        assert await several.fetchone(f"SELECT COUNT(*) FROM {table}") == 1
        await several.disconnect()

    run(main())


def test_statements_at_once_run_one_after_the_other(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        several = pool(server)
        await several.runOperation(f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, a INT)")

        async def function(transaction: Transaction) -> list[Any]:
            queries = [transaction.runOperation(f"INSERT INTO {table} (a) VALUES (%s)", [n]) for n in range(20)]
            await asyncio.gather(*queries)
            return await transaction.runQuery(f"SELECT id, a FROM {table} ORDER BY id")

        assert await several.runInteraction(function) == [(n + 1, n) for n in range(20)]
        await several.disconnect()

    run(main())


def test_failed_statement_may_be_caught(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        one = connection(server)
        await one.runOperation(f"CREATE TABLE {table} (a INT PRIMARY KEY)")

        async def function(transaction: Transaction) -> None:
            for value in (1, 1, 2):
                try:
                    await transaction.runOperation(f"INSERT INTO {table} VALUES (%s)", [value])
                except MySQLError as error:
                    if error.errno != 1062:
                        raise

        await one.runInteraction(function)
        assert await one.runQuery(f"SELECT a FROM {table} ORDER BY a") == [(1,), (2,)]
        await one.disconnect()

    run(main())


def test_transaction_that_is_over_takes_no_more(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        kept = await one.runInteraction(lambda transaction: transaction)
        with pytest.raises(MySQLError, match="this transaction is over"):
            kept.runQuery("SELECT 1")
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()

    run(main())


def test_cancelled(run: Run, server: Server, table: str) -> None:
    """The function is cancelled, its statement stopped, and nothing stays."""

    async def main() -> None:
        watcher, several = connection(server), pool(server, num_connections=1)
        await several.runOperation(f"CREATE TABLE {table} (a INT)")
        ended: list[str] = []

        async def function(transaction: Transaction) -> None:
            await transaction.runOperation(f"INSERT INTO {table} VALUES (1)")
            try:
                await transaction.runQuery("SELECT SLEEP(60)")
            finally:
                ended.append("cancelled")

        async def interact() -> None:
            await several.runInteraction(function)

        task = asyncio.ensure_future(interact())
        await until_running(watcher, "SLEEP(60)")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await several.fetchone(f"SELECT COUNT(*) FROM {table}") == 0
        assert ended == ["cancelled"]
        await until_running(watcher, "SLEEP(60)", count=0)
        await several.disconnect()
        await watcher.disconnect()

    run(main())


def test_statement_past_its_time(run: Run, server: Server, table: str) -> None:
    """The limit is each statement's; the function may take as long as it likes."""

    async def main() -> None:
        several = pool(server, num_connections=1, query_timeout=0.1)
        await several.runOperation(f"CREATE TABLE {table} (a INT)")

        async def slow(transaction: Transaction) -> None:
            await transaction.runOperation(f"INSERT INTO {table} VALUES (1)")
            await asyncio.sleep(0.15)
            await transaction.runOperation(f"INSERT INTO {table} VALUES (2)")

        async def too_slow(transaction: Transaction) -> None:
            await transaction.runOperation(f"INSERT INTO {table} VALUES (3)")
            await transaction.runQuery("SELECT SLEEP(60)")

        await several.runInteraction(slow)
        with pytest.raises(QueryTimeoutError):
            await several.runInteraction(too_slow)
        assert await several.runQuery(f"SELECT a FROM {table} ORDER BY a") == [(1,), (2,)]
        await several.disconnect()

    run(main())


def test_deadlock_undoes_one_and_tells_it(run_once: Run, server: Server, table: str) -> None:
    async def main() -> None:
        several = pool(server, num_connections=2, retry_on_error=True)
        await several.runOperation(f"CREATE TABLE {table} (id INT PRIMARY KEY, a INT)")
        await several.runOperation(f"INSERT INTO {table} VALUES (1, 0), (2, 0)")
        both = asyncio.Barrier(2)

        async def function(transaction: Transaction, first: int, second: int) -> None:
            update = f"UPDATE {table} SET a = a + 1 WHERE id = %s"
            await transaction.runOperation(update, [first])
            await both.wait()
            await transaction.runOperation(update, [second])

        crossing = [several.runInteraction(function, 1, 2), several.runInteraction(function, 2, 1)]
        results = await asyncio.gather(*crossing, return_exceptions=True)
        (error,) = [result for result in results if result is not None]
        assert isinstance(error, MySQLError)
        assert error.errno == 1213
        assert await several.runQuery(f"SELECT a FROM {table}") == [(1,), (1,)]
        await several.disconnect()

    run_once(main())
