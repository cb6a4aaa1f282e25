"""`TCPServer` and its listeners when something ends early or cannot begin: cancellation, removal, refusal."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pollux import IOLoop
from pollux.iostream import IOStream
from pollux.netutil import add_accept_handler, bind_sockets, bind_unix_socket, ssl_wrap_socket
from pollux.poller import READ
from pollux.tcpserver import TCPServer
from pollux.testing.descriptors import OPEN_FILES, nothing_left_open
from tests.reactor.loops import BACKENDS, usable
from tests.reactor.streams import asynchronous, backend_loop, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


# Connections whose handler is cancelled


class Cancelled(TCPServer):
    """Its handlers meet a cancellation."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.tasks: list[Any] = []

    def handle_stream(self, stream: IOStream, address: Any) -> Any:
        stream.deliver_to(lambda data: None)  # the poller knows the descriptor by now
        if self.how == "raised":
            raise asyncio.CancelledError
        return self.later()

    async def later(self) -> None:
        self.tasks.append(asyncio.current_task())
        await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["raised", "task"])
@asynchronous
async def test_a_cancelled_handler_closes_its_stream(loop: IOLoop, how: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Cancelled(how)
    server.listen(0, "127.0.0.1")
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        if how == "task":
            while not server.tasks:
                await asyncio.sleep(0)
            server.tasks.pop().cancel()
        assert await loop.sock_recv(client, 1) == b""
    server.stop()
    assert caplog.text.count("Error in connection callback") == (how == "raised")
    assert "Exception in callback" not in caplog.text


# Listeners


@asynchronous
async def test_removed_within_a_connection_no_more_are_accepted(loop: IOLoop) -> None:
    """Those that came in the same event stay in the socket's queue, for whoever accepts from it next."""
    (sock,) = bind_sockets(0, "127.0.0.1")
    accepted: list[socket.socket] = []

    def first(connection: socket.socket, address: Any) -> None:
        accepted.append(connection)
        remove()

    clients = [socket.create_connection(sock.getsockname()) for _ in range(3)]
    remove = add_accept_handler(sock, first)
    while not accepted:
        await asyncio.sleep(0)
    await turns()
    assert len(accepted) == 1
    remove_others = add_accept_handler(sock, lambda connection, address: accepted.append(connection))
    while len(accepted) < 3:
        await asyncio.sleep(0)
    remove_others()
    for each in [sock, *clients, *accepted]:
        each.close()


def test_a_listener_that_cannot_be_watched_costs_no_descriptor(loop: IOLoop) -> None:
    (sock,) = bind_sockets(0, "127.0.0.1")
    loop.add_handler(sock, lambda fd, events: None, READ)
    before = len(os.listdir(OPEN_FILES))
    with pytest.raises(ValueError, match="has a handler already"):
        add_accept_handler(sock, lambda connection, address: None)
    assert len(os.listdir(OPEN_FILES)) == before
    loop.remove_handler(sock)
    sock.close()


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_loop_that_ends_before_its_listener(backend: str) -> None:
    """The reserve descriptor goes with it."""
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(backend), make_current=False)
        (sock,) = bind_sockets(0, "127.0.0.1")
        add_accept_handler(sock, lambda connection, address: None, loop)
        loop.close()
        sock.close()
        del loop
        gc.collect()


def test_sockets_of_which_one_cannot_be_watched_are_all_closed(loop: IOLoop) -> None:
    sockets = [*bind_sockets(0, "127.0.0.1"), *bind_sockets(0, "127.0.0.1")]
    loop.add_handler(sockets[1], lambda fd, events: None, READ)
    server = TCPServer()
    with pytest.raises(ValueError, match="has a handler already"):
        server.add_sockets(sockets)
    assert [sock.fileno() for sock in sockets] == [-1, -1]
    assert server.sockets == ()
    server.stop()


def test_a_loop_that_is_not_current(loop: IOLoop) -> None:
    """`io_loop`, which Tornado had up to version 4."""
    other = IOLoop(loop.backend, make_current=False)
    served: list[IOLoop | None] = []

    class Server(TCPServer):
        def handle_stream(self, stream: IOStream, address: Any) -> None:
            served.append(IOLoop.current())
            stream.close()
            other.stop()

    server = Server(io_loop=other)
    server.listen(0, "127.0.0.1")
    assert server.io_loop is other
    with socket.create_connection(server.sockets[0].getsockname()):
        other.start()
    assert served == [other]
    server.stop()
    other.close()


@pytest.fixture
def _no_hang() -> Iterator[None]:
    """A system call that never returns is interrupted, by an error that says so."""

    def hangs(number: int, frame: Any) -> None:
        raise AssertionError("hangs in a system call")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_no_hang")
def test_a_unix_server_that_is_too_busy_to_answer_is_not_replaced(tmp_path: Path) -> None:
    """Its queue is full: a connect that blocks would wait for it for ever (connect(2), EAGAIN)."""
    path = str(tmp_path / "busy")
    gc.collect()
    with nothing_left_open(), bind_unix_socket(path, backlog=0):
        clients = []
        with pytest.raises(BlockingIOError):
            while True:
                clients.append(socket.socket(socket.AF_UNIX))
                clients[-1].setblocking(False)
                clients[-1].connect(path)
        with pytest.raises(OSError, match="a server is listening there"):
            bind_unix_socket(path)
        for client in clients:
            client.close()


# TLS


def test_a_clients_context_cannot_serve() -> None:
    with pytest.raises(ValueError, match=r"is a client's: use ssl\.create_default_context"):
        TCPServer(ssl_options=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@asynchronous
async def test_a_client_that_never_shakes_hands_is_cut_off(loop: IOLoop) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = TCPServer(ssl_options=context, handshake_timeout=0.01)
    server.handle_stream = lambda stream, address: None  # type: ignore[method-assign]
    server.listen(0, "127.0.0.1")
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        assert await loop.sock_recv(client, 1) == b""
    server.stop()


# Tornado's names of arguments


def test_arguments_by_name(loop: IOLoop, tmp_path: Path) -> None:
    server = TCPServer()
    server.add_socket(socket=bind_unix_socket(file=str(tmp_path / "s")))
    server.stop()
    with socket.socket() as sock, pytest.raises(ValueError, match="unknown option"):
        ssl_wrap_socket(socket=sock, ssl_options={"none": 0})
