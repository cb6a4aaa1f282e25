"""Tornado's older dialect on every backend: `callback=`, `streaming_callback=`, stack contexts, errors in them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from pollux import IOLoop
from pollux.iostream import IOStream
from pollux.stack_context import ExceptionStackContext, NullContext
from pollux.testing.descriptors import fill, socket_pair
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop, closing, stream_pair, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


class Calls:
    """Collects what callbacks are called with."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.more = asyncio.Event()

    def __call__(self, *args: Any) -> None:
        self.made.append(args[0] if len(args) == 1 else args)
        self.more.set()

    async def until(self, count: int) -> None:
        while len(self.made) < count:
            self.more.clear()
            await self.more.wait()


@asynchronous
async def test_each_callback(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        calls = Calls()
        target = bytearray(2)
        reads: list[tuple[Callable[[], object], bytes, object]] = [
            (lambda: stream.read_until(b"\n", callback=calls), b"a\n", b"a\n"),
            (lambda: stream.read_until_regex(rb"\d", callback=calls), b"b1", b"b1"),
            (lambda: stream.read_bytes(3, callback=calls), b"abc", b"abc"),
            (lambda: stream.read_bytes(3, partial=True, callback=calls), b"a", b"a"),
            (lambda: stream.read_into(target, callback=calls), b"xy", 2),
        ]
        for buffered in (False, True):
            for start, data, expected in reads:
                if buffered:
                    peer.write(data)
                    await turns(1)
                calls.made.clear()
                assert start() is None
                assert stream.reading() is not buffered
                assert calls.made == [], "called at once, not on the loop"
                if not buffered:
                    peer.write(data)
                await calls.until(1)
                assert calls.made == [expected]
        calls.made.clear()
        assert stream.write(b"x", callback=calls) is None
        assert calls.made == []
        await calls.until(1)
        assert calls.made == [()]
        assert stream.read_until_close(callback=calls) is None
        peer.write(b"end")
        peer.close()
        await calls.until(2)
        assert calls.made[1] == b"end"
        assert stream.read_until_close(callback=calls) is None
        await calls.until(3)
        assert calls.made[2] == b""


@asynchronous
async def test_the_callback_as_second_argument(loop: IOLoop) -> None:
    """Where Tornado 2 to 5 have it, and Tornado 6 something else."""
    with stream_pair() as (first, peer):
        stream: Any = first
        calls, pieces = Calls(), Calls()
        reads: list[tuple[Callable[[], object], object]] = [
            (lambda: stream.read_until(b"\n", calls), b"abc\n"),
            (lambda: stream.read_until(b"\n", calls, 4), b"abc\n"),
            (lambda: stream.read_until_regex(rb"\n", calls), b"abc\n"),
            (lambda: stream.read_until_regex(rb"\n", calls, 4), b"abc\n"),
            (lambda: stream.read_bytes(4, calls), b"abc\n"),
            (lambda: stream.read_bytes(4, calls, pieces), b""),
            (lambda: stream.read_bytes(4, calls, streaming_callback=pieces), b""),
        ]
        for start, expected in reads:
            calls.made.clear()
            assert start() is None
            await peer.write(b"abc\n")
            await calls.until(1)
            assert calls.made == [expected]
        assert pieces.made == [b"abc\n", b"abc\n"]
        await peer.write(b"abcd")
        for size, partial, filled in ((3, False, 3), (9, True, 1)):
            calls.made.clear()
            assert stream.read_into(bytearray(size), calls, partial) is None
            await calls.until(1)
            assert calls.made == [filled]


@asynchronous
async def test_connect_takes_the_callback_as_second_argument(loop: IOLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream: Any = IOStream(socket.socket())
        calls = Calls()
        assert stream.connect(listener.getsockname(), calls) is None
        await calls.until(1)
        assert calls.made == [()]
        stream.close()


@asynchronous
async def test_connect_calls_back_without_arguments(loop: IOLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = IOStream(socket.socket())
        calls = Calls()
        assert stream.connect(listener.getsockname(), callback=calls) is None
        await calls.until(1)
        assert calls.made == [()]
        stream.close()


@asynchronous
async def test_a_write_that_waits_calls_back_when_it_is_out(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer_socket):
        stream = IOStream(ours)
        fill(ours)
        calls = Calls()
        assert stream.write(b"end", callback=calls) is None
        await turns(2)
        assert calls.made == []
        peer = IOStream(peer_socket)
        await peer.read_until(b"end")
        await calls.until(1)
        stream.close()
        peer.close()


@asynchronous
async def test_the_close_callback_comes_last(loop: IOLoop) -> None:
    """After callbacks that read on in what was buffered; those of reads that fail are not called."""
    with stream_pair() as (stream, peer):
        calls = Calls()

        def line(data: bytes) -> None:
            calls(data)
            if len(calls.made) < 3:
                stream.read_until(b"\n", callback=line)
            else:
                assert stream.closed()

        stream.set_close_callback(lambda: calls("closed"))
        peer.write(b"1\n2\n3\n")
        await turns(2)
        stream.read_until(b"\n", callback=line)
        stream.close()
        await calls.until(4)
        assert calls.made == [b"1\n", b"2\n", b"3\n", "closed"]
    with stream_pair() as (stream, peer):
        calls = Calls()
        stream.read_bytes(1, callback=calls)
        fill(stream.socket)
        stream.write(b"x", callback=calls)
        stream.set_close_callback(lambda: calls("closed"))
        peer.close()
        await calls.until(1)
        await turns(2)
        assert calls.made == ["closed"]


@asynchronous
async def test_streaming(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        pieces, whole = Calls(), Calls()
        assert stream.read_bytes(6, callback=whole, streaming_callback=pieces) is None
        for number, data in enumerate((b"ab", b"cd", b"efgh"), 1):
            await peer.write(data)
            await pieces.until(number)
        await whole.until(1)
        assert pieces.made == [b"ab", b"cd", b"ef"]
        assert whole.made == [b""]
        read = stream.read_bytes(2, streaming_callback=pieces)
        assert await read == b""
        await pieces.until(4)
        assert pieces.made.pop() == b"gh"
        assert await stream.read_bytes(0, streaming_callback=pieces) == b""
        everything = stream.read_until_close(streaming_callback=pieces)
        await peer.write(b"ij")
        await pieces.until(4)
        await peer.write(b"kl")
        await pieces.until(5)
        peer.close()
        assert await everything == b""
        assert pieces.made == [b"ab", b"cd", b"ef", b"ij", b"kl"]


@asynchronous
async def test_streaming_what_is_in_the_buffer(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        pieces = Calls()
        peer.write(b"?abcdef")
        await stream.read_bytes(1)
        assert await stream.read_bytes(2, streaming_callback=pieces) == b""
        stream.close()
        read = stream.read_bytes(10, streaming_callback=pieces)
        assert isinstance(read, asyncio.Future)
        assert read.exception() is not None
        assert await stream.read_until_close(streaming_callback=pieces) == b""
        await turns(1)
        assert pieces.made == [b"ab", b"cdef"]
    with stream_pair() as (stream, peer):
        peer.write(b"?abc")
        await stream.read_bytes(1)
        stream.close()
        pieces.made.clear()
        assert await stream.read_until_close(streaming_callback=pieces) == b""
        await turns(1)
        assert pieces.made == [b"abc"]


@asynchronous
async def test_streaming_that_is_cancelled(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        pieces = Calls()
        read = stream.read_bytes(100, streaming_callback=pieces)
        await peer.write(b"ab")
        await pieces.until(1)
        assert isinstance(read, asyncio.Future)
        read.cancel()
        await peer.write(b"cd")
        assert await stream.read_bytes(2) == b"cd"
        assert pieces.made == [b"ab"]


@pytest.mark.parametrize("kind", ["read", "buffered read", "write", "streaming", "coroutine"])
@asynchronous
async def test_a_callback_that_raises(loop: IOLoop, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, and the stream is closed: its descriptor would be lost."""

    def fail(*args: object) -> None:
        raise ZeroDivisionError("in the callback")

    async def fail_later(*args: object) -> None:
        await asyncio.sleep(0)
        fail()

    with stream_pair() as (stream, peer):
        peer.write(b"xy")
        if kind == "buffered read":
            await stream.read_bytes(1)
        if kind == "write":
            stream.write(b"x", callback=fail)
        elif kind == "streaming":
            stream.read_bytes(10, streaming_callback=fail)
        else:
            stream.read_bytes(1, callback=fail_later if kind == "coroutine" else fail)
        await closing(stream)
        assert isinstance(stream.error, ZeroDivisionError)
    assert [record.name for record in caplog.records] == ["pollux.application"]
    assert "in the callback" in caplog.text


@asynchronous
async def test_callbacks_run_in_the_contexts_of_where_they_were_given(
    loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    place = ContextVar("place", default="nowhere")
    handled: list[object] = []
    calls = Calls()

    def handle(kind: type[BaseException], error: BaseException, traceback: object) -> bool:
        handled.append((place.get(), str(error)))
        calls("handled")
        return True

    def fail(data: bytes) -> None:
        raise ValueError(data)

    with stream_pair() as (stream, peer):
        place.set("here")
        with ExceptionStackContext(handle):
            stream.read_bytes(1, callback=fail)
        place.set("elsewhere")
        peer.write(b"x")
        await calls.until(1)
        assert handled == [("here", "b'x'")]
        assert not stream.closed(), "the context has handled it"
        with NullContext():
            stream.read_bytes(1, callback=calls)
        peer.write(b"y")
        await calls.until(2)
    assert caplog.records == []


@asynchronous
async def test_a_coroutine_fails_in_the_contexts_of_its_callback(
    loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[object] = []
    calls = Calls()

    def handle(kind: type[BaseException], error: BaseException, traceback: object) -> bool:
        handled.append(error)
        calls("handled")
        return str(error) == "mine"

    async def fail(text: bytes) -> None:
        await asyncio.sleep(0)
        raise ValueError(text.decode())

    with stream_pair() as (stream, peer):
        with ExceptionStackContext(handle):
            stream.read_bytes(4, callback=fail)
            peer.write(b"mine")
            await calls.until(1)
            await turns(1)
            assert not stream.closed()
            stream.read_bytes(6, callback=fail)
        peer.write(b"theirs")
        await closing(stream)
        assert [str(error) for error in handled] == ["mine", "theirs"]
    assert [record.name for record in caplog.records] == ["pollux.application"]


@asynchronous
async def test_a_stream_does_not_live_in_the_context_of_its_first_read(
    loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[object] = []

    def handle(kind: object, error: object, traceback: object) -> bool:
        handled.append(error)
        return True

    def fail(data: bytes) -> None:
        raise ValueError("of a later read")

    with stream_pair() as (stream, peer):
        calls = Calls()
        with ExceptionStackContext(handle):
            stream.read_bytes(1, callback=calls)
        peer.write(b"x")
        await calls.until(1)
        stream.read_bytes(1, callback=fail)
        peer.write(b"y")
        await closing(stream)
    assert handled == []
    assert len(caplog.records) == 1
