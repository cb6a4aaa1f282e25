"""One MySQL client in a process of its own: prints CPU microseconds per query.

    python queries.py CLIENT PORT CASE QUERIES

A client is `pollux` (runQuery on our loop), or a bare driver and its loop: `asyncmy-uvloop`, `asyncmy-pollux`,
`aiomysql-asyncio`. CPU time (user and system) of the whole process between the first query and the last; the least of
five repeats is printed, as `timeit` advises: whatever else the machine does can only add.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

REPEATS = 5
CASES = {"one": "SELECT 1", "rows": "SELECT seq, 'the text of a row', 1.5, NULL FROM seq_1_to_1000"}
HOST, USER, DATABASE = "127.0.0.1", "root", "mysql"
Query = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def pollux(port: int, statement: str) -> AsyncIterator[Query]:
    """Ours."""
    from pollux_txmysql import MySQLConnection

    connection = MySQLConnection(HOST, USER, "", DATABASE, port=port)

    async def query() -> Any:
        return await connection.runQuery(statement)

    yield query
    await connection.disconnect()


def bare(driver: str) -> Any:
    """A driver as its documentation shows it: a cursor for each query."""

    @asynccontextmanager
    async def opened(port: int, statement: str) -> AsyncIterator[Query]:
        module = __import__(driver)
        connection = await module.connect(host=HOST, user=USER, password="", db=DATABASE, port=port, autocommit=True)

        async def query() -> Any:
            async with connection.cursor() as cursor:
                await cursor.execute(statement)
                return await cursor.fetchall()

        yield query
        await connection.ensure_closed()

    return opened


async def measured(driver: str, port: int, case: str, queries: int) -> float:
    """Return CPU microseconds per query."""
    open_client = pollux if driver == "pollux" else bare(driver)
    async with open_client(port, CASES[case]) as query:
        expected = 1000 if case == "rows" else 1

        async def all_of(count: int) -> float:
            before = time.process_time()
            for _ in range(count):
                assert len(await query()) == expected
            return (time.process_time() - before) / count * 1e6

        await all_of(max(1, queries // 10))
        return min([await all_of(queries) for _ in range(REPEATS)])


def main() -> None:
    """Measure as the command line says."""
    name, port, case, queries = sys.argv[1:]
    driver, _, loop = name.partition("-")
    work = measured(driver, int(port), case, int(queries))
    if loop == "uvloop":
        import uvloop

        print(uvloop.run(work))
    elif loop == "asyncio":
        print(asyncio.run(work))
    else:
        from pollux import run

        print(run(work))


if __name__ == "__main__":
    main()
