"""`SSLIOStream` and `start_tls` on every backend, with ourselves and with the ssl module's blocking sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from pollux import IOLoop
from pollux.iostream import SSLIOStream, StreamClosedError, UnsatisfiableReadError
from pollux.testing.descriptors import reset, tcp_pair
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import asynchronous, backend_loop, closing, real_error, stream_pair, turns

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)

MIB = 1 << 20
AUTHORITY = trustme.CA()


def server_context(name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


@contextlib.contextmanager
def tls_pair(version: ssl.TLSVersion | None = None, **options: Any) -> Iterator[tuple[SSLIOStream, SSLIOStream]]:
    """A client and a server, whose handshake has not begun; `options` are the client's."""
    server, client = server_context(), client_context()
    if version is not None:
        client.maximum_version = version
    with tcp_pair() as (ours, peer):
        streams = (
            SSLIOStream(
                client.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False), **options
            ),
            SSLIOStream(server.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)),
        )
        try:
            yield streams
        finally:
            for stream in streams:
                stream.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@asynchronous
async def test_reading_and_writing(loop: IOLoop, version: ssl.TLSVersion) -> None:
    with tls_pair(version) as (client, server):
        assert await client.wait_for_handshake() is client
        assert await client.wait_for_handshake() is client
        assert client.socket.version() == version.name.replace("v1_", "v1.")
        read = server.read_until(b"\n")
        await client.write(b"line\n")
        assert await read == b"line\n"
        data = bytes(range(256)) * 4096 * 8
        reads = client.read_bytes(len(data)), server.read_bytes(len(data))
        written = server.write(data), client.write(data)
        for each in reads:
            assert await each == data
        for done in written:
            await done
        server.write(b"the end")
        server.close()
        assert await client.read_until_close() == b"the end"
        assert client.error is None


@asynchronous
async def test_reads_and_writes_wait_for_the_handshake(loop: IOLoop) -> None:
    with tls_pair() as (client, server):
        read, written = server.read_until(b"\n"), client.write(b"early\n")
        assert not written.done()
        assert client.send(b"raw\n") is False
        assert await read == b"early\n"
        await written
        assert await server.read_until(b"\n") == b"raw\n"


@asynchronous
async def test_what_waits_in_openssl_stalls_nobody(loop: IOLoop) -> None:
    """One record, read in pieces: no poller knows of the rest."""
    for start in ("reads", "delivery", "pauses", "close callback"):
        with tls_pair(read_chunk_size=10) as (client, server):
            await server.wait_for_handshake()
            if start == "close callback":
                client.set_close_callback(lambda: None)
                await turns(2)
            record = b"0123456789\n" * 100
            await server.write(record)
            if start in ("reads", "close callback"):
                for _ in range(50):
                    assert await client.read_until(b"\n") == b"0123456789\n"
                await turns(2)
                assert await client.read_bytes(550) == b"0123456789\n" * 50
                continue
            got = bytearray()
            done = loop.create_future()

            def consume(data: bytes) -> None:
                got.extend(data)  # noqa: B023  # used within the turn of the loop
                if start == "pauses":  # noqa: B023
                    client.pause_reading()
                    loop.call_soon(client.resume_reading)
                if len(got) == 1100:  # noqa: B023
                    done.set_result(None)  # noqa: B023

            client.deliver_to(consume)
            await done
            assert got == record


@asynchronous
async def test_connect(loop: IOLoop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = SSLIOStream(socket.socket(), ssl_options=client_context())
        connecting = stream.connect(listener.getsockname(), server_hostname="localhost")
        with pytest.raises(RuntimeError, match="Already waiting"):
            stream.wait_for_handshake()
        written = stream.write(b"early")
        connection, _ = listener.accept()
        context = server_context()
        server = SSLIOStream(context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False))
        assert await connecting is stream
        await written
        assert await server.read_bytes(5) == b"early"
        assert stream.socket.getpeercert()
        stream.close()
        server.close()


@asynchronous
async def test_connect_refused(loop: IOLoop) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        stream = SSLIOStream(socket.socket(), ssl_options=client_context())
        with pytest.raises(ConnectionRefusedError):
            await stream.connect(bound.getsockname(), server_hostname="localhost")
        assert stream.closed()
        with pytest.raises(StreamClosedError):
            stream.read_bytes(1)


@contextlib.contextmanager
def blocking_server(serve: Callable[[socket.socket], object]) -> Iterator[tuple[str, int]]:
    """A server of one connection, in a thread, with blocking sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@asynchronous
async def test_the_certificate_of_another_name(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    def serve(connection: socket.socket) -> None:
        server_context("elsewhere.example").wrap_socket(connection, server_side=True).close()

    with blocking_server(serve) as address:
        stream = SSLIOStream(socket.socket(), ssl_options=client_context())
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'localhost'"):
            await stream.connect(address, server_hostname="localhost")
        assert stream.closed()
        assert isinstance(stream.error, ssl.SSLCertVerificationError)
    assert [record.name for record in caplog.records] == ["pollux.general"]


@asynchronous
async def test_by_default_nobody_is_trusted_whom_the_system_does_not_know(
    loop: IOLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(connection: socket.socket) -> None:
        server_context().wrap_socket(connection, server_side=True).close()

    for_all: list[dict[str, Any] | None] = [None, {}]
    for options in for_all:
        with blocking_server(serve) as address:
            stream = SSLIOStream(socket.socket(), ssl_options=options)
            with pytest.raises(ssl.SSLCertVerificationError):
                await stream.connect(address, server_hostname="localhost")
    with blocking_server(serve) as address:
        stream = SSLIOStream(socket.socket(), ssl_options={"cert_reqs": ssl.CERT_NONE})
        await stream.connect(address)
        stream.close()
    with blocking_server(serve) as address:
        stream = SSLIOStream(socket.socket(), ssl_options=client_context())
        with pytest.raises(ValueError, match="server_hostname"):
            await stream.connect(address)
        assert stream.closed()


@asynchronous
async def test_a_peer_of_the_ssl_module_is_told_of_the_end(loop: IOLoop) -> None:
    """With close_notify: where a truncated stream is an error, ours is none."""
    received: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with server_context().wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as secure:
            while data := secure.recv(100):
                received.append(data)
            received.append(b"")

    with blocking_server(serve) as address:
        stream = SSLIOStream(socket.socket(), ssl_options=client_context())
        await stream.connect(address, server_hostname="localhost")
        await stream.write(b"bye")
        stream.close()
    assert b"".join(received) == b"bye"
    assert received[-1] == b""


@asynchronous
async def test_a_peer_that_speaks_plain_text(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, and closed with what OpenSSL says, whoever waits."""
    with tcp_pair() as (ours, peer):
        stream = SSLIOStream(server_context().wrap_socket(ours, server_side=True, do_handshake_on_connect=False))
        handshake, read, written = stream.wait_for_handshake(), stream.read_bytes(1), stream.write(b"x")
        peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await handshake
        for waiting in (read, written):
            assert isinstance(await real_error(waiting), ssl.SSLError)
        assert stream.closed()
        with pytest.raises(ssl.SSLError):
            await stream.wait_for_handshake()
    assert [record.name for record in caplog.records] == ["pollux.general"]


@pytest.mark.parametrize("how", ["end", "reset"])
@asynchronous
async def test_a_peer_that_goes_in_the_handshake(loop: IOLoop, how: str, caplog: pytest.LogCaptureFixture) -> None:
    with tcp_pair() as (ours, peer):
        stream = SSLIOStream(server_context().wrap_socket(ours, server_side=True, do_handshake_on_connect=False))
        handshake = stream.wait_for_handshake()
        peer.send(b"\x16\x03\x01")
        await turns(2)
        peer.close() if how == "end" else reset(peer)
        with pytest.raises(OSError):  # noqa: PT011  # whichever of the two errors OpenSSL makes of it
            await handshake
        assert stream.closed()
    assert caplog.records == []


@asynchronous
async def test_a_handshake_that_stalls(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with tcp_pair() as (ours, _):
        stream = SSLIOStream(
            server_context().wrap_socket(ours, server_side=True, do_handshake_on_connect=False), handshake_timeout=0.01
        )
        closed = asyncio.Event()
        stream.set_close_callback(closed.set)
        with pytest.raises(TimeoutError, match=r"not done within 0\.01 seconds"):
            await stream.wait_for_handshake()
        await closed.wait()
        assert ours.fileno() == -1
    assert len(caplog.records) == 1


@asynchronous
async def test_a_socket_that_is_connected_but_not_wrapped(loop: IOLoop) -> None:
    with tcp_pair() as (ours, _):
        with pytest.raises(ValueError, match="not wrapped"):
            SSLIOStream(ours)
        assert ours.fileno() >= 0


@asynchronous
async def test_faults_of_reads_are_those_of_plain_streams(loop: IOLoop) -> None:
    with tls_pair() as (client, server):
        read = client.read_until(b"\n", max_bytes=10)
        server.write(b"x" * 11)
        assert isinstance(await real_error(read), UnsatisfiableReadError)
        await closing(server)
    with tls_pair() as (client, server):
        await client.wait_for_handshake()
        await server.wait_for_handshake()
        read = client.read_bytes(1)
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close(ValueError("not in an orderly way"))
        # The ssl module may take a reset for a ragged end, and that for an orderly one.
        assert isinstance(await real_error(read), ConnectionResetError | None)
        assert client.closed()


# start_tls


@asynchronous
async def test_start_tls(loop: IOLoop) -> None:
    with stream_pair(tcp=True, max_buffer_size=1000, max_write_buffer_size=MIB) as (plain, plain_server):
        closed = asyncio.Event()
        plain.set_close_callback(closed.set)
        read = plain_server.read_until(b"\n")
        await plain.write(b"STARTTLS\n")
        assert await read == b"STARTTLS\n"
        await plain_server.write(b"go\n")
        assert await plain.read_until(b"\n") == b"go\n"
        # The client's greeting is in the kernel before the server begins: that is no injection.
        starting = plain.start_tls(False, client_context(), server_hostname="localhost")
        await turns(2)
        server = await plain_server.start_tls(True, server_context())
        client = await starting
        assert isinstance(client, SSLIOStream)
        assert (client.max_buffer_size, client.max_write_buffer_size) == (1000, MIB)
        assert plain.closed()
        with pytest.raises(StreamClosedError):
            plain.write(b"in plain text")
        read = server.read_until(b"\n")
        await client.write(b"secret\n")
        assert await read == b"secret\n"
        server.close()
        assert not closed.is_set()
        assert await client.read_until_close() == b""
        await closed.wait()


@asynchronous
async def test_start_tls_refuses_what_was_sent_in_plain_text(loop: IOLoop) -> None:
    """What was injected behind STARTTLS, and is in the buffer, must not be taken for the protected answer."""
    with stream_pair(tcp=True) as (stream, peer):

        def refused() -> None:
            with pytest.raises(ValueError, match="not idle"):
                stream.start_tls(False, client_context(), server_hostname="localhost")

        peer.write(b"go\ninjected\n")
        assert await stream.read_until(b"\n") == b"go\n"
        refused()
        assert await stream.read_until(b"\n") == b"injected\n"
        read = stream.read_bytes(1)
        refused()
        peer.write(b"x")
        await read
        written = stream.write(bytes(32 * MIB))
        refused()
        peer.read_bytes(32 * MIB)
        await written
        stream.close()
        refused()


@asynchronous
async def test_start_tls_with_options_that_are_none(loop: IOLoop) -> None:
    with stream_pair(tcp=True) as (stream, peer):
        with pytest.raises(ValueError, match="certificate"):
            stream.start_tls(True, {"certificate": "x"})
        peer.write(b"x")
        assert await stream.read_bytes(1) == b"x"


@asynchronous
async def test_start_tls_on_a_connection_that_was_reset(loop: IOLoop) -> None:
    with stream_pair(tcp=True) as (stream, peer):
        sock = stream.socket
        closed = asyncio.Event()
        stream.set_close_callback(closed.set)
        reset(peer.socket)
        peer.close()
        assert isinstance(await real_error(stream.start_tls(False)), OSError)
        await closed.wait()
        assert sock.fileno() == -1


class NeverAsks(SSLIOStream):
    """Stands for one that asks the socket for its error just before the reset."""

    def get_fd_error(self) -> None:
        return None


@asynchronous
async def test_a_reset_between_connecting_and_the_handshake(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = NeverAsks(socket.socket(), ssl_options=client_context())
        sock = stream.socket
        connecting = stream.connect(listener.getsockname(), server_hostname="localhost")
        peer, _ = listener.accept()
        reset(peer)
        with pytest.raises(OSError, match=r"not connected|reset"):
            await connecting
        assert sock.fileno() == -1


class Counting(SSLIOStream):
    received = sent = 0

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        count = super().read_from_fd(buf)
        self.received += count or 0
        return count

    def write_to_fd(self, data: memoryview) -> int:
        count = super().write_to_fd(data)
        self.sent += count
        return count


@asynchronous
async def test_a_stream_that_counts(loop: IOLoop) -> None:
    with tcp_pair() as (ours, peer_socket):
        client, server = client_context(), server_context()
        stream = Counting(client.wrap_socket(ours, server_hostname="localhost", do_handshake_on_connect=False))
        peer = Counting(server.wrap_socket(peer_socket, server_side=True, do_handshake_on_connect=False))
        read = stream.read_bytes(MIB)
        await peer.write(bytes(MIB))
        assert await read == bytes(MIB)
        assert (stream.received, peer.sent) == (MIB, MIB)
        stream.close()
        peer.close()


@asynchronous
async def test_cancelling_start_tls_closes_the_stream(loop: IOLoop) -> None:
    with stream_pair(tcp=True) as (stream, peer):
        sock = stream.socket
        closed = asyncio.Event()
        peer.set_close_callback(closed.set)
        starting = stream.start_tls(True, server_context())
        starting.cancel()
        await closed.wait()
        assert sock.fileno() == -1


@asynchronous
async def test_wait_for_handshake_calls_back(loop: IOLoop) -> None:
    with tls_pair() as (client, server):
        calls: list[tuple[object, ...]] = []
        called = asyncio.Event()

        def callback(*args: object) -> None:
            calls.append(args)
            called.set()

        assert client.wait_for_handshake(callback) is None
        await called.wait()
        assert calls == [()]
        assert not server.closed()


@asynchronous
async def test_connect_takes_the_callback_as_second_argument(loop: IOLoop) -> None:
    """As in Tornado 2 to 5, with the name behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream: Any = SSLIOStream(socket.socket(), ssl_options=client_context())
        called = asyncio.Event()
        assert stream.connect(listener.getsockname(), called.set, "localhost") is None
        peer, _ = listener.accept()
        server = SSLIOStream(server_context().wrap_socket(peer, server_side=True, do_handshake_on_connect=False))
        await called.wait()
        assert stream.socket.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)
        stream.close()
        server.close()
