"""`IOStream` on every backend: delivery, the write buffer, and a close that happens once."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from pollux import IOLoop
from pollux.iostream import IOStream, StreamClosedError
from pollux.testing.descriptors import fill, nothing_left_open, reset, socket_pair, tcp_pair
from tests.reactor.loops import BACKENDS, usable

PATIENCE = 20.0


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(request.param), make_current=True)
        yield loop
        loop.close()
        IOLoop.clear_current()
        gc.collect()


def run(loop: IOLoop, main: Coroutine[Any, Any, None]) -> None:
    loop.run_sync(lambda: main, timeout=PATIENCE)


class Sink:
    """Collects what is delivered."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.more = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.chunks.append(data)
        self.more.set()

    async def until(self, data: bytes) -> None:
        """Wait until `data` was delivered in all."""
        while b"".join(self.chunks) != data:
            self.more.clear()
            await self.more.wait()

    async def end(self) -> None:
        """Wait for the end of file."""
        while not self.chunks or self.chunks[-1]:
            self.more.clear()
            await self.more.wait()


async def closing(stream: IOStream) -> None:
    """Wait until `stream` is closed."""
    closed = asyncio.Event()
    stream.set_close_callback(closed.set)
    await closed.wait()


def test_delivery(loop: IOLoop) -> None:
    async def main() -> None:
        sink = Sink()
        with socket_pair() as (ours, peer):
            stream = IOStream(ours, read_chunk_size=4)
            assert ours.getblocking() is False
            stream.deliver_to(sink)
            peer.send(b"abcdefghij")
            await sink.until(b"abcdefghij")
            assert sink.chunks == [b"abcd", b"efgh", b"ij"]
            stream.close()

    run(loop, main())


def test_the_end_is_delivered_once_and_writing_goes_on(loop: IOLoop) -> None:
    async def main() -> None:
        sink = Sink()
        with tcp_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(sink)
            peer.send(b"last")
            peer.shutdown(socket.SHUT_WR)
            await sink.end()
            stream.pause_reading()
            stream.resume_reading()
            for _ in range(10):
                await asyncio.sleep(0)
            assert sink.chunks == [b"last", b""]
            assert not stream.closed()
            assert stream.send(b"answer") is True
            assert await loop.sock_recv(peer, 100) == b"answer"
            stream.close()

    run(loop, main())


def test_pausing_leaves_data_in_the_kernel(loop: IOLoop) -> None:
    async def main() -> None:
        sink = Sink()
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(sink)
            stream.pause_reading()
            peer.send(b"a")
            for _ in range(5):
                await asyncio.sleep(0)
            assert sink.chunks == []
            stream.resume_reading()
            await sink.until(b"a")
            stream.close()

    run(loop, main())


def test_a_consumer_may_pause_and_close(loop: IOLoop) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(lambda data: stream.close())
            peer.send(b"a")
            await closing(stream)
            assert stream.error is None
            stream.pause_reading()
            stream.resume_reading()
            assert stream.send(b"x") is True

    run(loop, main())


def test_a_raising_consumer_closes_the_stream(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(lambda data: 1 // 0)  # type: ignore[func-returns-value, arg-type, return-value, unused-ignore]
            peer.send(b"a")
            await closing(stream)
            assert isinstance(stream.error, ZeroDivisionError)

    run(loop, main())
    assert "Exception in the consumer" in caplog.text


def test_large_writes_arrive_whole_and_in_order(loop: IOLoop) -> None:
    data = bytes(range(256)) * 20_000

    async def main() -> None:
        with tcp_pair() as (ours, peer):
            stream = IOStream(ours)
            drained = asyncio.Event()
            assert stream.send(data) is False
            assert stream.send(b"tail") is False
            assert 0 < stream.unsent <= len(data) + 4
            stream.on_drain(drained.set)
            received = b""
            while len(received) < len(data) + 4:
                received += await loop.sock_recv(peer, 1 << 20)
            assert received == data + b"tail"
            await drained.wait()
            assert stream.unsent == 0
            assert stream.take_progress()
            assert not stream.take_progress()
            assert stream.send(b"x") is True
            stream.close()

    run(loop, main())


def test_reading_goes_on_while_a_write_waits(loop: IOLoop) -> None:
    async def main() -> None:
        sink = Sink()
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(sink)
            fill(ours)
            assert stream.send(b"waits") is False
            peer.send(b"a")
            await sink.until(b"a")
            assert stream.unsent == 5
            stream.close()
            assert stream.unsent == 0

    run(loop, main())


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("writing", [True, False])
def test_a_reset_closes_the_stream_whatever_it_waits_for(loop: IOLoop, reading: bool, writing: bool) -> None:
    if not reading and not writing and loop.backend.name == "select":
        pytest.skip("select reports nothing where there is no interest, as the poller contract has it")

    async def main() -> None:
        with tcp_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(Sink())
            if not reading:
                stream.pause_reading()
            if writing:
                fill(ours)
                stream.send(b"x")
            reset(peer)
            await closing(stream)
            assert isinstance(stream.error, OSError)
            assert stream.error.errno in (errno.ECONNRESET, errno.EPIPE)

    run(loop, main())


def test_a_write_to_a_peer_that_has_gone(loop: IOLoop) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            peer.close()
            assert stream.send(b"x") is True
            assert stream.closed()
            assert isinstance(stream.error, BrokenPipeError)

    run(loop, main())


def test_close_happens_once_and_is_told_later(loop: IOLoop) -> None:
    told: list[str] = []

    async def main() -> None:
        with socket_pair() as (ours, _):
            stream = IOStream(ours)
            stream.deliver_to(Sink())
            stream.set_close_callback(lambda: told.append("closed"))
            first = ValueError("first")
            stream.close(first)
            stream.close(ValueError("second"))
            assert told == []
            assert stream.closed()
            assert ours.fileno() == -1
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert told == ["closed"]
            assert stream.error is first
            with pytest.raises(StreamClosedError, match="first") as error:
                stream.deliver_to(Sink())
            assert error.value.real_error is first
            assert "closed" in repr(stream)

    run(loop, main())


def test_a_closed_number_that_is_used_again_is_another_stream(loop: IOLoop) -> None:
    """A late event or write of the old one must not touch the new."""

    async def main() -> None:
        with socket_pair() as (ours, peer), socket_pair() as (second, second_peer):
            old = IOStream(ours)
            old.deliver_to(Sink())
            peer.send(b"for the old")
            number = ours.fileno()
            old.close()
            sock = socket.socket(fileno=second.detach())
            if sock.fileno() != number:
                import os

                os.dup2(sock.fileno(), number)
                sock.close()
                sock = socket.socket(fileno=number)
            sink = Sink()
            new = IOStream(sock)
            new.deliver_to(sink)
            old.send(b"stale")
            old.close()
            second_peer.send(b"for the new")
            await sink.until(b"for the new")
            with pytest.raises(BlockingIOError):
                second_peer.recv(1)
            new.close()

    run(loop, main())


def test_reads_after_delivery(loop: IOLoop) -> None:
    """What was delivered and not used is read first; what has not come is not lost."""

    async def main() -> None:
        sink = Sink()
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(sink)
            peer.send(b"one\ntwo\nthr")
            await sink.until(b"one\ntwo\nthr")
            stream.stop_delivery(b"two\nthr")
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            peer.send(b"ee\n")
            assert [await stream.read_until(b"\n"), await stream.read_until(b"\n")] == [b"two\n", b"three\n"]
            stream.deliver_to(sink)
            peer.send(b"four")
            await sink.until(b"one\ntwo\nthrfour")
            stream.stop_delivery()
            told = asyncio.Event()
            stream.set_close_callback(told.set)
            peer.close()
            await told.wait()

    run(loop, main())


def test_delivery_that_ends_with_the_stream(loop: IOLoop) -> None:
    """At the end of what the peer sends, and closed: what was delivered can still be read."""

    async def main() -> None:
        sink = Sink()
        with socket_pair() as (ours, peer):
            stream = IOStream(ours)
            stream.deliver_to(sink)
            peer.send(b"all")
            peer.shutdown(socket.SHUT_WR)
            await sink.until(b"all")
            stream.stop_delivery(b"all")
            assert await stream.read_until_close() == b"all"
            stream.stop_delivery(b"rest")
            assert await stream.read_bytes(4) == b"rest"

    run(loop, main())
