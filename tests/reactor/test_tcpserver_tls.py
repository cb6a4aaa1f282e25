"""`TCPServer` with TLS on every backend."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import tornado.tcpserver
import trustme

from pollux import IOLoop
from pollux.iostream import IOStream, SSLIOStream, StreamClosedError
from pollux.tcpclient import TCPClient
from pollux.tcpserver import TCPServer
from pollux.testing.descriptors import reset
from tests.reactor.loops import BACKENDS
from tests.reactor.streams import backend_loop, run

loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """A certificate for localhost and its key, as `ssl_options`."""
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return {"certfile": str(tmp_path / "cert.pem"), "keyfile": str(tmp_path / "key.pem")}


class Lines(TCPServer):
    """Answers each line with itself; remembers its streams."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended: list[IOStream] = []

    async def handle_stream(self, stream: IOStream, address: Any) -> None:
        try:
            while True:
                await stream.write(await stream.read_until(b"\n"))
        except StreamClosedError:
            self.ended.append(stream)

    async def ends(self, count: int) -> None:
        while len(self.ended) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("as_context", [True, False])
def test_tls(loop: IOLoop, authority: trustme.CA, files: dict[str, str], as_context: bool) -> None:
    options: Any = files
    if as_context:
        options = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        options.load_cert_chain(**files)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)

    async def main() -> None:
        server = Lines(ssl_options=options)
        server.listen(0, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        for _ in range(2):
            stream = await TCPClient().connect("localhost", port, ssl_options=trusting)
            await stream.write(b"secret\n")
            assert await stream.read_until(b"\n") == b"secret\n"
            stream.close()
        await server.ends(2)
        assert all(isinstance(stream, SSLIOStream) for stream in server.ended)
        server.stop()

    run(loop, main())


def test_tls_with_clients_that_have_none(loop: IOLoop, files: dict[str, str]) -> None:
    """One that speaks plain text, one that goes at once, one that resets: each costs its own connection only."""

    async def main() -> None:
        server = Lines(ssl_options=files)
        server.listen(0, "127.0.0.1")
        address: tuple[str, int] = server.sockets[0].getsockname()
        plain = await TCPClient().connect(*address)
        await plain.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(StreamClosedError):
            await plain.read_until(b"never")
        await server.ends(1)
        assert isinstance(server.ended[0].error, ssl.SSLError)
        socket.create_connection(address).close()
        await server.ends(2)
        before = server.sockets[0]
        reset(socket.create_connection(address))  # before it is accepted: with TLS there is nothing to wrap
        stream = await TCPClient().connect(*address, ssl_options={"cert_reqs": ssl.CERT_NONE})
        await stream.write(b"still\n")
        assert await stream.read_until(b"\n") == b"still\n"
        stream.close()
        await server.ends(3)
        assert server.sockets == (before,)
        server.stop()
        await asyncio.sleep(0)

    run(loop, main())


@pytest.mark.parametrize("kind", [TCPServer, tornado.tcpserver.TCPServer], ids=["pollux", "tornado"])
def test_bad_tls_options(kind: Any, files: dict[str, str]) -> None:
    with pytest.raises(KeyError, match="certfile"):
        kind(ssl_options={"keyfile": files["keyfile"]})
    for name in files:
        with pytest.raises(ValueError, match=r"/nonexistent.*does not exist"):
            kind(ssl_options={**files, name: "/nonexistent"})


def test_tls_options_that_do_not_fit(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown option"):
        TCPServer(ssl_options={**files, "certificate": "x"})
    with pytest.raises(ssl.SSLError):
        TCPServer(ssl_options={**files, "keyfile": files["certfile"]})
