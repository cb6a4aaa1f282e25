"""One client in a process of its own: prints CPU microseconds per fetch.

    python fetches.py CLIENT URL AT_ONCE FETCHES

CPU time (user and system) of the whole process between the first fetch and the last, on connections that stand. The
least of five repeats is printed, as `timeit` advises: whatever else the machine does can only add.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

REPEATS = 5
Fetch = Callable[[], Awaitable[int]]


@asynccontextmanager
async def pollux(url: str, at_once: int) -> AsyncIterator[Fetch]:
    """Ours."""
    from pollux_http import AsyncHTTPClient

    client = AsyncHTTPClient(force_instance=True, max_clients=at_once)

    async def fetch() -> int:
        return len((await client.fetch(url)).body)

    yield fetch
    client.close()


@asynccontextmanager
async def tornado(url: str, at_once: int) -> AsyncIterator[Fetch]:
    """Tornado's simple client, which connects for each fetch."""
    from tornado.httpclient import AsyncHTTPClient

    client = AsyncHTTPClient(force_instance=True, max_clients=at_once)

    async def fetch() -> int:
        return len((await client.fetch(url)).body)

    yield fetch
    client.close()


@asynccontextmanager
async def aiohttp(url: str, at_once: int) -> AsyncIterator[Fetch]:
    """aiohttp's session."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

        async def fetch() -> int:
            async with session.get(url) as response:
                return len(await response.read())

        yield fetch


@asynccontextmanager
async def httpx(url: str, at_once: int) -> AsyncIterator[Fetch]:
    """httpx's client."""
    import httpx

    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def fetch() -> int:
            return len((await client.get(url)).content)

        yield fetch


async def measured(name: str, url: str, at_once: int, fetches: int) -> float:
    """Return CPU microseconds per fetch."""
    open_client = {"pollux": pollux, "tornado": tornado, "aiohttp": aiohttp, "httpx": httpx}[name.partition("-")[0]]
    async with open_client(url, at_once) as fetch:

        async def several(count: int) -> None:
            for _ in range(count):
                assert await fetch() == 12

        async def all_of(count: int) -> float:
            before = time.process_time()
            await asyncio.gather(*[several(count // at_once) for _ in range(at_once)])
            return (time.process_time() - before) / (count // at_once * at_once) * 1e6

        await all_of(max(at_once, fetches // 10))
        return min([await all_of(fetches) for _ in range(REPEATS)])


def main() -> None:
    """Measure as the command line says."""
    name, url, at_once, fetches = sys.argv[1:]
    work = measured(name, url, int(at_once), int(fetches))
    if name == "pollux":
        from pollux import run

        print(run(work))
    elif name.endswith("-uvloop"):
        import uvloop

        print(uvloop.run(work))
    else:
        print(asyncio.run(work))


if __name__ == "__main__":
    main()
