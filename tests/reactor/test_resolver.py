"""Resolvers on every backend; Tornado's are the oracle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.netutil

from pollux import IOLoop, netutil
from pollux.resolver import (
    BlockingResolver,
    DefaultExecutorResolver,
    DefaultLoopResolver,
    ExecutorResolver,
    OverrideResolver,
    Resolver,
    ThreadedResolver,
)
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import backend_loop, run

NAMES = (
    "BlockingResolver",
    "DefaultExecutorResolver",
    "DefaultLoopResolver",
    "ExecutorResolver",
    "ThreadedResolver",
)


loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


@pytest.fixture(autouse=True)
def _not_configured() -> Iterator[None]:
    yield
    Resolver.configure(None)


@pytest.fixture
def getaddrinfo(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked of getaddrinfo and may block, and the thread that asks. One name resolves."""
    asked: list[tuple[str, str]] = []
    real = socket.getaddrinfo

    def fake(host: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return real(host, *args, **kwargs)
        except socket.gaierror:
            if len(args) > 4 and args[4] & socket.AI_NUMERICHOST:
                raise
            asked.append((host, threading.current_thread().name))
            if host == "two.example":
                return real("127.0.0.1", *args) + real("::1", *args)
            raise

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_UNSPEC),
        ("::1", socket.AF_UNSPEC),
        ("::1", socket.AF_INET6),
        ("localhost", socket.AF_INET),
        ("127.0.0.1", socket.AF_INET6),
        ("", socket.AF_UNSPEC),
    ],
)
def test_as_tornado(loop: IOLoop, name: str, host: str, family: socket.AddressFamily) -> None:
    outcomes: list[Any] = []

    async def outcome(module: Any) -> None:
        made = getattr(module, name)()
        try:
            outcomes.append(await made.resolve(host, 80, family))
        except OSError as error:
            outcomes.append((type(error), error.errno))
        made.close()

    async def main() -> None:
        await outcome(netutil)

    run(loop, main())
    asyncio.run(outcome(tornado.netutil))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("host", ["an invalid name", "a..b", "a" * 64, "null\0byte"])
def test_a_name_that_does_not_resolve(loop: IOLoop, name: str, host: str) -> None:
    """Always a gaierror with the name in it, also where the IDNA codec has another."""

    async def main() -> None:
        with pytest.raises(socket.gaierror) as raised:
            await getattr(netutil, name)().resolve(host, 80)
        assert repr(host) in str(raised.value)
        assert raised.value.errno in (socket.EAI_NONAME, socket.EAI_AGAIN)

    run(loop, main())


@pytest.mark.parametrize(
    ("make", "thread"),
    [
        (BlockingResolver, "MainThread"),
        (ExecutorResolver, "MainThread"),
        (DefaultLoopResolver, "asyncio_"),
        (DefaultExecutorResolver, "asyncio_"),
        (ThreadedResolver, "resolver_"),
    ],
)
def test_where_it_resolves_and_that_none_caches(
    loop: IOLoop, make: type[Resolver], thread: str, getaddrinfo: list[tuple[str, str]]
) -> None:
    async def main() -> None:
        made = make()
        for count in (1, 2):
            found = await made.resolve("two.example", 80)
            assert found == [(socket.AF_INET, ("127.0.0.1", 80)), (socket.AF_INET6, ("::1", 80, 0, 0))]
            assert len(getaddrinfo) == count
        assert all(host == "two.example" and by.startswith(thread) for host, by in getaddrinfo)
        await made.resolve("127.0.0.1", 80)
        assert len(getaddrinfo) == 2

    run(loop, main())


def test_a_full_executor_does_not_hold_up_a_numeric_address(loop: IOLoop) -> None:
    release = threading.Event()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

    async def main() -> None:
        blocking = loop.run_in_executor(None, release.wait)
        made = Resolver()
        assert await made.resolve("127.0.0.1", 1) == [(socket.AF_INET, ("127.0.0.1", 1))]
        waiting = asyncio.ensure_future(made.resolve("localhost", 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()  # and who gives up need not wait for the thread
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        await blocking

    run(loop, main())


def test_callback(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        called: asyncio.Future[Any] = loop.create_future()
        Resolver().resolve("127.0.0.1", 80, callback=called.set_result)
        assert await called == [(socket.AF_INET, ("127.0.0.1", 80))]
        failing = Resolver().resolve("a..b", 80, callback=called.set_result)
        with pytest.raises(socket.gaierror):
            await failing
        await asyncio.sleep(0)

    run(loop, main())
    assert "cannot resolve 'a..b'" in caplog.text


# Overrides

MAPPING = {
    "name.example": "127.0.0.1",
    ("port.example", 443): ("127.0.0.1", 1443),
    ("family.example", 443, socket.AF_INET6): ("::1", 2443),
    ("family.example", 443): ("127.0.0.1", 3443),
    "family.example": "127.0.0.2",
}


@pytest.mark.parametrize(
    ("host", "port", "family"),
    [
        ("name.example", 80, socket.AF_UNSPEC),
        ("port.example", 443, socket.AF_UNSPEC),
        ("family.example", 443, socket.AF_INET6),
        ("family.example", 443, socket.AF_INET),
        ("family.example", 80, socket.AF_INET),
        ("127.0.0.9", 80, socket.AF_INET),
    ],
)
def test_overrides_as_tornado(loop: IOLoop, host: str, port: int, family: socket.AddressFamily) -> None:
    outcomes: list[Any] = []

    async def outcome(module: Any) -> None:
        made = module.OverrideResolver(resolver=module.BlockingResolver(), mapping=MAPPING)
        outcomes.append(await made.resolve(host, port, family))
        made.close()

    async def main() -> None:
        await outcome(netutil)

    run(loop, main())
    asyncio.run(outcome(tornado.netutil))
    assert outcomes[0] == outcomes[1]


# Configuring


@pytest.mark.parametrize(
    "impl", ["pollux.netutil.ThreadedResolver", "pollux.resolver.ThreadedResolver", ThreadedResolver]
)
def test_configure(impl: Any) -> None:
    assert Resolver.configured_class() is DefaultLoopResolver
    assert type(Resolver()) is DefaultLoopResolver
    Resolver.configure(impl, num_threads=1)
    assert Resolver.configured_class() is ThreadedResolver
    assert type(Resolver()) is ThreadedResolver
    assert type(BlockingResolver()) is BlockingResolver
    Resolver.configure(None)
    assert type(Resolver()) is DefaultLoopResolver


def test_configured_arguments_and_their_own() -> None:
    inner = BlockingResolver()
    Resolver.configure(OverrideResolver, resolver=inner, mapping={"a": "b"})
    made: Any = Resolver(mapping={"c": "d"})
    assert (made.resolver, made.mapping) == (inner, {"c": "d"})


def test_bad_configuration() -> None:
    for impl, error in (
        (int, TypeError),
        ("pollux.netutil.NoSuchResolver", ImportError),
        ("NoSuchResolver", ImportError),
        ("pollux.no_such_module.Resolver", ImportError),
        ("os.getpid", TypeError),
    ):
        with pytest.raises(error, match=r"resolver|Resolver|no_such_module"):
            Resolver.configure(impl)  # type: ignore[arg-type]
    assert type(Resolver()) is DefaultLoopResolver


def test_a_resolver_of_ones_own(loop: IOLoop) -> None:
    class Mine(Resolver):
        def initialize(self, answer: str) -> None:  # type: ignore[override]
            self.answer = answer

        async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC, callback: Any = None) -> Any:
            return [(socket.AF_INET, (self.answer, port))]

    async def main() -> None:
        Resolver.configure(Mine, answer="10.0.0.1")
        assert await Resolver().resolve("any", 1) == [(socket.AF_INET, ("10.0.0.1", 1))]
        over = OverrideResolver(Mine("10.0.0.2"), {})
        assert await over.resolve("any", 1) == [(socket.AF_INET, ("10.0.0.2", 1))]

    run(loop, main())


def test_the_base_class_says_what_to_override(loop: IOLoop) -> None:
    class Empty(Resolver):
        pass

    async def main() -> None:
        with pytest.raises(NotImplementedError, match="override"):
            await Empty().resolve("localhost", 1)

    run(loop, main())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_there_is_no_such_port(loop: IOLoop, name: str, host: str) -> None:
    """Not what is left of the number in 16 bits, as getaddrinfo(3) has it."""

    async def main() -> None:
        for port in (-1, 65536 + 80):
            with pytest.raises(socket.gaierror, match=f"{host}.*got {port}"):
                await getattr(netutil, name)().resolve(host, port)

    run(loop, main())


def test_closing_an_executor() -> None:
    for close_executor in (True, False):
        executor = concurrent.futures.ThreadPoolExecutor(1)
        ExecutorResolver(executor, close_executor).close()
        try:
            executor.submit(int)
            closed = False
        except RuntimeError:
            closed = True
        assert closed is close_executor
        executor.shutdown()


def test_threads_are_shared_and_do_not_survive_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ThreadedResolver(), ThreadedResolver()
    assert first.executor is second.executor
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert ThreadedResolver().executor is not first.executor
