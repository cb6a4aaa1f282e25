"""`PipeIOStream` on every backend: pipes, FIFOs, regular files, and what is put back."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pollux import IOLoop
from pollux.iostream import PipeIOStream, StreamClosedError
from pollux.testing.descriptors import pipe
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop, closing, real_error, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)

MIB = 1 << 20


@asynchronous
async def test_a_pipe(loop: IOLoop) -> None:
    reader, writer = map(PipeIOStream, os.pipe())
    read = reader.read_until(b"\n")
    await writer.write(b"line\nrest")
    assert await read == b"line\n"
    data = bytes(MIB)
    written = writer.write(data)
    assert not written.done()
    assert await reader.read_bytes(4 + MIB) == b"rest" + data
    await written
    await writer.write(b"last words")
    writer.close()
    assert await reader.read_until_close() == b"last words"
    assert reader.closed()
    assert reader.fd == -1


@asynchronous
async def test_what_was_said_before_the_writer_closed_is_not_lost(loop: IOLoop) -> None:
    """Also if nobody reads while the hang-up is reported."""
    reader, writer = map(PipeIOStream, os.pipe())
    read = reader.read_bytes(1)
    writer.write(b"1")
    assert await read == b"1"
    writer.write(b"last\nwords")
    writer.close()
    await turns()
    assert await reader.read_until(b"\n") == b"last\n"
    await turns()
    assert await reader.read_until_close() == b"words"


@pytest.mark.parametrize("waiting", [True, False])
@asynchronous
async def test_a_reader_that_goes(loop: IOLoop, waiting: bool, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = map(PipeIOStream, os.pipe())
    written = writer.write(bytes(MIB)) if waiting else None
    reader.close()
    if written is None:
        written = writer.write(b"x")
    error = await real_error(written)
    assert isinstance(error, OSError)
    assert error.errno == errno.EPIPE
    assert writer.closed()
    assert caplog.records == []


@asynchronous
async def test_the_writer_learns_that_the_reader_has_gone(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = map(PipeIOStream, os.pipe())
    closed = asyncio.Event()
    writer.set_close_callback(closed.set)
    await turns()
    assert not writer.closed()
    reader.close()
    await closed.wait()
    assert caplog.records == []


@asynchronous
async def test_the_wrong_end(loop: IOLoop) -> None:
    reader, writer = map(PipeIOStream, os.pipe())
    assert isinstance(await real_error(reader.write(b"x")), OSError)
    assert isinstance(await real_error(writer.read_bytes(1)), OSError)
    assert reader.closed()
    assert writer.closed()


@asynchronous
async def test_only_what_was_changed_is_put_back(loop: IOLoop) -> None:
    """Blocking is a property of the open file: whoever shares it must find it as it was."""
    with pipe() as (one, other):
        for blocking in (True, False):
            shared = os.dup(one)
            os.set_blocking(shared, blocking)
            stream = PipeIOStream(os.dup(one))
            assert not os.get_blocking(shared)
            stream.close()
            assert os.get_blocking(shared) is blocking
            os.close(shared)
        assert os.get_blocking(other)


def test_what_is_no_descriptor(loop: IOLoop, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        wrong: Any = file
        with pytest.raises(TypeError, match="expected the number"):
            PipeIOStream(wrong)
        number = os.dup(file.fileno())
    os.close(number)
    with pytest.raises(OSError, match="Bad file descriptor"):
        PipeIOStream(number)


@asynchronous
async def test_a_regular_file_is_read_to_its_end(loop: IOLoop, tmp_path: Path) -> None:
    """Where the system call refuses it (epoll), the poller answers for it, as its contract has it."""
    data = bytes(range(256)) * 1000
    path = tmp_path / "file"
    path.write_bytes(data)
    stream = PipeIOStream(os.open(path, os.O_RDONLY))
    assert await stream.read_bytes(100_000) == data[:100_000]
    assert await stream.read_until_close() == data[100_000:]
    output = PipeIOStream(os.open(tmp_path / "copy", os.O_WRONLY | os.O_CREAT))
    await output.write(data)
    output.close()
    assert (tmp_path / "copy").read_bytes() == data
    with pytest.raises(IsADirectoryError):
        PipeIOStream(os.open(tmp_path, os.O_RDONLY)).read_bytes(1)


@asynchronous
async def test_a_fifo(loop: IOLoop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = PipeIOStream(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    writer = PipeIOStream(os.open(path, os.O_WRONLY))
    read = reader.read_until(b"\n")
    await writer.write(b"line\n")
    assert await read == b"line\n"
    writer.close()
    assert await real_error(reader.read_bytes(1)) is None


@asynchronous
async def test_the_pipes_of_a_child(loop: IOLoop) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "print(input()[::-1])"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = PipeIOStream(os.dup(child.stdin.fileno())), PipeIOStream(os.dup(child.stdout.fileno()))
        child.stdin.close()
        child.stdout.close()
        await stdin.write(b"olleh\n")
        stdin.close()
        assert await stdout.read_until_close() == b"hello\n"


@asynchronous
async def test_closing_while_reading(loop: IOLoop) -> None:
    reader, writer = map(PipeIOStream, os.pipe())
    read = reader.read_bytes(1)
    number = reader.fd
    reader.close(ValueError("why"))
    assert isinstance(await real_error(read), ValueError)
    assert number not in loop._entries
    with pytest.raises(StreamClosedError):
        reader.write(b"x")
    writer.set_close_callback(None)
    writer.close()
    await closing(writer)
