"""TLS and proxies, on every backend."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from pollux_http import HTTPProxyError, HTTPTimeoutError
from tests.web.client import Web
from tests.web.origins import OK, Peer, client, origin


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """For a server named localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


class Proxy:
    """A proxy: tunnels, and requests in absolute form."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.answer = b"HTTP/1.1 200 Connected\r\nX: y\r\n\r\n"

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.head()
            self.requests.append(request)
            method, target, _ = request.line.split(" ")
            if method != "CONNECT":
                assert target.startswith("http://")
                await peer.send(OK)
                continue
            await peer.send(self.answer)
            if b" 200 " not in self.answer:
                return
            host, _, port = target.rpartition(":")
            assert host == "localhost"
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            forth = asyncio.ensure_future(self.copy(peer.reader, writer))
            try:
                await self.copy(reader, peer.writer)
            finally:
                forth.cancel()
                await asyncio.gather(forth, return_exceptions=True)
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            return

    @staticmethod
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


MAPPING = {"localhost": "127.0.0.1"}


def test_tls(web: Web, tls: ssl.SSLContext, ca: str) -> None:
    async def main() -> None:
        async with origin(None, *[OK] * 5, tls=tls) as server, client(hostname_mapping=MAPPING) as http:
            for _ in range(2):
                response = await http.fetch(server.url, ca_certs=ca)
                assert response.body == b"ok"
            info = response.time_info
            assert info["appconnect"] == info["connect"] == 0  # on the connection that stood
            assert server.connections == 1
            await http.fetch(server.url, ssl_options={"ca_certs": ca})  # the same options
            assert server.connections == 1
            context = ssl.create_default_context(cafile=ca)
            response = await http.fetch(server.url, ssl_options=context)
            assert 0 < response.time_info["connect"] < response.time_info["appconnect"]
            assert server.connections == 2
            await http.fetch(server.url, method="POST", body=b"x" * 200_000, ssl_options=context)
            assert server.connections == 2
            await http.fetch(server.url, validate_cert=False)
            assert server.connections == 3
            assert server.requests[0].one("Host") == f"localhost:{server.port}"

    web.run(main())


def test_unverified_servers_are_refused(web: Web, tls: ssl.SSLContext, ca: str) -> None:
    async def main() -> None:
        async with client(hostname_mapping={**MAPPING, "other.test": "127.0.0.1"}) as http:
            async with origin(None, OK, tls=tls) as server:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await http.fetch(server.url)
                with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.test"):
                    await http.fetch(server.url.replace("localhost", "other.test"), ca_certs=ca)
                # What one request has verified, or not, is nothing to the next.
                await http.fetch(server.url, validate_cert=False)
                with pytest.raises(ssl.SSLCertVerificationError):
                    await http.fetch(server.url)
                assert not http._active
                assert server.requests[1:] == []

    web.run(main())


def test_no_tls_there(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.reader.read(10)
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with origin(serve) as server, client(hostname_mapping=MAPPING) as http:
            with pytest.raises(ssl.SSLError):
                await http.fetch(server.url.replace("http:", "https:"))

    web.run(main())


def test_client_certificate(web: Web, authority: trustme.CA, ca: str, tls: ssl.SSLContext, tmp_path: Path) -> None:
    mine = authority.issue_cert("me@example.org")
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(ca)

    async def main() -> None:
        async with origin(None, OK, tls=tls) as server, client(hostname_mapping=MAPPING) as http:
            pair: dict[str, Any] = {"client_cert": str(tmp_path / "cert.pem"), "client_key": str(tmp_path / "key.pem")}
            assert (await http.fetch(server.url, ca_certs=ca, **pair)).body == b"ok"

    web.run(main())


@pytest.mark.parametrize("user", [None, "user"])
def test_proxy(web: Web, user: str | None) -> None:
    async def main() -> None:
        proxy = Proxy()
        async with origin(proxy) as server, client() as http:
            options: dict[str, Any] = {"proxy_host": "127.0.0.1", "proxy_port": server.port}
            if user:
                options.update(proxy_username=user, proxy_password="pw")
            for _ in range(2):
                response = await http.fetch("http://example.test/path?a", **options)
                assert response.body == b"ok"
            assert server.connections == 1
            for request in proxy.requests:
                assert request.line == "GET http://example.test/path?a HTTP/1.1"
                assert request.one("Host") == "example.test"
                credentials = "Basic " + base64.b64encode(b"user:pw").decode() if user else None
                assert request.one("Proxy-Authorization") == credentials
            # Another origin, or other credentials, is another connection.
            await http.fetch("http://other.test/", **options)
            assert server.connections == 2
            await http.fetch("http://example.test/", **{**options, "proxy_username": "other"})
            assert server.connections == 3

    web.run(main())


def test_tunnel(web: Web, tls: ssl.SSLContext, ca: str) -> None:
    async def main() -> None:
        proxy = Proxy()
        async with origin(None, *[OK] * 9, tls=tls) as server, origin(proxy) as way, client() as http:
            options: dict[str, Any] = {
                "proxy_host": "127.0.0.1", "proxy_port": way.port, "proxy_username": "u", "proxy_password": "p",
                "ca_certs": ca,
            }  # fmt: skip
            for _ in range(2):
                response = await http.fetch(server.url, **options)
                assert response.body == b"ok"
            (request,) = proxy.requests
            assert request.line == f"CONNECT localhost:{server.port} HTTP/1.1"
            assert request.one("Host") == f"localhost:{server.port}"
            assert request.one("Proxy-Authorization") == "Basic " + base64.b64encode(b"u:p").decode()
            for seen in server.requests:
                assert seen.line == "GET / HTTP/1.1"
                assert seen.all("Proxy-Authorization") == []

    web.run(main())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407 Proxy Authentication"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\n\r\n", "302 Found"),
        (b"220 hello\r\n\r\n", "no answer in HTTP"),
        (b"HTTP/1.1 500 " + b"x" * 100_000, "no answer in HTTP"),
        (b"", "no answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nsent before its time", "not idle"),
    ],
)
def test_refused_tunnels(web: Web, answer: bytes, words: str) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.head()
            await peer.send(answer)
            if answer:
                await peer.gone()

        async with origin(serve) as way, client() as http:
            with pytest.raises((HTTPProxyError, ValueError), match=words) as caught:
                await http.fetch("https://localhost/", proxy_host="127.0.0.1", proxy_port=way.port, raise_error=False)
            if isinstance(caught.value, HTTPProxyError):
                assert caught.value.code == 599
                assert f"127.0.0.1:{way.port}" in str(caught.value)
            assert not http._active

    web.run(main())


def test_timeouts_tell_tunnel_and_handshake(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        async def silent(peer: Peer) -> None:
            await peer.gone()

        async with origin(silent) as way, client(hostname_mapping=MAPPING) as http:
            with pytest.raises(HTTPTimeoutError, match=r"Timeout while asking the proxy 127\.0\.0\.1:.* localhost:443"):
                await http.fetch("https://localhost/", proxy_host="127.0.0.1", proxy_port=way.port, connect_timeout=5)
            with pytest.raises(HTTPTimeoutError, match="Timeout during TLS handshake with localhost"):
                await http.fetch(f"https://localhost:{way.port}/", connect_timeout=5)
            assert not http._active

    web.run(main())
