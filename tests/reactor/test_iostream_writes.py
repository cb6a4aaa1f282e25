"""Writes, connecting and closing of `IOStream` on every backend, and `WriteBuffer`."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pollux import IOLoop
from pollux.basestream import MAX_BUFFER_SIZE
from pollux.errors import FdLimitError
from pollux.iostream import BaseIOStream, IOStream, PipeIOStream, SSLIOStream, StreamBufferFullError, StreamClosedError
from pollux.testing.descriptors import files_allowed, fill, refusing_address, reset, socket_pair, tcp_pair
from pollux.writebuffer import JOIN_BELOW, JOINED_SIZE, WriteBuffer
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop, closing, real_error, stream_pair, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)

MIB = 1 << 20


def test_write_buffer() -> None:
    """Small pieces are joined, large ones kept as they are; what comes out is what went in."""
    large = b"L" * JOIN_BELOW
    pieces: list[Any] = [b"a", b"bc", large, b"d", b"", memoryview(b"ef"), large, b"g" * (JOIN_BELOW - 1), b"h"]
    buffer = WriteBuffer()
    ends = [buffer.append(piece) for piece in pieces]
    expected = b"".join(pieces)
    assert len(buffer) == ends[-1] == len(expected)
    out = b""
    for step in (1, 1, 5, JOIN_BELOW, 3, 1 << 30):
        while buffer:
            with buffer.head() as head:
                taken = head[:step].tobytes()
            out += taken
            buffer.advance(len(taken))
            assert buffer.taken == len(out)
            if step < 1 << 30:
                break
    assert out == expected
    buffer.append(b"x" * (3 * JOINED_SIZE))
    with buffer.head() as head:
        assert len(head) == JOINED_SIZE


@asynchronous
async def test_writes_that_leave_at_once_share_a_future(loop: IOLoop) -> None:
    with stream_pair() as (stream, peer):
        first, second = stream.write(b"a"), stream.write(memoryview(b"b"))
        assert first is second
        assert first.done()
        await first
        assert first.result() is None
        assert not stream.writing()
        await stream.write(b"")
        mutable: Any = bytearray(b"c")
        stream.write(mutable)
        stream.write(memoryview(b"\x00\x01\x00\x02").cast("H"))
        assert await peer.read_bytes(7) == b"abc\x00\x01\x00\x02"


@asynchronous
async def test_each_write_is_done_when_its_bytes_are_out(loop: IOLoop) -> None:
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        sizes = [32 * MIB, 10, 32 * MIB, 0, 5]  # far more than the kernel holds on the way
        done: list[int] = []
        for number, size in enumerate(sizes):
            future = stream.write(bytes([number]) * size)
            assert not future.done()
            future.add_done_callback(lambda _, number=number: done.append(number))  # type: ignore[misc]
        assert stream.writing()
        total = sum(sizes)
        received = 0
        while received < total:
            received += len(await loop.sock_recv(peer, MIB))
            if received < 16 * MIB:
                assert done == []
            elif received < 48 * MIB:
                assert 2 not in done
        await turns(2)
        assert done == [0, 1, 2, 3, 4]
        assert not stream.writing()
        await stream.write(b"x")
        stream.close()


@asynchronous
async def test_a_hundred_mebibytes_are_not_copied(loop: IOLoop) -> None:
    data = bytes(100 * MIB)
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        tracemalloc.start()
        try:
            written = stream.write(data)
            received = 0
            while received < len(data):
                received += len(await loop.sock_recv(peer, MIB))
            await written
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * MIB
        stream.close()


@asynchronous
async def test_the_write_buffer_is_bounded(loop: IOLoop) -> None:
    with socket_pair() as (ours, _):
        stream = IOStream(ours, max_write_buffer_size=100)
        with pytest.raises(StreamBufferFullError, match="101 more do not fit"):
            stream.write(b"x" * 101)
        assert not stream.closed()
        fill(ours)
        waiting = stream.write(b"x" * 60)
        with pytest.raises(StreamBufferFullError, match="60 bytes are unsent, 41 more"):
            stream.write(b"x" * 41)
        stream.write(b"x" * 40)
        stream.close()
        assert await real_error(waiting) is None


@asynchronous
async def test_send_and_write_keep_their_order(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer_socket):
        stream = IOStream(ours)
        fill(ours)
        assert stream.send(b"1") is False
        written = stream.write(b"2")
        assert stream.send(b"3") is False
        drained = stream.drained()
        peer = IOStream(peer_socket)
        while not (await peer.read_bytes(1 << 20, partial=True)).endswith(b"123"):
            pass
        await written
        await drained
        stream.close()
        peer.close()


@asynchronous
async def test_writing_on_a_closed_stream(loop: IOLoop) -> None:
    with stream_pair() as (stream, _):
        error = ValueError("why")
        stream.close(error)
        for call in (lambda: stream.write(b"x"), lambda: stream.read_bytes(1)):
            with pytest.raises(StreamClosedError, match="why") as caught:
                call()
            assert caught.value.real_error is error


@asynchronous
async def test_a_write_to_a_peer_that_has_gone(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with stream_pair() as (stream, peer):
        peer.close()
        assert isinstance(await real_error(stream.write(b"x")), BrokenPipeError)
        assert stream.closed()
    with stream_pair() as (stream, peer):
        fill(stream.socket)
        waiting = [stream.write(b"x"), stream.write(b"y")]
        read = stream.read_bytes(1)
        peer.close()
        for future in (*waiting, read):
            assert isinstance(await real_error(future), OSError | None)
    gc.collect()
    assert caplog.records == []


@asynchronous
async def test_a_reset_while_writing(loop: IOLoop) -> None:
    with tcp_pair() as (ours, peer):
        stream = IOStream(ours)
        waiting = stream.write(bytes(32 * MIB))
        reset(peer)
        error = await real_error(waiting)
        assert isinstance(error, OSError)
        assert error.errno in (errno.ECONNRESET, errno.EPIPE)


@asynchronous
async def test_a_cancelled_write_is_written_all_the_same(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer_socket):
        stream = IOStream(ours)
        fill(ours)
        first, second = stream.write(b"1"), stream.write(b"2")
        first.cancel()
        peer = IOStream(peer_socket)
        while not (await peer.read_bytes(1 << 20, partial=True)).endswith(b"12"):
            pass
        await second
        stream.close()
        peer.close()


# Closing


@pytest.mark.parametrize("form", ["exception", "true", "tuple"])
@asynchronous
async def test_why_it_was_closed(loop: IOLoop, form: str) -> None:
    with stream_pair() as (stream, _):
        read = stream.read_bytes(1)
        try:
            raise ZeroDivisionError("why")
        except ZeroDivisionError as error:
            expected = error
            forms: dict[str, Any] = {"exception": error, "true": True, "tuple": sys.exc_info()}
            stream.close(forms[form])
        assert stream.error is expected
        assert await real_error(read) is expected
        stream.close(ValueError("later"))
        assert stream.error is expected


@asynchronous
async def test_a_stream_that_is_closed_by_its_own_error_keeps_nothing(loop: IOLoop) -> None:
    """No handler, no descriptor, no waiter."""
    with socket_pair() as (ours, _):
        stream = IOStream(ours)
        stream.read_bytes(1)
        fill(ours)
        stream.write(b"x")
        number = ours.fileno()
        stream.close()
        assert number not in loop._entries
        assert ours.fileno() == -1
        assert not stream.reading()
        assert not stream.writing()
        assert stream.fileno() is None


@asynchronous
async def test_a_descriptor_that_the_poller_cannot_watch(loop: IOLoop) -> None:
    if loop.backend.name != "select":
        pytest.skip(f"{loop.backend.name} watches any descriptor")
    with files_allowed(1200), socket_pair() as (ours, _):
        import fcntl

        high = socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100))
        stream = IOStream(high)
        with pytest.raises(FdLimitError):
            stream.read_bytes(1)
        assert stream.closed()
        assert high.fileno() == -1


# Connecting


@asynchronous
async def test_connect(loop: IOLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = IOStream(socket.socket())
        connecting = stream.connect(listener.getsockname())
        with pytest.raises(RuntimeError, match="already"):
            stream.connect(listener.getsockname())
        written = stream.write(b"early\n")
        assert not written.done()
        assert stream.send(b"raw\n") is False
        read = stream.read_until(b"\n")
        assert await connecting is stream
        connection, _ = listener.accept()
        peer = IOStream(connection)
        assert await peer.read_bytes(10) == b"early\nraw\n"
        await written
        await peer.write(b"answer\n")
        assert await read == b"answer\n"
        stream.set_nodelay(True)
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()
        peer.close()
        stream.set_nodelay(True)


@asynchronous
async def test_connect_refused(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with refusing_address() as address:
        stream = IOStream(socket.socket())
        closed = asyncio.Event()
        stream.set_close_callback(closed.set)
        connecting = stream.connect(address)
        written, read = stream.write(b"x"), stream.read_bytes(1)
        for waiting in (connecting, written, read):
            assert isinstance(await real_error(waiting), ConnectionRefusedError)
        await closed.wait()
        assert isinstance(stream.error, ConnectionRefusedError)
    assert caplog.records == []


@asynchronous
async def test_a_close_callback_does_not_keep_one_from_connecting(
    loop: IOLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that is yet to be connected looks as if its peer had hung up."""
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "socket"))):
        with socket.socket(family) as listener:
            listener.bind(address)
            listener.listen()
            stream = IOStream(socket.socket(family))
            closed = asyncio.Event()
            stream.set_close_callback(closed.set)
            await turns()
            assert not stream.closed()
            await stream.connect(listener.getsockname())
            connection, _ = listener.accept()
            connection.close()
            await closed.wait()
            assert stream.error is None
    assert caplog.records == []


@asynchronous
async def test_connect_to_what_is_no_address(loop: IOLoop) -> None:
    stream = IOStream(socket.socket())
    with pytest.raises(TypeError):
        stream.connect("127.0.0.1")
    assert not stream.closed()
    error = await real_error(stream.connect(("256.256.256.256", 80)))
    assert isinstance(error, OSError)
    assert stream.closed()
    with pytest.raises(StreamClosedError):
        stream.connect(("127.0.0.1", 1))


@asynchronous
async def test_connect_to_a_unix_listener(loop: IOLoop, tmp_path: Path) -> None:
    """Also to one whose queue is full: connect(2) says EAGAIN then, and nothing is in progress."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        streams: list[IOStream] = []
        error: Any = None
        while error is None:
            stream = IOStream(socket.socket(socket.AF_UNIX))
            try:
                await stream.connect(path)
            except StreamClosedError as closed:
                error = closed.real_error
            else:
                streams.append(stream)
        assert isinstance(error, BlockingIOError)
        assert streams
        for stream in streams:
            stream.close()


@asynchronous
async def test_closing_while_connecting(loop: IOLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = IOStream(socket.socket())
        connecting = stream.connect(listener.getsockname())
        stream.close()
        assert await real_error(connecting) is None
        cancelled = IOStream(socket.socket())
        future = cancelled.connect(listener.getsockname())
        future.cancel()
        await turns(2)
        assert not cancelled.closed()
        cancelled.close()


def test_a_stream_on_a_loop_that_is_not_the_current_one(loop: IOLoop) -> None:
    """As Tornado had it up to version 4: by name, or as the second argument."""
    current = IOLoop(loop.backend, make_current=True)
    reader, writer = os.pipe()
    with tcp_pair() as (ours, theirs):
        positional: Any = IOStream
        streams: list[Any] = [positional(ours, loop), IOStream(theirs, io_loop=loop)]
        streams += [PipeIOStream(reader, io_loop=loop), PipeIOStream(writer, 100, io_loop=loop)]
        streams.append(SSLIOStream(socket.socket(), io_loop=loop))
        assert {stream.io_loop for stream in streams} == {loop}
        assert streams[0].max_buffer_size == MAX_BUFFER_SIZE
        got: list[bytes] = []

        def on_line(line: bytes) -> None:
            got.append(line)
            loop.stop()

        streams[0].read_until(b"\n", on_line)
        streams[1].write(b"line\n")
        loop.start()
        assert got == [b"line\n"]
        for stream in streams:
            stream.close()
    current.close()


# Streams of one's own


class Own(BaseIOStream):
    """What a program of Tornado's days writes: the five methods over a descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(read_chunk_size=100)
        self.sock = sock

    def fileno(self) -> int:
        return self.sock.fileno()

    def close_fd(self) -> None:
        self.sock.close()

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        try:
            return self.sock.recv_into(buf)
        except BlockingIOError:
            return None

    def write_to_fd(self, data: memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0


@asynchronous
async def test_a_stream_of_ones_own(loop: IOLoop) -> None:
    with socket_pair() as (ours, peer_socket):
        stream, peer = Own(ours), Own(peer_socket)
        data = bytes(MIB)
        written = stream.write(data)
        assert await peer.read_bytes(MIB) == data
        await written
        read = stream.read_until(b"\n")
        await peer.write(b"line\n")
        assert await read == b"line\n"
        stream.anything = 1  # type: ignore[attr-defined]  # programs hang things on a stream
        peer.close()
        await closing(stream)


class Counting:
    """For streams of every kind: what goes through."""

    received = sent = 0

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        count: int | None = super().read_from_fd(buf)  # type: ignore[misc]
        self.received += count or 0
        return count

    def write_to_fd(self, data: memoryview) -> int:
        count: int = super().write_to_fd(data)  # type: ignore[misc]
        self.sent += count
        return count


class CountingSocket(Counting, IOStream):
    pass


class CountingPipe(Counting, PipeIOStream):
    pass


@asynchronous
async def test_a_stream_that_counts(loop: IOLoop) -> None:
    """Methods that a subclass says anew are heard, and may call those of the stream."""
    with socket_pair() as (ours, peer_socket):
        reader, writer = os.pipe()
        pairs: list[tuple[Any, Any]] = [
            (CountingSocket(ours), CountingSocket(peer_socket)),
            (CountingPipe(reader), CountingPipe(writer)),
        ]
        for stream, peer in pairs:
            read = stream.read_bytes(MIB)
            await peer.write(bytes(MIB))
            assert await read == bytes(MIB)
            assert (stream.received, peer.sent) == (MIB, MIB)
            stream.close()
            peer.close()


def test_what_a_stream_of_ones_own_has_to_say(loop: IOLoop) -> None:
    stream = BaseIOStream()
    for call in (
        stream.fileno,
        stream.close_fd,
        lambda: stream.read_from_fd(bytearray(1)),
        lambda: stream.write_to_fd(memoryview(b"")),
    ):
        with pytest.raises(NotImplementedError):
            call()
    assert stream.get_fd_error() is None


def numbered(tmp_path: Path, size: int = MIB) -> tuple[Path, bytes]:
    """Make a file each piece of which is another."""
    data = b"".join(b"%07d\n" % number for number in range(size // 8))
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file", data


@asynchronous
async def test_files_among_bytes_come_in_order(loop: IOLoop, tmp_path: Path) -> None:
    path, data = numbered(tmp_path)
    with stream_pair() as (stream, peer):
        stream.send(b"head")
        first = stream.send_file(path.open("rb"), 0, MIB)
        written = stream.write(b"between")
        second = stream.send_file(path.open("rb"), 1001, 500_000)
        stream.send(b"end")
        assert stream.unsent > 500_000
        expected = b"head" + data + b"between" + data[1001:501_001] + b"end"
        assert await peer.read_bytes(len(expected)) == expected
        await first
        await written
        await second
        await stream.send_file(path.open("rb"), 5, 10)
        assert await peer.read_bytes(10) == data[5:15]
        file = path.open("rb")
        await stream.send_file(file, 5, 0)
        assert file.closed


@asynchronous
async def test_files_that_end_early_or_are_not_sent(loop: IOLoop, tmp_path: Path) -> None:
    """The stream closes, and what it held is closed with it."""
    path, data = numbered(tmp_path)
    with stream_pair() as (stream, peer):
        stream.send(b"head")
        file, behind = path.open("rb"), path.open("rb")
        sent = stream.send_file(file, MIB - 10, 100)
        with pytest.raises(StreamClosedError, match="become shorter"):
            await sent
        assert isinstance(stream.error, OSError)
        assert "90 bytes are missing" in str(stream.error)
        assert await peer.read_until_close() == b"head" + data[-10:]
        stream.send_file(behind, 0, 10)
        assert file.closed
        assert behind.closed
    with stream_pair() as (stream, peer):
        fill(stream.socket)
        files = [path.open("rb") for _ in range(2)]
        waiting = [stream.send_file(file, 0, MIB) for file in files]
        peer.close()
        for each in waiting:
            with pytest.raises(StreamClosedError):
                await each
        assert all(file.closed for file in files)


@asynchronous
async def test_files_where_there_is_no_sendfile(loop: IOLoop, tmp_path: Path) -> None:
    """Into a pipe, through a stream that has its own way to write, and from what only can be read."""

    class Counting(IOStream):
        written = 0

        def write_to_fd(self, data: memoryview) -> int:
            count = super().write_to_fd(data)
            self.written += count
            return count

    path, data = numbered(tmp_path)
    reader, writer = map(PipeIOStream, os.pipe())
    writer.send_file(path.open("rb"), 0, MIB)
    assert await reader.read_bytes(MIB) == data
    writer.close()
    reader.close()
    with socket_pair() as (ours, theirs):
        counting, peer = Counting(ours), IOStream(theirs)
        counting.send_file(path.open("rb"), 8, MIB - 8)
        assert await peer.read_bytes(MIB - 8) == data[8:]
        assert counting.written == MIB - 8
        counting.close()
        peer.close()
    version = Path("/proc/version")
    if version.exists():
        text = version.read_bytes()
        with stream_pair() as (stream, peer):
            await stream.send_file(version.open("rb"), 0, len(text))
            assert await peer.read_bytes(len(text)) == text
