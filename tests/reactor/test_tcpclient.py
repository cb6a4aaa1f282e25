"""`TCPClient` on every backend: names, dead addresses, deadlines, cancellation, TLS. Tornado's client is the oracle.

Longer than 500 lines, because each phase is met by every kind of dead, silent and false server, made here once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import gc
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
import tornado.iostream
import tornado.netutil
import tornado.tcpclient
import trustme

from pollux import IOLoop, tcpclient
from pollux.iostream import IOStream, SSLIOStream, StreamClosedError
from pollux.resolver import Addresses, Resolver
from pollux.tcpclient import TCPClient
from pollux.testing.descriptors import nothing_left_open, refusing_address
from tests.reactor.loops import BACKENDS, run_script, usable

Address = tuple[str, int]


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(request.param), make_current=True)
        watched = set(loop._entries)
        yield loop
        assert set(loop._entries) == watched
        assert not asyncio.all_tasks(loop)
        loop.close()
        IOLoop.clear_current()
        gc.collect()


def run(loop: IOLoop, main: Coroutine[Any, Any, None]) -> None:
    loop.run_sync(lambda: main, timeout=20)


class Fixed(Resolver):
    """Answers what it was made with."""

    def initialize(self, *addresses: Address) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int, family: int = 0, callback: Any = None) -> list[tuple[int, Any]]:
        return [(socket.AF_INET6 if ":" in each[0] else socket.AF_INET, each) for each in self.addresses]


class Hanging(Resolver):
    """Answers when told to."""

    def initialize(self) -> None:
        self.asked = asyncio.Event()

    async def resolve(self, host: str, port: int, family: int = 0, callback: Any = None) -> list[tuple[int, Any]]:
        self.asked.set()
        await asyncio.Event().wait()
        return []


@contextlib.contextmanager
def serving(
    answer: Callable[[socket.socket], object] = lambda connection: connection.sendall(b"hello\n"),
    host: str = "127.0.0.1",
) -> Iterator[tuple[Address, list[Address]]]:
    """A server in a thread: its address, and those of its clients. Each connection is answered, then closed."""
    clients: list[Address] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def serve() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            clients.append(address)
            with connection:
                connection.settimeout(20)
                with contextlib.suppress(OSError):
                    answer(connection)

    with socket.create_server((host, 0), family=family) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[:2], clients
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            thread.join()


@contextlib.contextmanager
def silent() -> Iterator[Address]:
    """An address that answers nothing: its queue is full, so the kernel drops what arrives (listen(2), Linux)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()


@contextlib.contextmanager
def mute() -> Iterator[Address]:
    """An address that connects and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def over_tls(authority: trustme.CA, name: str) -> Callable[[socket.socket], object]:
    """An answer over TLS, by a server called `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(b"hello\n")

    return answer


async def greeting(stream: Any) -> bytes:
    try:
        line: bytes = await stream.read_until(b"\n")
        return line
    finally:
        stream.close()


async def timed_out(connect: Callable[[float], Awaitable[Any]], phase: str) -> str:
    """Let `connect(timeout)` time out in `phase`, and return its words.

    On a busy machine an earlier phase may take long: then it gets more time.
    """
    for timeout in (0.02, 0.2, 2.0, 10.0):
        with pytest.raises(TimeoutError) as raised:
            await connect(timeout)
        if str(raised.value).startswith(f"Timeout {phase}"):
            break
    return str(raised.value)


# What goes well


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_connect(loop: IOLoop, host: str) -> None:
    async def main() -> None:
        client = TCPClient()
        with serving(host="::1" if ":" in host else "127.0.0.1") as (address, _):
            stream = await client.connect(host, address[1], timeout=datetime.timedelta(seconds=20))
            assert type(stream) is IOStream
            assert await greeting(stream) == b"hello\n"
        client.close()

    run(loop, main())


def test_callback(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        called: asyncio.Future[Any] = loop.create_future()
        with serving() as (address, _):
            task = TCPClient().connect(*address, callback=called.set_result)  # which nobody awaits
            assert await greeting(await called) == b"hello\n"
            assert isinstance(task, asyncio.Task)
        with refusing_address() as address:
            failing: Awaitable[IOStream] = TCPClient().connect(*address, callback=called.set_result)
            with pytest.raises(StreamClosedError):
                await failing
        await asyncio.sleep(0)

    run(loop, main())
    assert "Connection refused" in caplog.text


def test_limits_reach_the_stream(loop: IOLoop, authority: trustme.CA) -> None:
    async def main() -> None:
        for context in (None, trusting(authority)):
            answer = over_tls(authority, "127.0.0.1") if context else None
            with serving(answer) if answer else serving() as (address, _):
                stream = await TCPClient().connect(*address, ssl_options=context, max_buffer_size=1234)
                assert stream.max_buffer_size == 1234
                stream.close()

    run(loop, main())


def test_a_resolver_that_was_given_stays_open() -> None:
    closed = []

    class Closing(Resolver):
        def close(self) -> None:
            closed.append(self)

    given = Closing()
    TCPClient(given).close()
    assert closed == []
    Resolver.configure(Closing)
    try:
        TCPClient().close()
    finally:
        Resolver.configure(None)
    assert len(closed) == 1


# Several addresses


def test_a_dead_address_and_one_alive(loop: IOLoop) -> None:
    """Refused, unreachable or silent: the next one is tried."""

    async def main() -> None:
        with refusing_address() as refused, silent() as dead, serving() as (alive, clients):
            unreachable = ("255.255.255.255", 1)
            for addresses in ([refused, alive], [unreachable, alive], [dead, alive], [dead, refused, alive, dead]):
                stream = await TCPClient(Fixed(*addresses)).connect("a.example", 1)
                assert await greeting(stream) == b"hello\n"
        assert len(clients) == 4

    run(loop, main())


def test_the_next_address_is_not_tried_before_its_time(loop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcpclient, "ATTEMPT_DELAY", 3600)

    async def main() -> None:
        with serving() as (first, _), serving() as (second, others):
            assert await greeting(await TCPClient(Fixed(first, second)).connect("a.example", 1)) == b"hello\n"
        assert others == []
        with silent() as dead, serving() as (second, others):
            connecting = asyncio.ensure_future(TCPClient(Fixed(dead, second)).connect("a.example", 1))
            for _ in range(5):
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        assert others == []

    run(loop, main())


def test_of_two_that_answer_at_once_one_is_kept(loop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcpclient, "ATTEMPT_DELAY", 0)

    async def main() -> None:
        for _ in range(10):
            with serving() as (first, _), serving() as (second, _):
                stream = await TCPClient(Fixed(first, second, first, second)).connect("a.example", 1)
                assert await greeting(stream) == b"hello\n"

    run(loop, main())


def test_order_of_addresses() -> None:
    """RFC 8305 section 4: the families in turns, beginning with the first; within one, the resolver's order."""
    four: Addresses = [(socket.AF_INET, (f"10.0.0.{n}", 1)) for n in range(3)]
    six: Addresses = [(socket.AF_INET6, (f"fc00::{n}", 1)) for n in range(2)]
    connecting = tcpclient._Connecting("a.example", 1, None, None, None)
    assert connecting.in_turns([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert connecting.in_turns([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]
    assert connecting.in_turns(four) == four
    assert connecting.in_turns([]) == []


def test_all_addresses_dead(loop: IOLoop) -> None:
    async def main() -> None:
        with refusing_address() as one, refusing_address() as other:
            with pytest.raises(StreamClosedError) as raised:
                await TCPClient(Fixed(one, ("255.255.255.255", 1), other)).connect("a.example", 7)
        error = raised.value.real_error
        assert isinstance(error, ConnectionRefusedError)
        assert "a.example:7" in str(error)
        for address in (one, other):
            assert f"127.0.0.1:{address[1]}: Connection refused" in str(error)
        assert "255.255.255.255:1: " in str(error)

    run(loop, main())


def test_a_failure_leaves_no_cycle(loop: IOLoop) -> None:
    """An error knows the frames it passed, which know who keeps it: only the garbage collector would free them."""

    async def main() -> None:
        with refusing_address() as one:
            with pytest.raises(StreamClosedError) as raised:
                await TCPClient(Fixed(one, ("255.255.255.255", 1))).connect("a.example", 7)
            del raised
            await asyncio.sleep(0)

    gc.collect()
    gc.disable()
    try:
        run(loop, main())
        attempts = [each for each in gc.get_objects() if isinstance(each, tcpclient._Attempt)]
    finally:
        gc.enable()
    assert attempts == []


def test_no_addresses(loop: IOLoop) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"a\.example:1: it resolves to no address"):
            await TCPClient(Fixed()).connect("a.example", 1)

    run(loop, main())


def test_spurious_readiness(loop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poller may say writable too early: without an error, but not connected either."""
    add_handler = loop.add_handler

    def eager(fd: Any, handler: Any, events: int) -> None:
        handler(fd, events)
        add_handler(fd, handler, events)

    monkeypatch.setattr(loop, "add_handler", eager)

    async def main() -> None:
        with silent() as dead:
            said = await timed_out(lambda timeout: TCPClient().connect(*dead, timeout=timeout), "while connecting")
        assert said == f"Timeout while connecting to 127.0.0.1:{dead[1]}"

    run(loop, main())


# Source address


def test_source_address(loop: IOLoop) -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with serving() as (address, clients):
            for source in ({"source_ip": "127.0.0.2"}, {"source_port": port}):
                assert await greeting(await TCPClient().connect(*address, **source)) == b"hello\n"
            # Only of its family; one after the other.
            client = TCPClient(Fixed(("::1", address[1]), ("127.0.0.1", address[1])))
            stream = await client.connect("a.example", 1, source_ip="127.0.0.3")
            assert await greeting(stream) == b"hello\n"
        assert [clients[0][0], clients[1][1], clients[2][0]] == ["127.0.0.2", port, "127.0.0.3"]

    run(loop, main())


def test_attempts_from_one_source_port_follow_each_other(loop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sockets cannot have it at once."""
    monkeypatch.setattr(tcpclient, "ATTEMPT_DELAY", 0)

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with refusing_address() as refused, silent() as dead, serving() as (alive, clients):
            stream = await TCPClient(Fixed(refused, alive)).connect("a.example", 1, source_port=port)
            await greeting(stream)
            assert clients[0][1] == port
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            client = TCPClient(Fixed(dead, alive))
            await timed_out(
                lambda timeout: client.connect("a.example", 1, source_port=port, timeout=timeout), "while connecting"
            )
        assert len(clients) == 1

    run(loop, main())


def test_a_source_address_that_cannot_be_used(loop: IOLoop) -> None:
    async def main() -> None:
        client = TCPClient()
        with serving() as (address, clients), socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for source, number, words in (
                ({"source_ip": "192.0.2.1"}, errno.EADDRNOTAVAIL, "cannot connect from 192.0.2.1:0"),
                ({"source_ip": "::1"}, errno.EADDRNOTAVAIL, "no address of the family of source_ip ::1"),
                ({"source_port": port}, errno.EADDRINUSE, f"cannot connect from :{port}"),
            ):
                with pytest.raises(OSError, match=words) as raised:
                    await client.connect(*address, **source)
                assert raised.value.errno == number
            with pytest.raises(ValueError, match="source_ip is a numeric"):
                await client.connect(*address, source_ip="localhost")
        assert clients == []

    run(loop, main())


# Deadlines and cancellation, in each phase


@contextlib.contextmanager
def stuck(phase: str) -> Iterator[tuple[TCPClient, Address, dict[str, Any]]]:
    """A client, and arguments that make it hang in `phase`."""
    if phase == "while resolving":
        yield TCPClient(Hanging()), ("a.example", 1), {}
    elif phase == "while connecting":
        with silent() as dead, silent() as other:
            yield TCPClient(Fixed(dead, other)), ("a.example", 1), {}
    else:
        with mute() as address:
            yield TCPClient(), address, {"ssl_options": {}}


PHASES = ["while resolving", "while connecting", "during TLS handshake"]


@pytest.mark.parametrize("phase", PHASES)
def test_timeout(loop: IOLoop, phase: str) -> None:
    async def main() -> None:
        with stuck(phase) as (client, address, options):
            for unit in (1.0, datetime.timedelta(seconds=1)):

                def connect(timeout: float, unit: Any = unit) -> Awaitable[IOStream]:
                    return client.connect(*address, timeout=timeout * unit, **options)

                said = await timed_out(connect, phase)
                assert said.startswith(f"Timeout {phase}")
                if phase == "while connecting":
                    assert said.count("127.0.0.1:") == 2  # all the addresses
                else:
                    assert address[0] in said

    run(loop, main())


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("timeout", [None, 3600])
def test_cancellation(loop: IOLoop, phase: str, timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcpclient, "ATTEMPT_DELAY", 0)

    async def main() -> None:
        with stuck(phase) as (client, address, options):
            for turns in (0, 1, 2, 3, 10, 50):
                task = asyncio.ensure_future(client.connect(*address, timeout=timeout, **options))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    run(loop, main())


@pytest.mark.parametrize("encrypted", [False, True])
def test_cancellation_on_the_way_to_success(
    loop: IOLoop, encrypted: bool, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever turn: either there is a stream, or nothing is left of it."""
    monkeypatch.setattr(tcpclient, "ATTEMPT_DELAY", 0)
    options: Any = trusting(authority) if encrypted else None
    cancelled: list[bool] = []

    async def main() -> None:
        with serving(over_tls(authority, "a.example") if encrypted else lambda connection: None) as (address, _):
            turns = 0
            while not cancelled or cancelled[-1]:  # until it is done before
                connecting = TCPClient(Fixed(address, address)).connect("a.example", 1, ssl_options=options)
                task = asyncio.ensure_future(connecting)
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                cancelled.append(isinstance(outcome, asyncio.CancelledError))
                if not cancelled[-1]:
                    assert isinstance(outcome, IOStream)
                    outcome.close()
                turns += 1 + turns // 10

    run(loop, main())
    assert cancelled[0]


def test_a_timeout_that_is_none() -> None:
    with pytest.raises(TypeError, match="a number of seconds, a timedelta or None, got '1'"):
        _ = TCPClient().connect("127.0.0.1", 1, timeout="1")  # type: ignore[arg-type]


def test_a_resolvers_own_timeout_is_its_own(loop: IOLoop) -> None:
    class Impatient(Resolver):
        async def resolve(self, host: str, port: int, family: int = 0, callback: Any = None) -> Any:
            raise TimeoutError("mine")

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"^mine$"):
            await TCPClient(Impatient()).connect("a.example", 1, timeout=3600)

    run(loop, main())


# TLS


def test_tls(loop: IOLoop, authority: trustme.CA) -> None:
    async def main() -> None:
        with serving(over_tls(authority, "localhost")) as (address, _):
            stream = await TCPClient().connect("localhost", address[1], ssl_options=trusting(authority), timeout=20)
            assert type(stream) is SSLIOStream
            assert await greeting(stream) == b"hello\n"

    run(loop, main())


def test_tls_that_fails(loop: IOLoop, authority: trustme.CA) -> None:
    """Whom we reached is somebody else, or of an authority we do not know, or does not speak TLS, or goes away."""

    async def main() -> None:
        stranger = trustme.CA()
        for answer, error, words in (
            (over_tls(authority, "other.example"), ssl.SSLCertVerificationError, "127.0.0.1"),
            (over_tls(stranger, "127.0.0.1"), ssl.SSLCertVerificationError, "verify failed"),
            (lambda connection: connection.sendall(b"220 mail.example\r\n" * 9), ssl.SSLError, "SSL"),
            (lambda connection: None, OSError, "."),
        ):
            with serving(answer) as (address, clients):
                with pytest.raises(error, match=words):
                    await TCPClient().connect(*address, ssl_options=trusting(authority), timeout=20)
            assert len(clients) == 1

    run(loop, main())


def test_unverified_if_asked_for(loop: IOLoop, authority: trustme.CA) -> None:
    async def main() -> None:
        with serving(over_tls(authority, "other.example")) as (address, _):
            with pytest.raises(ssl.SSLCertVerificationError):
                await TCPClient().connect(*address, ssl_options={})
            stream = await TCPClient().connect(*address, ssl_options={"cert_reqs": ssl.CERT_NONE})
            assert await greeting(stream) == b"hello\n"

    run(loop, main())


def test_bad_tls_options_are_told_before_anything_is_opened(loop: IOLoop) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="unknown option"):
            await TCPClient(Hanging()).connect("a.example", 1, ssl_options={"verify": True})

    run(loop, main())


# As Tornado's client


def _refused(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return stack.enter_context(refusing_address()), {}


def _unresolvable(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return ("an invalid name", 1), {}


def _greeted(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return ("localhost", stack.enter_context(serving())[0][1]), {}


def _foreign_source(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return stack.enter_context(serving())[0], {"source_ip": "192.0.2.1"}


def _late(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return stack.enter_context(silent()), {"timeout": 0.02}


def _late_handshake(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    return stack.enter_context(mute()), {"timeout": 0.1, "ssl_options": {}}


def _encrypted(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    address, _ = stack.enter_context(serving(over_tls(authority, "localhost")))
    return ("localhost", address[1]), {"ssl_options": trusting(authority)}


def _impostor(stack: contextlib.ExitStack, authority: trustme.CA) -> tuple[Address, dict[str, Any]]:
    address, _ = stack.enter_context(serving(over_tls(authority, "other.example")))
    return address, {"ssl_options": trusting(authority)}


SCENARIOS = [
    _greeted,
    _refused,
    _unresolvable,
    _foreign_source,
    _late,
    _late_handshake,
    _encrypted,
    _impostor,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.strip("_"))
def test_as_tornado(loop: IOLoop, scenario: Any, authority: trustme.CA) -> None:
    """The same result, or an error of the same name."""

    async def outcome(client: Any) -> Any:
        with contextlib.ExitStack() as stack:
            address, options = scenario(stack, authority)
            try:
                stream = await client.connect(*address, **options)
                return type(stream).__name__, await greeting(stream)
            except Exception as error:
                return type(error).__name__
            finally:
                client.close()

    async def theirs() -> Any:
        return await outcome(tornado.tcpclient.TCPClient())

    async def ours() -> Any:
        return await outcome(TCPClient())

    assert loop.run_sync(ours, timeout=20) == asyncio.run(theirs())


# Out of descriptors

EXHAUSTED = """
    import errno, os, resource, sys
    from pollux import IOLoop
    from pollux.iostream import StreamClosedError
    from pollux.tcpclient import TCPClient

    loop = IOLoop(sys.argv[1], make_current=True)

    async def main():
        await TCPClient().resolver.resolve("127.0.0.1", 1)
        free = os.dup(0)  # the lowest number that is free
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, 20000))
        try:
            await TCPClient().connect("127.0.0.1", 1)
        except StreamClosedError as error:
            print(error.real_error.errno == errno.EMFILE, "127.0.0.1:1: Too many open files" in str(error.real_error))
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 20000))

    loop.run_sync(main)
    loop.close()
"""


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_out_of_descriptors(backend: str) -> None:
    assert run_script(backend, EXHAUSTED).split() == ["True", "True"]
