"""Servers, connections, streams, datagrams and names in asyncio's dialect: a part of `LoopSuite`, true of asyncio."""

from __future__ import annotations

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest

from pollux.testing.descriptors import refusing_address
from pollux.testing.loop_fixtures import LoopFixtures, finish

MUCH = b"0123456789abcdef" * 65536  # 1 MiB: more than any socket buffer takes at once


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and close when the peer is through."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


class Recorder(asyncio.Protocol):
    """Notes what a transport tells it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")
        self.closed.set_result(exc)


class LoopNetwork(LoopFixtures):
    """asyncio's dialect."""

    def test_protocols(self, loop: Any) -> None:
        """`create_server` and `create_connection`: every call in its order, on both sides."""

        async def main() -> None:
            served: list[Recorder] = []

            class Answering(Recorder):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    super().connection_made(transport)
                    served.append(self)
                    self.transport = transport

                def data_received(self, data: bytes) -> None:
                    super().data_received(data)
                    assert isinstance(self.transport, asyncio.Transport)
                    self.transport.write(data.upper())
                    self.transport.close()

            server = await loop.create_server(Answering, "127.0.0.1", 0)
            async with server:
                transport, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname()[:2])
                transport.write(b"hello")
                assert await client.closed is None
                assert await served[0].closed is None
            assert client.heard == ["made", b"HELLO", "eof", "lost"]
            assert served[0].heard == ["made", b"hello", "lost"]

        finish(loop, main())

    def test_streams_carry_much_both_ways(self, loop: Any) -> None:
        """Buffers fill, writing pauses and goes on; ten connections at once."""

        async def client(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def send() -> None:
                for begin in range(0, len(MUCH), 100_000):
                    writer.write(MUCH[begin : begin + 100_000])
                    await writer.drain()
                writer.write_eof()

            _, got = await asyncio.gather(send(), reader.read())
            assert got == MUCH
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                await asyncio.gather(*[client(port) for _ in range(10)])

        finish(loop, main())

    def test_pause_reading(self, loop: Any) -> None:
        """Nothing is delivered while paused, everything afterwards."""

        async def main() -> None:
            ours, theirs = socket.socketpair()
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            for _ in range(3):
                transport.pause_reading()
                theirs.send(b"x")
                for _ in range(10):
                    await asyncio.sleep(0.0002)
                assert protocol.heard[-1] != b"x"
                transport.resume_reading()
                while protocol.heard[-1] != b"x":
                    await asyncio.sleep(0.0002)
                protocol.heard.append("read")
            theirs.close()
            assert await protocol.closed is None

        finish(loop, main())

    def test_refused_connection(self, loop: Any) -> None:
        """An error, and nothing left registered."""

        async def main(address: tuple[str, int]) -> None:
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*address)

        with refusing_address() as address:
            finish(loop, main(address))

    def test_unix_sockets(self, loop: Any, tmp_path: Path) -> None:
        """By path."""
        path = str(tmp_path / "socket")

        async def main() -> bytes:
            async with await asyncio.start_unix_server(echo, path):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"hello")
                writer.write_eof()
                got = await reader.read()
                writer.close()
                await writer.wait_closed()
                return got

        assert finish(loop, main()) == b"hello"

    def test_datagrams(self, loop: Any) -> None:
        """There and back."""

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data.upper(), addr)

        class Client(asyncio.DatagramProtocol):
            def __init__(self) -> None:
                self.got: asyncio.Queue[bytes] = asyncio.Queue()

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.got.put_nowait(data)

        async def main() -> None:
            server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
            address = server.get_extra_info("sockname")
            transport, client = await loop.create_datagram_endpoint(Client, remote_addr=address)
            for data in (b"a", b"b", b"c"):
                transport.sendto(data)
                assert await client.got.get() == data.upper()
            transport.close()
            server.close()
            await asyncio.sleep(0)

        finish(loop, main())

    def test_socket_methods(self, loop: Any) -> None:
        """`sock_accept`, `sock_connect`, `sock_sendall`, `sock_recv`, `sock_recv_into`, `sock_sendfile`."""

        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
                listener.setblocking(False)
                client.setblocking(False)
                (peer, _), _ = await asyncio.gather(
                    loop.sock_accept(listener), loop.sock_connect(client, listener.getsockname())
                )
                with peer:
                    peer.setblocking(False)

                    async def receive() -> bytearray:
                        got = bytearray()
                        while len(got) < len(MUCH):
                            got += await loop.sock_recv(peer, 65536)
                        return got

                    _, got = await asyncio.gather(loop.sock_sendall(client, MUCH), receive())
                    assert got == MUCH
                    await loop.sock_sendall(peer, b"back")
                    buffer = bytearray(10)
                    assert await loop.sock_recv_into(client, buffer) == 4
                    with Path(__file__).open("rb") as file:
                        sent = await loop.sock_sendfile(client, file)
                    assert sent == Path(__file__).stat().st_size
                    # One that waits can be cancelled, and the next is served.
                    task = loop.create_task(loop.sock_recv(client, 1))
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    await loop.sock_sendall(peer, b"y")
                    assert await loop.sock_recv(client, 1) == b"y"

        finish(loop, main())
        finish(loop, loop.shutdown_default_executor())

    def test_socket_methods_for_datagrams(self, loop: Any) -> None:
        """`sock_sendto`, `sock_recvfrom`, `sock_recvfrom_into`: one waits until there is something."""

        async def main() -> None:
            with (
                socket.socket(type=socket.SOCK_DGRAM) as ours,
                socket.socket(type=socket.SOCK_DGRAM) as theirs,
            ):
                for sock in (ours, theirs):
                    sock.setblocking(False)
                    sock.bind(("127.0.0.1", 0))
                waiting = loop.create_task(loop.sock_recvfrom(theirs, 100))
                await asyncio.sleep(0)
                assert await loop.sock_sendto(ours, b"hello", theirs.getsockname()) == 5
                assert await waiting == (b"hello", ours.getsockname())
                buffer = bytearray(100)
                back = loop.create_task(loop.sock_recvfrom_into(ours, buffer))
                await asyncio.sleep(0)
                await loop.sock_sendto(theirs, b"back", ours.getsockname())
                assert await back == (4, theirs.getsockname())
                assert buffer[:4] == b"back"

        finish(loop, main())

    @pytest.mark.parametrize("in_memory", [False, True], ids=["file", "in memory"])
    def test_sendfile(self, loop: Any, tmp_path: Path, in_memory: bool) -> None:
        """A file goes out between two writes, by the kernel; one that the kernel does not know, in pieces."""
        (tmp_path / "file").write_bytes(MUCH)

        async def main() -> None:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"before")
                with io.BytesIO(MUCH) if in_memory else (tmp_path / "file").open("rb") as file:
                    assert await loop.sendfile(writer.transport, file, fallback=in_memory) == len(MUCH)
                writer.write(b"after")
                writer.close()

            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                assert await reader.read() == b"before" + MUCH + b"after"
                writer.close()
                await writer.wait_closed()

        finish(loop, main())
        finish(loop, loop.shutdown_default_executor())

    def test_name_lookup(self, loop: Any) -> None:
        """In the executor, so that a slow name server does not stop the loop."""

        async def main() -> None:
            (info, *_) = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
            assert info[4] == ("127.0.0.1", 80)
            host, _ = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            assert host == "127.0.0.1"
            infos = await asyncio.gather(*[loop.getaddrinfo("localhost", port) for port in range(1, 30)])
            assert all(infos)

        finish(loop, main())
        finish(loop, loop.shutdown_default_executor())

    def test_server_stops_accepting(self, loop: Any) -> None:
        """A closed server refuses; one that is started later serves."""

        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0, start_serving=False)
            assert not server.is_serving()
            await server.start_serving()
            address = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(*address)
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection(*address)

        finish(loop, main())
