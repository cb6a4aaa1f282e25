"""redis-py's asyncio client on our loop, against a real server, over TCP and over a Unix socket."""

from __future__ import annotations

import asyncio
import re

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from tests.programs.conftest import RedisUrls, Run


@pytest.fixture(params=["tcp", "unix"])
def url(request: pytest.FixtureRequest, redis_urls: RedisUrls) -> str:
    return redis_urls.tcp if request.param == "tcp" else redis_urls.unix


@pytest.fixture
def key(backend: str, request: pytest.FixtureRequest) -> str:
    """A prefix of one's own: the tests share the server. Without brackets, which mean something in patterns."""
    return re.sub(r"\W", "-", request.node.name)


def test_many_at_once_over_few_connections(run: Run, url: str, key: str) -> None:
    async def main() -> None:
        pool = BlockingConnectionPool.from_url(url, max_connections=5, timeout=10)
        async with Redis.from_pool(pool) as redis:
            await redis.delete(key)
            counts = await asyncio.gather(*(redis.incr(key) for _ in range(500)))
            assert sorted(counts) == list(range(1, 501))

    run(main())


def test_pipeline_of_large_values(run: Run, url: str, key: str) -> None:
    async def main() -> None:
        async with Redis.from_url(url) as redis:
            values = {f"{key}:{number}": bytes([number]) * 300_000 for number in range(20)}
            async with redis.pipeline(transaction=True) as pipe:
                for name, value in values.items():
                    pipe.set(name, value, ex=60)
                assert await pipe.execute() == [True] * 20
            assert await redis.mget(list(values)) == list(values.values())

    run(main())


def test_blocking_pop_is_woken_by_a_push(run: Run, url: str, key: str) -> None:
    async def main() -> None:
        async with Redis.from_url(url) as redis:
            await redis.delete(key)
            waiting = asyncio.ensure_future(redis.blpop([key], timeout=20))
            while not (await redis.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0)
            await redis.rpush(key, "pushed")
            assert list(await waiting or ()) == [key.encode(), b"pushed"]

    run(main())


def test_cancelled_command_breaks_no_later_one(run: Run, url: str, key: str) -> None:
    """Its connection must not give the late answer to the next command."""

    async def main() -> None:
        async with Redis.from_url(url, max_connections=1) as redis:
            await redis.delete(key)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.02):
                    await redis.blpop([key], timeout=20)
            assert await redis.echo("mine") == b"mine"

    run(main())


def test_publish_and_subscribe(run: Run, url: str, key: str) -> None:
    async def main() -> None:
        async with Redis.from_url(url) as redis, redis.pubsub() as channel:
            await channel.psubscribe(f"{key}*")
            subscribed = await channel.get_message(timeout=10)
            assert subscribed
            assert subscribed["type"] == "psubscribe"
            for number in range(100):
                await redis.publish(f"{key}-news", number)
            got = [await channel.get_message(timeout=10) for _ in range(100)]
            assert [int(message["data"]) for message in got if message] == list(range(100))

    run(main())
