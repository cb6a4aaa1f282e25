"""One client in a process of its own: prints CPU microseconds per `find_one`, or MiB that a long result takes.

    python finds.py CLIENT PORT find_one AT_ONCE FINDS
    python finds.py CLIENT PORT memory

CPU time (user and system) of the whole process between the first find and the last, on connections that stand; the
least of five repeats, as `timeit` advises: whatever else the machine does can only add. Memory is what the process has
resident at most while it reads all of `long`, above what it had before.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

REPEATS = 5
DATABASE = "benchmark"
LOOKS = 1000  # documents between two looks at the memory


@asynccontextmanager
async def ours(port: int) -> AsyncIterator[Any]:
    """Ours; the collections of the database are its attributes."""
    from pollux_mongo import Client

    async with Client("benchmark", host="127.0.0.1", port=port, dbname=DATABASE) as client:
        yield client


@asynccontextmanager
async def bare(port: int) -> AsyncIterator[Any]:
    """The driver alone."""
    from pymongo import AsyncMongoClient

    async with AsyncMongoClient[dict[str, Any]]("127.0.0.1", port) as client:
        yield client[DATABASE]


async def find_one(database: Any, at_once: int, finds: int) -> float:
    """Return CPU microseconds per find."""
    collection = database.short

    async def several(count: int) -> None:
        for number in range(count):
            assert (await collection.find_one({"_id": number % 100})) is not None

    async def all_of(count: int) -> float:
        before = time.process_time()
        await asyncio.gather(*[several(count // at_once) for _ in range(at_once)])
        return (time.process_time() - before) / (count // at_once * at_once) * 1e6

    await all_of(max(at_once, finds // 10))
    return min([await all_of(finds) for _ in range(REPEATS)])


def resident() -> float:
    """Return the resident memory of this process, in MiB: the field `Rss` of smaps_rollup counts pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


async def memory(database: Any) -> float:
    """Return the MiB taken while a long result is read."""
    await database.short.find_one({"_id": 1})
    before = most = resident()
    count = 0
    async for _ in database.long.find():
        count += 1
        if count % LOOKS == 0:
            most = max(most, resident())
    assert count >= LOOKS
    return most - before


async def measured(name: str, port: int, measure: Callable[[Any], Awaitable[float]]) -> float:
    """Return what `measure` finds of a client."""
    async with (ours if name == "pollux" else bare)(port) as database:
        return await measure(database)


def main() -> None:
    """Measure as the command line says."""
    name, port, what, *numbers = sys.argv[1:]
    measure: Callable[[Any], Awaitable[float]] = memory
    if what == "find_one":
        at_once, finds = map(int, numbers)

        async def measure(database: Any) -> float:
            return await find_one(database, at_once, finds)

    work = measured(name, int(port), measure)
    if name.endswith("pollux"):
        from pollux import run

        print(run(work))
    elif name.endswith("uvloop"):
        import uvloop

        print(uvloop.run(work))
    else:
        print(asyncio.run(work))


if __name__ == "__main__":
    main()
