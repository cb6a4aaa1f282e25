"""`websocket_connect` on every backend: against our server, the library websockets, and servers that do it wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
import websockets
from websockets.asyncio.server import serve as websockets_serve

from pollux.resolver import Resolver
from pollux_http.httpclient import HTTPClientError, HTTPProxyError, HTTPRequest, HTTPTimeoutError
from pollux_web import Application, RedirectHandler, RequestHandler
from pollux_websocket import (
    HandshakeError,
    WebSocketClosedError,
    WebSocketError,
    WebSocketHandler,
    websocket_connect,
)
from pollux_websocket.handshake import accept_key
from tests.web.client import Web
from tests.web.origins import origin
from tests.web.test_client_ways import Proxy
from tests.websocket.wire import closing, frame


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4000, "as you like")
        elif message == "headers":
            self.write_message(dict(self.request.headers))
        else:
            self.write_message(message, isinstance(message, bytes))

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[-1] if subprotocols else None

    def get_compression_options(self) -> dict[str, Any] | None:
        return {}


class Plain(RequestHandler):
    def get(self, code: str) -> None:
        self.set_status(int(code))


APPLICATION = Application(
    [
        ("/", Echo),
        (r"/status/(\d+)", Plain),
        ("/to", RedirectHandler, {"url": "/", "permanent": False}),
        ("/round", RedirectHandler, {"url": "/round"}),
        ("/ftp", RedirectHandler, {"url": "ftp://a/"}),
    ]
)


def url(server: Any, path: str = "/", scheme: str = "ws") -> str:
    port = server.sockets[0].getsockname()[1]
    return f"{scheme}://127.0.0.1:{port}{path}"


def test_messages_both_ways(web: Web) -> None:
    async def main() -> None:
        connection = await websocket_connect(url(web.serve(APPLICATION)))
        for message in ("é", b"\xff", "", b"x" * 70_000, "x" * 1_000_000):
            await connection.write_message(message, isinstance(message, bytes))
            assert await connection.read_message() == message
        assert connection.headers["Upgrade"] == "websocket"
        assert connection.selected_subprotocol is None
        connection.close(1000, "done")
        with pytest.raises(WebSocketClosedError):
            connection.write_message("x")
        assert await connection.read_message() is None
        assert await connection.read_message() is None
        assert (connection.close_code, connection.close_reason) == (1000, None)  # the answer to ours

    web.run(main())


def test_async_iteration_to_the_end(web: Web) -> None:
    async def main() -> None:
        connection = await websocket_connect(url(web.serve(APPLICATION)))
        for message in ("a", "b", "close"):
            connection.write_message(message)
        assert [message async for message in connection] == ["a", "b"]
        assert (connection.close_code, connection.close_reason) == (4000, "as you like")

    web.run(main())


def test_callbacks(web: Web) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connected, over, read = loop.create_future(), loop.create_future(), loop.create_future()
        got: list[Any] = []

        def on_message(message: Any) -> None:
            got.append(message)
            if message is None:
                over.set_result(None)

        server = web.serve(APPLICATION)
        websocket_connect(url(server), connected.set_result, on_message_callback=on_message)
        connection = (await connected).result()
        connection.write_message("a")
        connection.write_message("close")
        await over
        assert got == ["a", None]
        other = await websocket_connect(url(server))
        other.read_message(read.set_result)
        other.write_message("b")
        assert (await read).result() == "b"
        other.close()
        assert await other.read_message() is None

    web.run(main())


def test_a_callback_that_raises(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        over = asyncio.get_running_loop().create_future()

        async def on_message(message: Any) -> None:
            if message is None:
                over.set_result(None)
            else:
                raise ZeroDivisionError("mine")

        def plain(message: Any) -> Any:
            if message is None:
                over.set_result(None)
                return None
            return on_message(message)

        connection = await websocket_connect(url(web.serve(APPLICATION)), on_message_callback=plain)
        connection.write_message("a")
        await over
        assert connection.close_code == 1011

    with caplog.at_level(logging.ERROR):
        web.run(main())
    assert "mine" in caplog.text


@pytest.mark.parametrize("options", [None, {}, {"compression_level": 1, "server_no_context_takeover": True}])
def test_options(web: Web, options: Any) -> None:
    async def main() -> None:
        connection = await websocket_connect(
            url(web.serve(APPLICATION)), compression_options=options, subprotocols=["a", "b"]
        )
        assert connection.selected_subprotocol == "b"
        assert ("Sec-Websocket-Extensions" in connection.headers) is (options is not None)
        for _ in range(3):
            connection.write_message("x" * 10_000)
            assert await connection.read_message() == "x" * 10_000
        connection.close()
        assert await connection.read_message() is None
        assert connection.close_code is None

    web.run(main())


def test_a_message_above_the_limit(web: Web) -> None:
    async def main() -> None:
        connection = await websocket_connect(url(web.serve(APPLICATION)), max_message_size=100)
        connection.write_message("x" * 101)
        assert await connection.read_message() is None
        assert connection.close_code == 1009

    web.run(main())


def test_the_server_waits_for_who_does_not_read(web: Web) -> None:
    """What nobody reads is bounded: the client stops to read."""

    async def main() -> None:
        connection = await websocket_connect(url(web.serve(APPLICATION)))
        for _ in range(200):
            connection.write_message(b"x" * 10_000, binary=True)
        inner: Any = connection._connection
        while not inner._paused:
            await asyncio.sleep(0)
        assert inner._queued < 400_000
        for _ in range(200):
            assert len(await connection.read_message() or "") == 10_000
        connection.close()
        assert await connection.read_message() is None

    web.run(main())


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


def server_context(authority: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def test_tls(web: Web, authority: Any) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION, ssl_options=server_context(authority))
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        connection = await websocket_connect(HTTPRequest(url(server, scheme="wss"), ssl_options=trusting))
        for message in ("x", "y" * 300_000):
            connection.write_message(message)
            assert await connection.read_message() == message
        connection.close(1000)
        assert await connection.read_message() is None
        failing = await websocket_connect(
            HTTPRequest(url(server, scheme="wss"), ssl_options=trusting), max_message_size=10
        )
        failing.write_message("z" * 11)
        assert await failing.read_message() is None
        assert failing.close_code == 1009
        with pytest.raises(ssl.SSLCertVerificationError):
            await websocket_connect(url(server, scheme="wss"))

    web.run(main())


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_through_a_proxy(web: Web, authority: Any, scheme: str) -> None:
    """By CONNECT, with TLS or without; the proxy's password is the proxy's alone."""

    async def main() -> None:
        proxy, over = Proxy(), asyncio.Event()

        async def watched(peer: Any) -> None:
            await proxy(peer)
            over.set()

        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        tls: Any = {"ssl_options": server_context(authority)} if scheme == "wss" else {}
        server = web.serve(APPLICATION, **tls)
        async with origin(watched) as way:
            address = url(server, scheme=scheme).replace("127.0.0.1", "localhost")
            ways: dict[str, Any] = {
                "proxy_host": "127.0.0.1",
                "proxy_port": way.port,
                "proxy_username": "u",
                "proxy_password": "p",
            }
            request = HTTPRequest(address, ssl_options=trusting, **ways)
            connection = await websocket_connect(request)
            for message in ("x", "y" * 300_000):
                connection.write_message(message)
                assert await connection.read_message() == message
            connection.write_message("headers")
            fields = json.loads(await connection.read_message() or "")
            assert fields["Host"] == f"localhost:{server.sockets[0].getsockname()[1]}"
            assert "Proxy-Authorization" not in fields
            (asked,) = proxy.requests
            assert asked.line == f"CONNECT {fields['Host']} HTTP/1.1"
            assert asked.one("Proxy-Authorization") == "Basic dTpw"
            connection.close()
            assert await connection.read_message() is None
            await over.wait()

    web.run(main())


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Authenticate\r\nContent-Length: 0\r\n\r\n", b"220 hello\r\n\r\n", b""]
)
def test_a_proxy_that_refuses(web: Web, scheme: str, answer: bytes) -> None:
    async def main() -> None:
        async def refuse(peer: Any) -> None:
            await peer.head()
            await peer.send(answer)
            if answer:
                await peer.gone()

        async with origin(refuse) as way:
            request = HTTPRequest(f"{scheme}://localhost/", proxy_host="127.0.0.1", proxy_port=way.port)
            with pytest.raises(HTTPProxyError, match=f"127.0.0.1:{way.port}"):
                await websocket_connect(request)

    web.run(main())


def test_redirects(web: Web) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        connection = await websocket_connect(url(server, "/to"))
        connection.write_message("x")
        assert await connection.read_message() == "x"
        connection.close()
        assert await connection.read_message() is None
        for path, code in (("/round", 301), ("/status/404", 404), ("/status/503", 503)):
            with pytest.raises(HTTPClientError) as caught:
                await websocket_connect(url(server, path))
            assert caught.value.code == code
        with pytest.raises(HTTPClientError):
            await websocket_connect(HTTPRequest(url(server, "/to"), follow_redirects=False))
        with pytest.raises(HandshakeError, match="ftp"):
            await websocket_connect(url(server, "/ftp"))
        with pytest.raises(WebSocketError, match="200"):
            await websocket_connect(url(server, "/status/200"))

    web.run(main())


def test_a_redirect_elsewhere_takes_no_credentials_along(web: Web, authority: Any) -> None:
    """And never leads from wss to ws."""

    async def main() -> None:
        there = web.serve(APPLICATION)
        here = web.serve(Application([("/", RedirectHandler, {"url": url(there, "/"), "permanent": False})]))
        headers = {"Authorization": "secret", "Cookie": "a=b", "X-Other": "kept"}
        connection = await websocket_connect(HTTPRequest(url(here), headers=headers))
        connection.write_message("headers")
        seen = str(await connection.read_message())
        assert "kept" in seen
        assert "secret" not in seen
        assert "a=b" not in seen
        connection.close()
        assert await connection.read_message() is None
        safe = web.serve(here.application, ssl_options=server_context(authority))
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with pytest.raises(HandshakeError, match="unprotected"):
            await websocket_connect(HTTPRequest(url(safe, scheme="wss"), ssl_options=trusting))

    web.run(main())


def test_headers_and_credentials(web: Web) -> None:
    async def main() -> None:
        request = HTTPRequest(url(web.serve(APPLICATION)), headers={"X-A": "b"}, auth_username="me", auth_password="it")
        connection = await websocket_connect(request)
        assert "Upgrade" not in request.headers
        connection.write_message("headers")
        seen = str(await connection.read_message())
        assert "X-A" in seen
        assert "Basic bWU6aXQ=" in seen
        connection.close()
        assert await connection.read_message() is None

    web.run(main())


@pytest.mark.parametrize("address", ["http", "ftp://a/", "ws://", "ws://a b/", "ws:/\r\nX: y"])
def test_what_is_no_url(web: Web, address: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"URL|url|host"):
            await websocket_connect(address)

    web.run(main())


async def raw_server(web: Web, answer: Callable[[str], bytes]) -> tuple[Any, str]:
    """Start a server that answers as it is told: `answer` gets the key."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(line for line in head.split("\r\n") if line.startswith("Sec-Websocket-Key")).split(": ")[1]
            writer.write(answer(key))
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def switched(key: str, *lines: str) -> bytes:
    return "\r\n".join(
        [
            "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_key(key)}", *lines, "", "",
        ]
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        lambda key: b"",
        lambda key: b"rubbish\r\n\r\n",
        lambda key: b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        lambda key: switched("another"),
        lambda key: switched(key, "Sec-WebSocket-Protocol: x"),
        lambda key: switched(key, "Sec-WebSocket-Extensions: permessage-deflate"),
        lambda key: b"HTTP/1.1 101 S\r\n" + b"A: b\r\n" * 20_000,
    ],
    ids=["timeout", "no HTTP", "no fields", "key", "subprotocol", "extension", "long"],
)
def test_servers_that_do_it_wrong(virtual_web: Web, answer: Callable[[str], bytes]) -> None:
    web = virtual_web

    async def main() -> None:
        server, address = await raw_server(web, answer)
        kind = HTTPTimeoutError if not answer("k") else HandshakeError
        with pytest.raises(kind):
            await websocket_connect(address, connect_timeout=5)
        server.close()
        await asyncio.sleep(1)

    web.run(main())


def test_what_follows_the_answer_at_once_and_interim_answers(web: Web) -> None:
    async def main() -> None:
        server, address = await raw_server(
            web,
            lambda key: (
                b"HTTP/1.1 103 Early Hints\r\n\r\n"
                + switched(key)
                + frame(0x81, b"early", None)
                + closing(1001, "", None)
            ),
        )
        connection = await websocket_connect(address)
        assert await connection.read_message() == "early"
        assert await connection.read_message() is None
        assert connection.close_code == 1001
        server.close()

    web.run(main())


def test_a_server_that_does_not_end_is_left(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        server, address = await raw_server(web, lambda key: switched(key) + closing(1000, "", None))
        connection = await websocket_connect(address)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await connection.read_message() is None
        assert 4 < loop.time() - start < 8
        server.close()
        await asyncio.sleep(1)

    web.run(main())


def test_pings_and_their_deadline(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        server, address = await raw_server(web, switched)
        connection = await websocket_connect(address, ping_interval=10, ping_timeout=2)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await connection.read_message() is None
        assert 12 < loop.time() - start < 16
        assert connection.close_code is None
        server.close()
        await asyncio.sleep(1)
        server = web.serve(APPLICATION)
        good = await websocket_connect(url(server), ping_interval=10)
        await asyncio.sleep(100)
        good.write_message("alive")
        assert await good.read_message() == "alive"
        good.close()
        assert await good.read_message() is None

    web.run(main())


def test_cancelling_leaves_nothing_open(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        server, address = await raw_server(web, lambda key: b"")
        task = websocket_connect(address)
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.close()
        await asyncio.sleep(1)

    web.run(main())


def test_nobody_listens(web: Web) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        address = url(server)
        server.stop()
        resolver = Resolver()
        with pytest.raises(OSError, match="refused"):
            await websocket_connect(address, resolver=resolver)
        resolver.close()

    web.run(main())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_against_the_library_websockets(web: Web, compression: Any) -> None:
    """Both ways round."""
    messages: list[str | bytes] = ["é", b"\xff" * 100, "", "x" * 200_000]

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with websockets_serve(echo, "127.0.0.1", 0, compression=compression) as server:
            address = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
            ours = await websocket_connect(address, compression_options={} if compression else None)
            for message in messages:
                ours.write_message(message, isinstance(message, bytes))
                assert await ours.read_message() == message
            ours.ping(b"x")
            ours.close(3000, "done")
            assert await ours.read_message() is None
            assert (ours.close_code, ours.close_reason) == (3000, "done")
        async with websockets.connect(url(web.serve(APPLICATION)), compression=compression, proxy=None) as theirs:
            for message in messages:
                await theirs.send(message)
                assert await theirs.recv() == message
            await (await theirs.ping())
            await theirs.send("close")
            with pytest.raises(websockets.ConnectionClosed):
                await theirs.recv()
            assert (theirs.close_code, theirs.close_reason) == (4000, "as you like")

    web.run(main())
