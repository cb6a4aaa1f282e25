"""The same scenarios on Tornado's `IOStream` and on ours: what is observed must be equal.

Each scenario gets a module with Tornado's names and two connected streams, and returns what it observed: plain data. A
difference that is meant stands in `DIFFERENCES`, with its reason and what ours gives.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import tornado.iostream
import trustme

import pollux
import pollux.iostream
from pollux.testing.descriptors import fill, reset, tcp_pair
from tests.reactor.streams import PATIENCE, turns

Scenario = Callable[[Any, Any, Any], Awaitable[Any]]
SCENARIOS: dict[str, Scenario] = {}
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost")


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def described(error: BaseException | None) -> Any:
    """What of an error programs look at."""
    if error is None:
        return None
    name = type(error).__name__
    return (name, described(error.real_error)) if hasattr(error, "real_error") else name


async def outcome(start: Callable[[], Any]) -> Any:
    """The result of what `start` begins, or its error, and whether it was raised at once."""
    try:
        waiting = start()
    except Exception as error:
        return "at once", described(error)
    try:
        return await waiting
    except Exception as error:
        return "later", described(error)


@scenario
async def each_read(module: Any, stream: Any, peer: Any) -> Any:
    seen: list[Any] = []
    for prepared in (False, True):
        reads: list[tuple[Callable[[], Any], bytes]] = [
            (lambda: stream.read_until(b"\r\n"), b"a\rb\r\n"),
            (lambda: stream.read_until_regex(rb"\d+x"), b"ab12x"),
            (lambda: stream.read_until_regex(re.compile(rb"(?i)END")), b"the end"),
            (lambda: stream.read_bytes(3), b"abc"),
            (lambda: stream.read_bytes(0), b""),
            (lambda: stream.read_bytes(10, partial=True), b"abc"),
        ]
        for start, data in reads:
            if prepared:
                await peer.write(data)
                await turns(1)
                seen.append(await start())
            else:
                waiting = start()
                await peer.write(data)
                seen.append(await waiting)
    return seen


@scenario
async def read_into(module: Any, stream: Any, peer: Any) -> Any:
    seen: list[Any] = []
    await peer.write(b"0123456789abcdefghijklm")
    for size, partial in ((3, False), (3, True), (0, False), (0, True), (100, True)):
        target = bytearray(size)
        seen.append((await stream.read_into(target, partial=partial), bytes(target)))
    target = bytearray(4)
    waiting = stream.read_into(memoryview(target))
    await peer.write(b"wxyz!")
    seen.append((await waiting, bytes(target), await stream.read_bytes(1)))
    return seen


@scenario
async def lines_in_one_chunk(module: Any, stream: Any, peer: Any) -> Any:
    await peer.write(b"1\n22\n333\n4")
    seen = [await stream.read_until(b"\n") for _ in range(3)]
    peer.close()
    return [*seen, await stream.read_until_close(), stream.closed(), described(stream.error)]


@scenario
async def reading_and_writing_say_so(module: Any, stream: Any, peer: Any) -> Any:
    seen = [stream.reading(), stream.writing(), stream.closed()]
    waiting = stream.read_bytes(1)
    seen += [stream.reading(), stream.writing()]
    await peer.write(b"x")
    await waiting
    fill(stream.socket)
    stream.write(b"x")
    seen += [stream.reading(), stream.writing()]
    stream.close()
    return [*seen, stream.reading(), stream.writing(), stream.closed(), stream.socket]


@scenario
async def max_bytes(module: Any, stream: Any, peer: Any) -> Any:
    await peer.write(b"12345\n1234567890")
    seen = [await outcome(lambda: stream.read_until(b"\n", max_bytes=6))]
    seen.append(await outcome(lambda: stream.read_until(b"\n", max_bytes=5)))
    return [*seen, stream.closed(), described(stream.error)]


@scenario
async def max_bytes_of_a_delimiter_that_comes_too_late(module: Any, stream: Any, peer: Any) -> Any:
    await peer.write(b"123456\n")
    return [await outcome(lambda: stream.read_until_regex(rb"\n", max_bytes=6)), stream.closed()]


@scenario
async def max_bytes_reached_later(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_until(b"\n", max_bytes=10)
    await peer.write(b"1234567890")
    await turns(2)
    seen = stream.closed()
    await peer.write(b"1")
    return [seen, await outcome(lambda: waiting), described(stream.error)]


@scenario
async def reading_twice(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_bytes(1)
    seen = [await outcome(lambda: stream.read_bytes(1)), await outcome(lambda: stream.read_until(b"x"))]
    await peer.write(b"x")
    return [*seen, await waiting]


@scenario
async def after_the_peer_closed(module: Any, stream: Any, peer: Any) -> Any:
    await peer.write(b"abc\ndef")
    peer.close()
    seen = [await outcome(lambda: stream.read_until(b"\n"))]
    starts: list[Callable[[], Any]] = [
        lambda: stream.read_bytes(10),
        lambda: stream.read_bytes(1),
        lambda: stream.read_bytes(10),
        lambda: stream.read_bytes(10, partial=True),
        lambda: stream.read_until_close(),
        lambda: stream.read_until_close(),
        lambda: stream.read_until(b"\n"),
        lambda: stream.write(b"x"),
    ]
    return [*seen, *[await outcome(start) for start in starts]]


@scenario
async def a_read_that_the_end_cuts_off(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_bytes(10)
    await peer.write(b"part")
    peer.close()
    return [await outcome(lambda: waiting), described(stream.error), await outcome(lambda: stream.read_bytes(4))]


@scenario
async def a_reset_cuts_off(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_until(b"\n")
    await peer.write(b"part")
    await turns(2)
    reset(peer.socket)
    return [await outcome(lambda: waiting), described(stream.error), await outcome(lambda: stream.write(b"x"))]


@scenario
async def a_reset_ends_read_until_close(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_until_close()
    await peer.write(b"all")
    await turns(2)
    reset(peer.socket)
    return [await outcome(lambda: waiting), described(stream.error)]


@scenario
async def closing_with_an_error(module: Any, stream: Any, peer: Any) -> Any:
    waiting = stream.read_until_close()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        stream.close(exc_info=True)
    return [
        await outcome(lambda: waiting),
        described(stream.error),
        await outcome(lambda: stream.read_bytes(1)),
        await outcome(lambda: stream.write(b"")),
    ]


@scenario
async def the_close_callback(module: Any, stream: Any, peer: Any) -> Any:
    seen: list[Any] = []
    closed = asyncio.Event()

    def close() -> None:
        seen.append("closed")
        closed.set()

    stream.set_close_callback(close)
    waiting = stream.read_bytes(1)
    peer.close()
    seen.append(await outcome(lambda: waiting))
    await closed.wait()
    stream.close()
    await turns(1)
    return seen


@scenario
async def the_close_callback_without_a_read(module: Any, stream: Any, peer: Any) -> Any:
    closed = asyncio.Event()
    stream.set_close_callback(closed.set)
    peer.close()
    await closed.wait()
    return stream.closed(), described(stream.error)


@scenario
async def the_read_buffer_is_full(module: Any, stream: Any, peer: Any) -> Any:
    small = module.IOStream(socket.socket(fileno=stream.socket.detach()), max_buffer_size=1000)
    waiting = small.read_until(b"\n")
    peer.write(b"x" * 2000)
    seen = await outcome(lambda: waiting)
    return seen, described(small.error), small.read_chunk_size, small.max_buffer_size


@scenario
async def the_write_buffer_is_full(module: Any, stream: Any, peer: Any) -> Any:
    small = module.IOStream(socket.socket(fileno=stream.socket.detach()), max_write_buffer_size=10)
    seen = [await outcome(lambda: small.write(b"x" * 11)), await outcome(lambda: small.write(b"x" * 10))]
    fill(small.socket)
    small.write(b"x" * 6)
    seen += [await outcome(lambda: small.write(b"x" * 5)), small.closed()]
    small.close()
    return seen


@scenario
async def bad_arguments(module: Any, stream: Any, peer: Any) -> Any:
    await peer.write(b"abc\n")
    await turns(1)
    seen = [
        await outcome(lambda: stream.write(None)),
        await outcome(lambda: stream.read_bytes("1")),
        await outcome(lambda: stream.read_until("\n")),
        await outcome(lambda: stream.read_bytes(-1)),
    ]
    return [kind[1] if isinstance(kind, tuple) else kind for kind in seen]


@scenario
async def a_large_write(module: Any, stream: Any, peer: Any) -> Any:
    data = bytes(range(256)) * 40_000
    waiting, after = stream.write(data), stream.write(b"after")
    received = await peer.read_bytes(len(data) + 5)
    return received == data + b"after", await waiting, await after


@scenario
async def a_write_to_who_has_gone(module: Any, stream: Any, peer: Any) -> Any:
    reset(peer.socket)
    await turns(2)
    seen = [await outcome(lambda: stream.write(b"x"))]
    return [*seen, stream.closed(), await outcome(lambda: stream.write(b"x"))]


@scenario
async def refused(module: Any, stream: Any, peer: Any) -> Any:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        other = module.IOStream(socket.socket())
        seen = await outcome(lambda: other.connect(bound.getsockname()))
        return seen, described(other.error), other.closed()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CERTIFICATE.configure_cert(server)
    AUTHORITY.configure_trust(client)
    return server, client


@scenario
async def tls(module: Any, stream: Any, peer: Any) -> Any:
    server_context, client_context = contexts()
    starting = stream.start_tls(False, client_context, server_hostname="localhost")
    server = await peer.start_tls(True, server_context)
    client = await starting
    waiting = server.read_until(b"\n")
    await client.write(b"secret\n")
    seen = [await waiting, type(client).__name__, client.socket.version()]
    server.close()
    return [*seen, await outcome(lambda: client.read_bytes(1)), client.closed(), described(client.error)]


@scenario
async def tls_with_another_name(module: Any, stream: Any, peer: Any) -> Any:
    server_context, client_context = contexts()
    server = peer.start_tls(True, server_context)
    seen = await outcome(lambda: stream.start_tls(False, client_context, server_hostname="elsewhere.example"))
    try:
        (await server).close()
    except ssl.SSLError:
        pass
    return seen


@scenario
async def tls_that_is_not_idle(module: Any, stream: Any, peer: Any) -> Any:
    server_context, _ = contexts()
    stream.read_bytes(1)
    seen = [await outcome(lambda: stream.start_tls(True, server_context))]
    stream.close()
    return [*seen, await outcome(lambda: stream.start_tls(True, server_context))]


# Why ours is not Tornado's, and what it is.
_CLOSED = ("at once", ("StreamClosedError", None))
DIFFERENCES: dict[str, tuple[str, Any]] = {
    "after_the_peer_closed": (
        "After one read that failed at once, Tornado reports StreamClosedError for all others, too, though the buffer "
        "could answer them",
        [b"abc\n", ("later", ("StreamClosedError", None)), b"d", _CLOSED, b"ef", b"", b"", _CLOSED, _CLOSED],
    ),
    "bad_arguments": (
        "Tornado takes a negative size for 'all there is', starts a read that can never end for a size that is no "
        "number, and a delimiter that is no bytes leaves a read pending for ever",
        ["TypeError", "TypeError", "TypeError", "ValueError"],
    ),
}


def observe(module: Any, name: str) -> Any:
    async def main() -> Any:
        with tcp_pair() as (ours, theirs):
            stream, peer = module.IOStream(ours), module.IOStream(theirs)
            try:
                return await asyncio.wait_for(SCENARIOS[name](module, stream, peer), PATIENCE)
            finally:
                for each in (stream, peer):
                    if each.socket is not None:  # else closed, or changed to TLS
                        each.close()

    return asyncio.run(main()) if module is tornado.iostream else pollux.run(main())


@pytest.mark.parametrize("name", SCENARIOS)
def test_ours_does_what_tornados_does(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    ours, theirs = observe(pollux.iostream, name), observe(tornado.iostream, name)
    if name in DIFFERENCES:
        _, expected = DIFFERENCES[name]
        assert ours == expected
        assert ours != theirs, "no difference any more"
    else:
        assert ours == theirs
