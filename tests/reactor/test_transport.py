"""`SocketTransport` does what asyncio's does: each scenario runs on every backend, and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pollux import IOLoop
from pollux.testing.descriptors import drain, fill, nothing_left_open, reset, socket_pair, tcp_pair
from pollux.testing.loop_fixtures import errors_of, finish
from pollux.transport import READ_SIZE, SocketTransport
from tests.reactor.loops import BACKENDS, usable

ORACLE = "asyncio"
MUCH = bytes(range(256)) * 4096  # 1 MiB: more than any socket buffer takes at once


@pytest.fixture(params=[*BACKENDS, ORACLE])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    gc.collect()
    with nothing_left_open():
        ours = request.param != ORACLE
        loop = IOLoop(usable(request.param), make_current=False) if ours else asyncio.SelectorEventLoop()
        yield loop
        loop.close()
        gc.collect()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_pair() as pair:
        yield pair


class Hearing(asyncio.Protocol):
    """Notes what the transport tells it; `on_data` may do something about it."""

    def __init__(self, on_data: Callable[[bytes], object] = lambda data: None, keep_open: bool = False) -> None:
        self.heard: list[Any] = []
        self.on_data = on_data
        self.keep_open = keep_open
        self.changed = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def note(self, thing: Any) -> None:
        self.heard.append(thing)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.note(data)
        self.on_data(data)

    def eof_received(self) -> bool:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("lost")
        self.lost.set_result(exc)

    async def until(self, done: Callable[[list[Any]], bool]) -> None:
        while not done(self.heard):
            self.changed.clear()
            await self.changed.wait()

    async def received(self, data: bytes) -> None:
        """Wait until `data` has come, in whatever pieces."""
        await self.until(lambda heard: b"".join(thing for thing in heard if isinstance(thing, bytes)) == data)


async def attach(loop: Any, sock: socket.socket, protocol: asyncio.BaseProtocol) -> Any:
    """Put a transport on a socket."""
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    return transport


async def read_all(loop: Any, sock: socket.socket) -> bytes:
    """Read to the end of file."""
    got = b""
    while data := await loop.sock_recv(sock, 1 << 20):
        got += data
    return got


def test_our_loop_makes_ours_and_nothing_falls_out_of_its_slots(loop: Any, sockets: Any) -> None:
    async def main() -> None:
        hearing = Hearing()
        transport = await attach(loop, sockets[0], hearing)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, SocketTransport) is isinstance(loop, IOLoop)
        sockets[1].send(b"hello")
        await hearing.received(b"hello")
        transport.write(MUCH * 8)
        assert transport.get_write_buffer_size() > 0
        if isinstance(loop, IOLoop):
            assert vars(transport) == {}  # else attributes are looked up in the slow way
        assert repr(transport).startswith(f"<{type(transport).__name__} fd={sockets[0].fileno()} read=polling write=<")
        transport.abort()
        await hearing.lost

    finish(loop, main())


def test_a_read_asks_for_what_malloc_need_not_map(loop: Any) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            fill(peer)
            hearing = Hearing()
            transport = await attach(loop, ours, hearing)
            await hearing.until(lambda heard: len(heard) > 1)
            assert len(hearing.heard[1]) <= READ_SIZE or not isinstance(loop, IOLoop)
            transport.abort()
            await hearing.lost

    finish(loop, main())


@pytest.mark.parametrize("size", [3, 1 << 21], ids=["at once", "buffered"])
def test_every_kind_of_bytes_arrives_in_order(loop: Any, sockets: Any, size: int) -> None:
    """With writes in between that the kernel does not take."""
    whole = bytes(range(256)) * (size // 256 + 1)
    kinds = [b"first", bytearray(b"second"), memoryview(b"third"), memoryview(bytearray(b"abcdef"))[1:3], b"", whole]

    async def main() -> None:
        hearing = Hearing()
        transport = await attach(loop, sockets[0], hearing)
        reading = asyncio.create_task(read_all(loop, sockets[1]))
        for kind in [*kinds, *kinds]:
            transport.write(kind)
        transport.writelines([b"last", bytearray(b"line")])
        transport.close()
        assert transport.is_closing()
        assert await reading == b"".join(bytes(kind) for kind in [*kinds, *kinds]) + b"lastline"
        assert await hearing.lost is None

    finish(loop, main())


def test_what_is_no_bytes_is_refused(loop: Any, sockets: Any) -> None:
    async def main() -> None:
        hearing = Hearing()
        transport = await attach(loop, sockets[0], hearing)
        for thing in ("text", 5, None, [b"bytes"]):
            with pytest.raises(TypeError, match="must be a bytes-like object"):
                transport.write(thing)
        transport.write_eof()
        for data in (b"more", bytearray(b"more")):
            with pytest.raises(RuntimeError, match="after write_eof"):
                transport.write(data)
        assert await read_all(loop, sockets[1]) == b""
        transport.close()
        await hearing.lost

    finish(loop, main())


def test_watermarks(loop: Any, sockets: Any) -> None:
    """The protocol is paused above the high one, and resumed when the peer has read."""

    async def main() -> None:
        hearing = Hearing()
        transport = await attach(loop, sockets[0], hearing)
        transport.set_write_buffer_limits(high=1000, low=0)
        fill(sockets[0])
        transport.write(b"x" * 1000)
        assert transport.get_write_buffer_size() == 1000
        assert hearing.heard == ["made"]
        transport.write(b"x")
        assert hearing.heard == ["made", "pause"]
        loop.add_reader(sockets[1], drain, sockets[1])
        await hearing.until(lambda heard: "resume" in heard)
        loop.remove_reader(sockets[1])
        assert transport.get_write_buffer_size() == 0
        transport.write(b"direct again")
        assert transport.get_write_buffer_size() == 0
        transport.close()
        assert await hearing.lost is None
        assert hearing.heard == ["made", "pause", "resume", "lost"]

    finish(loop, main())


@pytest.mark.parametrize("keep_open", [False, True])
def test_half_closed_peer(loop: Any, sockets: Any, keep_open: bool) -> None:
    async def main() -> None:
        hearing = Hearing(keep_open=keep_open)
        transport = await attach(loop, sockets[0], hearing)
        sockets[1].send(b"question")
        sockets[1].shutdown(socket.SHUT_WR)
        await hearing.until(lambda heard: "eof" in heard)
        assert hearing.heard == ["made", b"question", "eof"]
        assert transport.is_closing() is not keep_open
        transport.write(b"answer")
        transport.close()
        assert await hearing.lost is None
        assert await read_all(loop, sockets[1]) == (b"answer" if keep_open else b"")

    finish(loop, main())


def test_paused_transports_deliver_nothing(loop: Any, sockets: Any) -> None:
    async def main() -> None:
        hearing = Hearing(lambda data: transport.pause_reading())
        transport = await attach(loop, sockets[0], hearing)
        sockets[1].send(b"1")
        await hearing.received(b"1")
        sockets[1].send(b"2")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert hearing.heard == ["made", b"1"]
        assert not transport.is_reading()
        transport.resume_reading()
        await hearing.received(b"12")
        transport.close()
        assert await hearing.lost is None

    finish(loop, main())


@pytest.mark.parametrize("how", ["abort", "close", "pause_reading"])
def test_silenced_by_another_that_is_ready_too(loop: Any, how: str) -> None:
    """Both have an event in the same list; whichever comes first silences the other."""

    async def main() -> None:
        with tcp_pair() as (one, its_peer), tcp_pair() as (two, other_peer):

            def silence(_: bytes) -> None:
                for transport, hearing in ((first, hearings[0]), (second, hearings[1])):
                    if len(hearing.heard) == 1:
                        getattr(transport, how)()

            hearings = [Hearing(silence), Hearing(silence)]
            first, second = await attach(loop, one, hearings[0]), await attach(loop, two, hearings[1])
            its_peer.send(b"x")
            other_peer.send(b"x")
            await asyncio.wait(
                [asyncio.ensure_future(h.received(b"x")) for h in hearings], return_when="FIRST_COMPLETED"
            )
            await asyncio.sleep(0)
            assert sorted(hearing.heard.count(b"x") for hearing in hearings) == [0, 1]
            for transport, hearing in ((first, hearings[0]), (second, hearings[1])):
                transport.abort()
                assert await hearing.lost is None
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    finish(loop, main())


class Filling(asyncio.BufferedProtocol):
    """Takes what comes into a buffer of its own."""

    def __init__(self) -> None:
        self.buffer = bytearray(8)
        self.got = b""
        self.changed = asyncio.Event()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        self.changed.set()


def test_protocols_change_places_while_reading(loop: Any, sockets: Any) -> None:
    async def main() -> None:
        filling = Filling()
        hearing = Hearing(lambda data: transport.set_protocol(filling))
        transport = await attach(loop, sockets[0], hearing)
        sockets[1].send(b"one")
        await hearing.received(b"one")
        assert transport.get_protocol() is filling
        sockets[1].send(b"two, in pieces")
        while filling.got != b"two, in pieces":
            filling.changed.clear()
            await filling.changed.wait()
        transport.set_protocol(hearing)
        hearing.on_data = lambda data: None
        sockets[1].send(b"three")
        await hearing.received(b"onethree")
        transport.close()
        assert await hearing.lost is None

    finish(loop, main())


def test_raising_protocol(loop: Any, sockets: Any) -> None:
    """It is reported, and the connection is over."""
    error = ValueError("no such word")

    def refuse(data: bytes) -> None:
        raise error

    async def main() -> None:
        hearing = Hearing(refuse)
        transport = await attach(loop, sockets[0], hearing)
        with errors_of(loop) as seen:
            sockets[1].send(b"word")
            assert await hearing.lost is error
        assert [(context["message"], context["exception"]) for context in seen] == [
            ("Fatal error: protocol.data_received() call failed.", error)
        ]
        assert seen[0]["transport"] is transport
        assert seen[0]["protocol"] is hearing
        assert await read_all(loop, sockets[1]) == b""

    finish(loop, main())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_loop_and_not_the_connection(loop: Any, sockets: Any, error: type[BaseException]) -> None:
    def interrupt(data: bytes) -> None:
        if data == b"stop":
            raise error

    async def connect() -> tuple[Any, Hearing]:
        hearing = Hearing(interrupt)
        return await attach(loop, sockets[0], hearing), hearing

    async def go_on() -> None:
        sockets[1].send(b"go on")
        await hearing.received(b"stopgo on")
        transport.close()
        assert await hearing.lost is None

    transport, hearing = finish(loop, connect())
    sockets[1].send(b"stop")
    with pytest.raises(error):
        loop.run_forever()
    finish(loop, go_on())


def test_reset_by_the_peer(loop: Any) -> None:
    """Told to the protocol as it is, and reported to nobody else."""

    async def main() -> None:
        with tcp_pair() as (ours, peer):
            hearing = Hearing()
            await attach(loop, ours, hearing)
            with errors_of(loop) as seen:
                reset(peer)
                assert isinstance(await hearing.lost, ConnectionResetError)
            assert seen == []
            assert hearing.heard == ["made", "lost"]

    finish(loop, main())


def test_writing_to_a_peer_that_has_reset(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The first write that fails ends the connection; those after it go nowhere, and who goes on is told."""

    async def main() -> None:
        with tcp_pair() as (ours, peer):
            hearing = Hearing()
            transport = await attach(loop, ours, hearing)
            transport.pause_reading()
            reset(peer)
            with errors_of(loop) as seen:
                for _ in range(6):
                    transport.write(b"anybody?")
                assert transport.is_closing()
                assert isinstance(await hearing.lost, ConnectionError)
            assert seen == []

    with caplog.at_level("WARNING", "asyncio"):
        finish(loop, main())
    assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."]


def test_data_is_received_in_the_context_of_the_connection(loop: Any, sockets: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> None:
        seen: list[str] = []
        variable.set("connected")
        hearing = Hearing(lambda data: seen.append(variable.get()))
        transport = await attach(loop, sockets[0], hearing)
        variable.set("later")
        sockets[1].send(b"x")
        await hearing.received(b"x")
        assert seen == ["connected"]
        transport.close()
        await hearing.lost

    finish(loop, main())


def test_debug_mode_names_a_slow_protocol(loop: Any, sockets: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hearing = Hearing()
        transport = await attach(loop, sockets[0], hearing)
        await asyncio.sleep(0)
        caplog.clear()
        sockets[1].send(b"x")
        await hearing.received(b"x")
        transport.close()
        await hearing.lost

    loop.set_debug(True)
    loop.slow_callback_duration = 0
    with caplog.at_level("WARNING", "asyncio"):
        finish(loop, main())
    assert any("Executing <Handle" in text and "_read_ready" in text for text in caplog.messages)


def test_one_that_is_dropped_unclosed_warns_and_closes(loop: Any) -> None:
    async def main() -> None:
        with socket_pair() as (ours, peer):
            transport = await attach(loop, ours, Hearing())
            transport.pause_reading()  # else the loop holds it
            del transport
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            assert ours.fileno() == -1
            assert await read_all(loop, peer) == b""

    finish(loop, main())


def test_one_that_could_not_be_made_complains_of_nothing(loop: Any) -> None:
    """`__del__` meets an object whose `__init__` was not through."""

    class Odd:
        def fileno(self) -> int:
            return 5

        def getsockname(self) -> None:
            raise MemoryError("just now")

    with pytest.raises(MemoryError):
        SocketTransport(loop, Odd(), Hearing, None, None, None)  # type: ignore[arg-type]
    gc.collect()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Server.close_clients is new in Python 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_knows_its_clients(loop: Any, how: str) -> None:
    async def main() -> None:
        hearings: list[Hearing] = []

        def serve() -> Hearing:
            hearings.append(Hearing())
            return hearings[-1]

        server = await loop.create_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        while not hearings:
            await asyncio.sleep(0)
        await hearings[0].received(b"hello")
        getattr(server, how)()
        assert await hearings[0].lost is None
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    finish(loop, main())
