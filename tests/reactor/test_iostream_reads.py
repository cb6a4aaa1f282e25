"""Reads of `IOStream` on every backend: answers, interest in the poller, cancellation, the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pollux import IOLoop
from pollux.backend import Backend
from pollux.iostream import IOStream, StreamBufferFullError, StreamClosedError, UnsatisfiableReadError
from pollux.poller import READ
from pollux.testing.descriptors import reset, socket_pair, tcp_pair
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop, closing, real_error, stream_pair, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


@asynchronous
async def test_each_read(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        for _ in range(2):  # the second time, interest is on
            reads: list[Any] = [stream.read_until(b"\n")]
            assert stream.reading()
            peer.write(b"line\nab12-5")
            assert await reads[0] == b"line\n"
            assert not stream.reading()
            assert await stream.read_until_regex(rb"\d+-") == b"ab12-"
            read = stream.read_bytes(4)
            await peer.write(b"678")
            assert await read == b"5678"
            read = stream.read_bytes(100, partial=True)
            peer.write(b"90")
            assert await read == b"90"
            target = bytearray(3)
            count = stream.read_into(target)
            peer.write(b"a")
            await turns(2)
            peer.write(b"bcd")
            assert await count == 3
            assert target == b"abc"
            assert await stream.read_bytes(1) == b"d"
            assert await stream.read_bytes(0) == b""
        everything = stream.read_until_close()
        peer.write(b"the ")
        await turns(2)
        peer.write(b"rest")
        peer.close()
        assert await everything == b"the rest"
        assert stream.closed()
        assert stream.error is None


@asynchronous
async def test_a_read_answered_from_the_buffer_is_done_at_once(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        peer.write(b"1\n2\n3\n")
        assert await stream.read_until(b"\n") == b"1\n"
        peer.write(b"4\n")
        for line in (b"2\n", b"3\n"):
            future = stream.read_until(b"\n")
            assert isinstance(future, asyncio.Future)
            assert future.done()
            assert future.result() == line
        later = stream.read_until(b"\n")
        assert await later == b"4\n"


class Tally:
    """A poller that counts the changes of its registrations."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.changes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._poller, name)
        if name in ("register", "modify", "unregister"):
            self.changes.append(name)
        return method


def test_requests_and_answers_change_no_registration(loop: IOLoop) -> None:
    backend = loop.backend
    tallies: list[Tally] = []

    def create() -> Any:
        tallies.append(Tally(backend.create()))
        return tallies[0]

    async def main() -> None:
        with stream_pair() as (stream, peer):

            async def echo() -> None:
                try:
                    while True:
                        await stream.write(await stream.read_until(b"\n"))
                except StreamClosedError:
                    pass

            task = asyncio.ensure_future(echo())
            await peer.write(b"first\n")
            assert await peer.read_until(b"\n") == b"first\n"
            tallies[0].changes.clear()
            for number in range(50):
                line = b"%d\n" % number
                await peer.write(line)
                assert await peer.read_until(b"\n") == line
            assert tallies[0].changes == []
            peer.close()
            await task

    counted = IOLoop(Backend(backend.name, "counts", create), make_current=False)
    counted.run_sync(main, timeout=20)
    counted.close()


@asynchronous
async def test_what_nobody_reads_stays_in_the_kernel(loop: IOLoop) -> None:
    """Interest is kept after a read, and dropped by the first event that nobody reads."""
    with socket_pair() as (ours, peer):
        stream = IOStream(ours)
        read = stream.read_until(b"\n")
        peer.send(b"a\n")
        assert await read == b"a\n"
        peer.send(b"more")
        await turns()
        assert ours.recv(100, socket.MSG_PEEK) == b"more"
        assert ours.fileno() not in loop._entries
        assert await stream.read_bytes(4) == b"more"
        stream.close()


@asynchronous
async def test_at_most_a_chunk_is_read_ahead(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer):
        stream = IOStream(ours, read_chunk_size=4)
        peer.send(b"a\nbcdefgh")
        assert await stream.read_until(b"\n") == b"a\n"
        assert ours.recv(100, socket.MSG_PEEK) == b"defgh"
        assert await stream.read_bytes(7) == b"bcdefgh"
        stream.close()


@asynchronous
async def test_reading_twice_is_an_error_and_harms_nothing(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        read = stream.read_until(b"\n")
        for again in (
            lambda: stream.read_bytes(1),
            lambda: stream.read_until(b"\n"),
            lambda: stream.read_until_regex(rb"\n"),
            lambda: stream.read_into(bytearray(1)),
            lambda: stream.read_until_close(),
            lambda: stream.deliver_to(print),
        ):
            with pytest.raises(AssertionError, match="Already reading"):
                again()
        peer.write(b"line\n")
        assert await read == b"line\n"
        stream.deliver_to(lambda data: None)
        with pytest.raises(AssertionError, match="deliver_to"):
            stream.read_bytes(1)


@asynchronous
async def test_bad_arguments_leave_the_stream_as_it_is(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        for kind, call in (
            (ValueError, lambda: stream.read_bytes(-1)),
            (TypeError, lambda: stream.read_bytes("1")),  # type: ignore[arg-type]
            (TypeError, lambda: stream.read_until("\n")),  # type: ignore[arg-type]
            (ValueError, lambda: stream.read_until(b"")),
            (re.error, lambda: stream.read_until_regex(rb"(")),
            (TypeError, lambda: stream.read_into(b"constant")),
            (TypeError, lambda: stream.write("text")),  # type: ignore[arg-type]
            (TypeError, lambda: stream.write(None)),  # type: ignore[arg-type]
        ):
            with pytest.raises(kind):
                call()
            assert not stream.reading()
        peer.write(b"x")
        assert await stream.read_bytes(1) == b"x"


@asynchronous
async def test_a_cancelled_read_loses_nothing(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        target = bytearray(10)
        peer.write(b"par")
        for start in (
            lambda: stream.read_bytes(100),
            lambda: stream.read_until(b"\n"),
            lambda: stream.read_into(target),
            lambda: stream.read_until_close(),
        ):
            pending = start()
            assert isinstance(pending, asyncio.Future)
            await turns(2)
            pending.cancel()
        assert target == bytearray(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.read_until(b"\n"), 0.001)
        peer.write(b"tial\n")
        assert await stream.read_until(b"\n") == b"partial\n"
        assert not stream.closed()


@asynchronous
async def test_data_that_comes_for_a_cancelled_read_is_left_for_the_next(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        read = stream.read_bytes(1)
        assert isinstance(read, asyncio.Future)
        read.cancel()
        peer.write(b"ab")
        await turns()
        assert await stream.read_bytes(2) == b"ab"


@asynchronous
async def test_buffered_data_is_readable_after_the_peer_has_closed(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        peer.write(b"1\n2\n3")
        peer.close()
        assert await stream.read_until(b"\n") == b"1\n"
        stream.close()
        assert await stream.read_until(b"\n") == b"2\n"
        with pytest.raises(StreamClosedError):
            stream.read_until(b"\n")
        assert await stream.read_until_close() == b"3"
        assert await stream.read_until_close() == b""
        with pytest.raises(StreamClosedError):
            stream.read_bytes(1)


@asynchronous
async def test_what_the_peer_said_last_is_not_lost_with_its_hang_up(loop: IOLoop) -> None:
    """A Unix socket reports the hang-up while data waits, also to those who wait for nothing."""
    with socket_pair() as (ours, peer):
        stream = IOStream(ours)
        read = stream.read_bytes(1)
        peer.send(b"1")
        assert await read == b"1"
        peer.send(b"last words")
        peer.close()
        await turns()
        assert not stream.closed()
        assert await stream.read_bytes(10) == b"last words"
        assert await real_error(stream.read_bytes(1)) is None


@asynchronous
async def test_a_half_closed_peer_gets_its_answer(loop: IOLoop) -> None:
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        read = stream.read_until(b"\n")
        peer.sendall(b"request\n")
        peer.shutdown(socket.SHUT_WR)
        assert await read == b"request\n"
        await turns()  # thinking
        await stream.write(b"answer")
        stream.close()
        assert await loop.sock_recv(peer, 100) == b"answer"


@pytest.mark.parametrize("pending", [True, False])
@asynchronous
async def test_the_close_callback_comes_when_the_peer_closes(loop: IOLoop, pending: bool) -> None:
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        if pending:
            read = stream.read_until(b"\n")
            peer.sendall(b"x\n")
            assert await read == b"x\n"
        peer.close()
        await closing(stream)
        assert stream.closed()
        assert stream.error is None


@asynchronous
async def test_watching_for_the_close_reads_one_chunk_and_does_not_spin(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer):
        stream = IOStream(ours, read_chunk_size=4)
        closed = asyncio.Event()
        stream.set_close_callback(closed.set)
        assert loop._entries[ours.fileno()].events == READ
        peer.send(b"123456789")
        await turns()
        assert ours.recv(100, socket.MSG_PEEK) == b"56789"
        assert ours.fileno() not in loop._entries
        assert await stream.read_bytes(9) == b"123456789"
        peer.close()
        await closed.wait()


@asynchronous
async def test_a_read_that_empties_the_buffer_has_the_close_watched_again(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer):
        stream = IOStream(ours)
        closed = asyncio.Event()
        stream.set_close_callback(closed.set)
        peer.send(b"12")
        await turns()
        peer.close()
        await turns()
        assert not stream.closed()
        assert await stream.read_bytes(2) == b"12"
        await closed.wait()


@pytest.mark.parametrize("start", ["at once", "later", "from the buffer"])
@asynchronous
async def test_a_delimiter_that_does_not_come(loop: IOLoop, start: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pollux.general")
    with stream_pair() as (stream, peer):
        if start == "later":
            read = stream.read_until(b"\n", max_bytes=10)
            peer.write(b"x" * 11)
        elif start == "at once":
            peer.write(b"x" * 11)
            read = stream.read_until(b"\n", max_bytes=10)
        else:
            peer.write(b"?" + b"x" * 11)
            await stream.read_bytes(1)
            read = stream.read_until_regex(rb"\n", max_bytes=10)
        error = await real_error(read)
        assert isinstance(error, UnsatisfiableReadError)
        assert stream.error is error
        assert stream.closed()
    assert [record.levelname for record in caplog.records] == ["INFO"]


@asynchronous
async def test_the_read_buffer_is_bounded(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with stream_pair(max_buffer_size=1000) as (stream, peer):
        assert stream.read_chunk_size == 500
        read = stream.read_until(b"\n")
        peer.write(b"x" * 2000)
        error = await real_error(read)
        assert isinstance(error, StreamBufferFullError)
    assert len(caplog.records) == 1


@asynchronous
async def test_a_reset_while_reading(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    for start in ("read_until", "read_bytes"):
        with tcp_pair() as (ours, peer):
            stream = IOStream(ours)
            read = stream.read_until(b"\n") if start == "read_until" else stream.read_bytes(5)
            peer.send(b"part")
            await turns(2)
            reset(peer)
            error = await real_error(read)
            assert isinstance(error, ConnectionResetError)
            assert stream.error is error
            assert await stream.read_bytes(4) == b"part"
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        peer.send(b"all there is")
        everything = stream.read_until_close()
        reset(peer)
        assert await everything == b"all there is"
        assert isinstance(stream.error, ConnectionResetError)
    assert caplog.records == []


@asynchronous
async def test_a_reset_that_is_there_before_the_read(loop: IOLoop) -> None:
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        reset(peer)
        await turns(2)
        assert isinstance(await real_error(stream.read_bytes(1)), ConnectionResetError)


@asynchronous
async def test_an_error_of_another_kind(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    """At once it is raised, later it is logged; in both cases the stream is closed."""

    class Broken(IOStream):
        broken = False

        def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read_from_fd(buf)

    with socket_pair() as (ours, _):
        stream = Broken(ours)
        stream.broken = True
        with pytest.raises(OSError, match="Input/output"):
            stream.read_bytes(1)
        assert stream.closed()
        assert caplog.records == []
    with socket_pair() as (ours, peer):
        stream = Broken(ours)
        read = stream.read_bytes(1)
        stream.broken = True
        peer.send(b"x")
        assert isinstance(await real_error(read), OSError)
        assert [record.levelname for record in caplog.records] == ["WARNING"]


@asynchronous
async def test_a_pending_read_that_nobody_awaits_fails_in_silence(
    loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_pair() as (stream, peer):
        stream.read_bytes(1)
        peer.close()
        await closing(stream)
    gc.collect()
    assert caplog.records == []


@asynchronous
async def test_delivery_begins_with_what_a_read_has_left(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        peer.write(b"head\nbody")
        assert await stream.read_until(b"\n") == b"head\n"
        chunks: list[bytes] = []
        more = asyncio.Event()

        def consume(data: bytes) -> None:
            chunks.append(data)
            more.set()

        stream.deliver_to(consume)
        assert chunks == [b"body"]
        more.clear()
        peer.write(b"and more")
        await more.wait()
        assert chunks == [b"body", b"and more"]


@asynchronous
async def test_ten_mebibytes_in_one_read(loop: IOLoop) -> None:
    data = bytes(range(255)) * 41_000
    with stream_pair(tcp=True) as (stream, peer):
        starts: list[Callable[[], Awaitable[bytes]]] = [
            lambda: stream.read_bytes(len(data) + 4),
            lambda: stream.read_until(b"\xff\r\n\r"),
            lambda: stream.read_until_regex(rb"\xff\r?\n\r?"),
        ]
        for start in starts:
            read = start()
            written = peer.write(data)
            peer.write(b"\xff\r\n\r")
            answer = await read
            await written
            assert answer == data + b"\xff\r\n\r"
