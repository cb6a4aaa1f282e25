"""`TCPServer` and `netutil` on every backend: listeners that survive whatever accepting meets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import tornado.tcpserver

from pollux import IOLoop
from pollux.iostream import IOStream
from pollux.netutil import add_accept_handler, bind_sockets, bind_unix_socket
from pollux.tcpserver import TCPServer
from tests.reactor.loops import BACKENDS, run_script
from tests.reactor.streams import backend_loop, run

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


class Echo(TCPServer):
    def handle_stream(self, stream: IOStream, address: Any) -> None:
        stream.deliver_to(lambda data: stream.send(data) if data else stream.close())


async def echoed(loop: IOLoop, address: Any, family: int = socket.AF_INET) -> bool:
    with socket.socket(family) as client:
        client.setblocking(False)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, b"x")
        assert await loop.sock_recv(client, 10) == b"x"
        client.shutdown(socket.SHUT_WR)
        return await loop.sock_recv(client, 10) == b""


def test_echo(loop: IOLoop) -> None:
    async def main() -> None:
        server = Echo()
        server.listen(0, "127.0.0.1")
        server.listen(0, "127.0.0.1")
        assert len(list(server.sockets)) == 2
        for sock in server.sockets:
            assert await echoed(loop, sock.getsockname())
        address = server.sockets[0].getsockname()
        server.stop()
        server.stop()
        assert len(server.sockets) == 0
        with pytest.raises(ConnectionRefusedError):
            await echoed(loop, address)

    run(loop, main())


def test_coroutines_serve_too(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(TCPServer):
        async def handle_stream(self, stream: IOStream, address: Any) -> None:
            await asyncio.sleep(0)
            stream.send(b"slow")
            stream.close()
            raise ZeroDivisionError("in a coroutine")

    async def main() -> None:
        server = Slow()
        server.listen(0, "127.0.0.1")
        for _ in range(2):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                assert await loop.sock_recv(client, 10) == b"slow"
        await asyncio.sleep(0)
        server.stop()

    run(loop, main())
    assert "in a coroutine" in caplog.text


def test_a_raising_handler_costs_its_connection_only(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TCPServer):
        def handle_stream(self, stream: IOStream, address: Any) -> None:
            raise ZeroDivisionError("on purpose")

    async def main() -> None:
        server = Broken()
        server.listen(0, "127.0.0.1")
        for _ in range(3):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, server.sockets[0].getsockname())
                assert await loop.sock_recv(client, 10) == b""
        server.stop()

    run(loop, main())
    assert caplog.text.count("Error in connection callback") == 3


def test_stopping_within_a_connection(loop: IOLoop) -> None:
    class Last(TCPServer):
        def handle_stream(self, stream: IOStream, address: Any) -> None:
            stream.close()
            self.stop()

    async def main() -> None:
        server = Last()
        server.listen(0, "127.0.0.1")
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(3)]  # the loop sees all three in one event
        while server.sockets:
            await asyncio.sleep(0)
        for client in clients:
            client.close()

    run(loop, main())


def test_the_base_class_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="override"):
        TCPServer().handle_stream(None, None)  # type: ignore[arg-type]


def test_accept_handler_ends_and_leaves_the_socket(loop: IOLoop) -> None:
    async def main() -> None:
        (sock,) = bind_sockets(0, "127.0.0.1")
        accepted: list[socket.socket] = []
        remove = add_accept_handler(sock, lambda connection, address: accepted.append(connection))
        with socket.create_connection(sock.getsockname()):
            while not accepted:
                await asyncio.sleep(0)
        remove()
        with socket.create_connection(sock.getsockname()):
            for _ in range(5):
                await asyncio.sleep(0)
        assert len(accepted) == 1
        accepted[0].close()
        sock.close()

    run(loop, main())


# Unix sockets


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_unix_socket(loop: IOLoop, tmp_path: Path, mode: int) -> None:
    path = str(tmp_path / "s")

    async def main() -> None:
        for _ in range(2):  # the second replaces the stale socket of the first
            server = Echo()
            server.add_socket(bind_unix_socket(path, mode))
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
            assert await echoed(loop, path, socket.AF_UNIX)
            with pytest.raises(OSError, match="listening") as error:
                bind_unix_socket(path)
            assert error.value.errno == errno.EADDRINUSE
            server.stop()

    run(loop, main())


def test_unix_socket_does_not_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(FileExistsError):
        bind_unix_socket(str(path))
    assert path.read_text() == "data"


# Out of descriptors

EXHAUSTED = """
    import asyncio, logging, os, resource, socket, sys
    from pollux import IOLoop
    from pollux.poller import READ
    from pollux.tcpserver import TCPServer

    logging.disable(logging.CRITICAL)
    loop = IOLoop(sys.argv[1], make_current=True)
    accepted = []

    class Server(TCPServer):
        def handle_stream(self, stream, address):
            accepted.append(stream)
            stream.deliver_to(lambda data: stream.send(data) if data else stream.close())

    async def served(client):
        await loop.sock_sendall(client, b"x")
        try:
            return await loop.sock_recv(client, 1) == b"x"
        except ConnectionError:
            return False

    async def main():
        server = Server()
        server.listen(0, "127.0.0.1")
        address = server.sockets[0].getsockname()
        clients = [socket.socket() for _ in range(60)]
        for client in clients:
            client.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, 20000))
        for client in clients:
            await loop.sock_connect(client, address)
        results = [await served(client) for client in clients]
        print(sum(results) == len(accepted), 10 < len(accepted) < 30, results == sorted(results, reverse=True))
        for client in clients:
            client.close()
        while any(not stream.closed() for stream in accepted):
            await asyncio.sleep(0)
        with socket.socket() as late:
            late.setblocking(False)
            await loop.sock_connect(late, address)
            print(await served(late))
        server.stop()

    loop.run_sync(main, timeout=25)
    loop.close()
"""


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_out_of_descriptors_clients_are_turned_away_and_the_listener_lives(backend: str) -> None:
    assert run_script(backend, EXHAUSTED).split() == ["True"] * 4


PAUSED = """
    import asyncio, logging, os, resource, socket, sys
    from pollux import IOLoop, registry
    from pollux.backend import Backend
    from pollux.tcpserver import TCPServer

    logging.disable(logging.CRITICAL)
    backend = {each.name: each for each in registry.backends()}[sys.argv[1]]
    polls = 0

    class Counting:
        def __init__(self, poller):
            self.poller = poller
            self.register, self.modify = poller.register, poller.modify
            self.unregister, self.close = poller.unregister, poller.close
        def poll(self, timeout):
            global polls
            polls += 1
            return self.poller.poll(timeout)

    loop = IOLoop(Backend("counting", "", lambda: Counting(backend.create())), make_current=True)
    accepted = []

    class Server(TCPServer):
        def handle_stream(self, stream, address):
            accepted.append(stream)

    async def main():
        server = Server()
        server.listen(0, "127.0.0.1")
        client = socket.socket()
        client.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 20000))  # not even the reserve can be had again
        await loop.sock_connect(client, server.sockets[0].getsockname())
        # The pause is a timeout: nothing polls in between, or the loop would spin.
        woken = asyncio.Event()
        loop.call_later(0.3, woken.set)
        before = polls
        await woken.wait()
        print(polls - before < 20, len(accepted))
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 20000))
        second = socket.socket()
        second.setblocking(False)
        await loop.sock_connect(second, server.sockets[0].getsockname())
        while len(accepted) < 2:
            await asyncio.sleep(0.01)
        print(len(accepted))
        for each in (client, second, *accepted):
            each.close()
        server.stop()

    loop.run_sync(main, timeout=25)
    loop.close()
"""


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_not_even_a_reserve_and_the_loop_does_not_spin(backend: str) -> None:
    assert run_script(backend, PAUSED).split() == ["True", "0", "2"]


HIGH = """
    import asyncio, logging, os, resource, socket, sys
    from pollux import IOLoop
    from pollux_http import HTTPServer

    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    loop = IOLoop(sys.argv[1], make_current=True)

    async def ask(client):
        await loop.sock_sendall(client, b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        try:
            return (await loop.sock_recv(client, 9999))[9:12]
        except ConnectionError:
            return b""

    async def main():
        server = HTTPServer(lambda request: request.connection.respond())
        server.listen(0, "127.0.0.1")
        clients = [socket.socket() for _ in range(3)]
        for client in clients:
            client.setblocking(False)
        await loop.sock_connect(clients[0], server.sockets[0].getsockname())
        print(await ask(clients[0]))
        low = []
        while not low or low[-1] < 1030:
            low.append(os.open(os.devnull, os.O_RDONLY))
        await loop.sock_connect(clients[1], server.sockets[0].getsockname())
        print(await ask(clients[1]))
        for fd in low:
            os.close(fd)
        await loop.sock_connect(clients[2], server.sockets[0].getsockname())
        print(await ask(clients[2]), await ask(clients[0]))
        for client in clients:
            client.close()
        await server.shutdown(0)
        await asyncio.sleep(0)

    loop.run_sync(main, timeout=25)
    loop.close()
"""


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_connection_above_fd_1024(backend: str) -> None:
    """select refuses it with a word and lives on; the others serve it."""
    out = run_script(backend, HIGH).splitlines()
    if backend == "select":
        assert out[0] == "b'200'"
        assert out[1].startswith("ERROR turned (")
        assert "1024" in out[1]
        assert out[2:] == ["b''", "b'200' b'200'"]
    else:
        assert out == ["b'200'", "b'200'", "b'200' b'200'"]


@pytest.mark.parametrize("how", ["raises", "coroutine raises"])
def test_a_raising_handle_stream_leaves_no_descriptor_behind(
    loop: IOLoop, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream may be registered by then; its number is soon somebody else's."""

    class Raises(TCPServer):
        def handle_stream(self, stream: IOStream, address: Any) -> Any:
            stream.deliver_to(lambda data: None)
            if how == "raises":
                raise ValueError("mine")
            return self.later()

        async def later(self) -> None:
            await asyncio.sleep(0)
            raise ValueError("mine")

    async def main() -> None:
        server = Raises()
        server.listen(0, "127.0.0.1")
        (listener,) = server.sockets
        for _ in range(5):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
                assert await loop.sock_recv(client, 1) == b""
        server.stop()

    run(loop, main())
    assert caplog.text.count("ValueError: mine") == 5


# Binding first, starting later


@pytest.mark.parametrize("reuse_port", [True, False])
def test_bind_and_start(loop: IOLoop, reuse_port: bool) -> None:
    async def main() -> None:
        server = Echo()
        server.bind(0, "127.0.0.1", reuse_port=reuse_port)
        address = server.sockets[0].getsockname()
        if reuse_port:
            with pytest.raises(ConnectionRefusedError):
                await echoed(loop, address)
        server.start()
        assert [sock.getsockname() for sock in server.sockets] == [address]
        assert await echoed(loop, address)
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
        server.bind(0, "127.0.0.1", reuse_port=reuse_port)  # serves at once
        assert await echoed(loop, server.sockets[1].getsockname())
        server.stop()
        assert server.sockets == ()

    run(loop, main())


@pytest.mark.parametrize("reuse_port", [True, False])
def test_stop_gives_up_what_was_bound(loop: IOLoop, reuse_port: bool) -> None:
    server = TCPServer()
    server.bind(0, "127.0.0.1", reuse_port=reuse_port)
    port = server.sockets[0].getsockname()[1]
    server.stop()
    for sock in bind_sockets(port, "127.0.0.1"):
        sock.close()


def test_limits_reach_the_stream(loop: IOLoop) -> None:
    streams: list[Any] = []

    class Keeping(TCPServer):
        def handle_stream(self, stream: IOStream, address: Any) -> None:
            streams.append(stream)
            stream.close()

    async def main() -> None:
        server = Keeping(max_buffer_size=1234, read_chunk_size=56)
        server.listen(0, "127.0.0.1")
        with socket.create_connection(server.sockets[0].getsockname()):
            while not streams:
                await asyncio.sleep(0)
        assert (streams[0].max_buffer_size, streams[0].read_chunk_size) == (1234, 56)
        server.stop()

    run(loop, main())


# As Tornado's server


@pytest.mark.parametrize("how", ["plain", "raises", "coroutine raises", "stops"])
def test_as_tornado(loop: IOLoop, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """What a client gets, and how often an error is logged."""

    def make(kind: Any) -> Any:
        class Server(kind):  # type: ignore[misc]
            def handle_stream(self, stream: Any, address: Any) -> Any:
                if how == "raises":
                    stream.close()
                    raise ValueError("mine")
                if how == "stops":
                    self.stop()
                return self.answer(stream)

            async def answer(self, stream: Any) -> None:
                await stream.write(b"hello\n")
                stream.close()
                if how == "coroutine raises":
                    raise ValueError("mine")

        return Server()

    async def outcome(kind: Any) -> Any:
        caplog.clear()
        server = make(kind)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        address = sockets[0].getsockname()
        answers = []
        for _ in range(2):
            try:
                reader, writer = await asyncio.open_connection(*address)
                answers.append(await reader.read())
                writer.close()
                await writer.wait_closed()
            except ConnectionError as error:
                answers.append(type(error).__name__.encode())
        await asyncio.sleep(0)
        server.stop()
        return answers, caplog.text.count("ValueError: mine")

    ours = loop.run_sync(lambda: outcome(TCPServer), timeout=20)
    assert ours == asyncio.run(outcome(tornado.tcpserver.TCPServer))
