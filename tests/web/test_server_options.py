"""Options of `HTTPServer` beside deadlines: compressed requests, limits on connections and requests, TLS; detach."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import tornado.httpserver
import trustme

from pollux_http import HTTPHeaders, HTTPInputError, HTTPServer, HTTPServerRequest
from pollux_http.inflating import Inflater
from tests.web.client import Web, get, post

RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(b"hello") + RAW.flush()


def echo(request: HTTPServerRequest) -> None:
    coding = request.headers.get("Content-Encoding", "-") + request.headers.get("X-Consumed-Content-Encoding", "-")
    request.connection.respond(body=coding.encode() + request.body)


CODED = {
    "gzip": ("gzip", gzip.compress(b"hello")), "two members": ("gzip", gzip.compress(b"hel") + gzip.compress(b"lo")),
    "deflate": ("deflate", zlib.compress(b"hello")), "raw deflate": ("deflate", DEFLATED),
    "any case": ("GZIP", gzip.compress(b"hello")),
}  # fmt: skip


@pytest.mark.parametrize(("coding", "data"), CODED.values(), ids=list(CODED))
@pytest.mark.parametrize("chunked", [False, True])
def test_decompress_request(web: Web, coding: str, data: bytes, chunked: bool) -> None:
    server = web.serve(echo, decompress_request=True)

    async def main() -> None:
        client = await web.connect(server)
        line = f"Content-Encoding: {coding}"
        if chunked:
            pieces = b"".join(b"1\r\n%b\r\n" % data[i : i + 1] for i in range(len(data)))
            await client.send(get("/", line, "Transfer-Encoding: chunked", method="POST") + pieces + b"0\r\n\r\n")
            answer = await client.answer()
        else:
            answer = await client.ask(post("/", data, line))
        assert answer.body == f"-{coding}hello".encode()
        assert (await client.ask(post("/", b"plain"))).body == b"--plain"
        assert (await client.ask(post("/", b"?", "Content-Encoding: br"))).body == b"br-?", "not ours to undo"

    web.run(main())


def test_a_body_is_left_as_it_is_by_default(web: Web) -> None:
    server = web.serve(echo)

    async def main() -> None:
        data = gzip.compress(b"hello")
        assert (await web.ask(server, post("/", data, "Content-Encoding: gzip"))).body == b"gzip-" + data

    web.run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (gzip.compress(bytes(1001)), 413), (gzip.compress(bytes(50 << 20)), 413), (gzip.compress(bytes(1000)), 200),
        (b"not gzip", 400), (gzip.compress(b"hello")[:-3], 400), (gzip.compress(b"hello") + b"more", 400), (b"", 400),
    ],
    ids=[
        "one byte over", "bomb", "at the limit", "no gzip", "cut off", "more behind it", "empty",
    ],  # gzip data in an id would hold the time, and differ between xdist's workers
)  # fmt: skip
def test_bombs_and_broken_data(web: Web, data: bytes, status: int) -> None:
    """Decompression bombs: the limit holds for what comes out."""
    server = web.serve(lambda request: request.connection.respond(), decompress_request=True, max_body_size=1000)
    data = data if len(data) <= 1000 else data[:1000]

    async def main() -> None:
        chunked = get("/", "Content-Encoding: gzip", "Transfer-Encoding: chunked", method="POST")
        end = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        assert (await web.ask(server, chunked + end)).status == status

    web.run(main())


def test_inflating_never_makes_more_than_the_limit_and_one() -> None:
    inflater = Inflater(b"gzip")
    with pytest.raises(HTTPInputError) as raised:
        inflater.inflate(gzip.compress(bytes(10 << 20)), 1000)
    assert raised.value.status == 413
    assert inflater._size == 1001


def test_max_connections(web: Web) -> None:
    """Idle ones make room, the longest idle first; live ones do not."""
    held: list[HTTPServerRequest] = []

    def application(request: HTTPServerRequest) -> None:
        if request.uri == "/hold":
            held.append(request)
        else:
            request.connection.respond(body=request.uri.encode())

    server = web.serve(application, max_connections=2)

    async def main() -> None:
        live, idle = await web.connect(server), await web.connect(server)
        await live.send(get("/hold"))
        while not held:
            await asyncio.sleep(0)
        assert (await idle.ask(get("/1"))).body == b"/1"
        third = await web.connect(server)
        assert (await third.ask(get("/2"))).body == b"/2"
        assert await idle.rest() == b"", "it made room"
        await third.send(get("/hold"))
        while len(held) < 2:
            await asyncio.sleep(0)
        refused = await web.connect(server)
        assert (await refused.answer()).status == 503
        for request in held:
            request.connection.respond(body=b"done")
        assert (await live.answer()).body == b"done"
        assert (await third.answer()).body == b"done"

    web.run(main())


def test_close_all_connections(web: Web) -> None:
    held: list[HTTPServerRequest] = []
    server = web.serve(held.append)

    async def main() -> None:
        client, idle = await web.connect(server), await web.connect(server)
        await client.send(get())
        while not held:
            await asyncio.sleep(0)
        server.stop()
        ending = asyncio.create_task(server.close_all_connections())
        assert await idle.rest() == b""
        held[0].connection.respond(body=b"last")
        answer = await client.answer()
        assert (answer.body, answer.one("Connection")) == (b"last", "close")
        client.close()
        await ending

    web.run(main())


@pytest.mark.parametrize("fast", [True, False])
def test_a_client_that_has_pipelined_behind_the_last_answer_gets_it(web: Web, fast: bool) -> None:
    """To close a socket with unread data resets the connection, and the reset may overtake the answer."""

    def application(request: HTTPServerRequest) -> None:
        headers = HTTPHeaders({"Connection": "close"})
        # What the client sends behind it is in the kernel by the time the connection closes.
        web.clients[-1].sock.send(get("/unread") * 100)
        request.connection.respond(headers=headers, body=b"last")

    server = web.serve(application)

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get() if fast else post("/", b"x"))
        assert (answer.body, answer.one("Connection")) == (b"last", "close")
        await client.send(get("/more"))
        data = await asyncio.get_running_loop().sock_recv(client.sock, 100)
        assert data == b"", "an end of file and no reset"

    web.run(main())


def test_nobody_is_served_behind_a_connection_that_closed(web: Web) -> None:
    served: list[str] = []

    def application(request: HTTPServerRequest) -> None:
        served.append(request.uri)
        if request.uri == "/1":
            request.connection.close()
        else:
            request.connection.respond()

    server = web.serve(application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/1") + get("/2") + get("/3"))
        assert await client.rest() == b""
        assert served == ["/1"]

    web.run(main())


UPGRADE = ("Connection: Upgrade", "Upgrade: echo")


@pytest.mark.parametrize("suspended", [False, True])
def test_detach(web: Web, suspended: bool) -> None:
    """An Upgrade that is taken up: what the client has sent behind its request belongs to the new protocol."""
    taken: list[bytes] = []
    held: list[HTTPServerRequest] = []

    def take(request: HTTPServerRequest) -> None:
        stream, rest = request.connection.detach()
        taken.append(rest)
        stream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n" + rest)
        stream.deliver_to(lambda data: stream.send(data) if data else stream.close())

    def application(request: HTTPServerRequest) -> None:
        if not request.upgrade:
            request.connection.respond(body=request.uri.encode())
        elif suspended:
            held.append(request)
        else:
            take(request)

    server = web.serve(application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/first") + get("/", *UPGRADE) + b"GET / HTTP/1.1 or whatever")
        assert (await client.answer()).body == b"/first"
        if suspended:
            while not held:
                await asyncio.sleep(0)
            take(held[0])
        assert (await client.answer()).status == 101
        assert await client.exactly(26) == taken[0] == b"GET / HTTP/1.1 or whatever"
        await client.send(b"more")
        assert await client.exactly(4) == b"more"
        assert await server.shutdown(0) == 0, "it is nobody's connection any more"
        client.end()
        assert await client.rest() == b""

    web.run(main())


@pytest.mark.parametrize("suspended", [False, True])
def test_an_upgrade_that_is_not_taken_up(web: Web, suspended: bool) -> None:
    held: list[HTTPServerRequest] = []

    def application(request: HTTPServerRequest) -> None:
        if request.upgrade and suspended:
            held.append(request)
        else:
            request.connection.respond(body=request.uri.encode())

    server = web.serve(application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/1", *UPGRADE) + get("/2") + get("/3", *UPGRADE) + get("/4"))
        for number in (1, 2, 3, 4):
            if suspended and number % 2:
                while not held:
                    await asyncio.sleep(0)
                held.pop().connection.respond(body=b"/%d" % number)
            assert (await client.answer()).body == b"/%d" % number

    web.run(main())


def test_detach_is_refused_where_it_would_mix_protocols(web: Web) -> None:
    told: list[str] = []

    def application(request: HTTPServerRequest) -> None:
        if request.uri == "/twice":
            request.connection.respond()
        try:
            request.connection.detach()
        except RuntimeError as error:
            told.append(str(error))
            if request.uri != "/twice":
                request.connection.respond()

    server = web.serve(application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/") + get("/twice"))
        await client.answer()
        await client.answer()
        assert "another HTTP request came behind" in told[0]
        assert "for a request that has come whole" in told[1]

    web.run(main())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls(web: Web, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    def application(request: HTTPServerRequest) -> None:
        request.connection.respond(body=f"{request.full_url()} ".encode() + request.body)

    server = web.serve(application, ssl_options=context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def main() -> None:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address[:2], ssl=client_context, server_hostname="localhost")
        big = bytes(range(256)) * 4096
        for data, length in ((get("/a"), 0), (post("/b", big), len(big)), (get("/c", "Connection: close"), 0)):
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            body = await reader.readexactly(len("https://a/x ") + length)
            assert body.startswith(b"https://a/")
        assert await reader.read() == b""
        writer.close()
        plain = await web.connect(server)
        await plain.send(get())
        assert not (await plain.rest()).startswith(b"HTTP/1.1 200"), "plain text to a TLS port"

    web.run(main())


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_the_certificate_of_a_client(web: Web, authority: trustme.CA, asked: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL if asked else ssl.CERT_NONE
    found: list[Any] = []

    def application(request: HTTPServerRequest) -> None:
        found.append((request.get_ssl_certificate(), request.get_ssl_certificate(binary_form=True)))
        request.connection.respond()

    async def main() -> None:
        servers = web.serve(application, ssl_options=context), web.serve(application)
        for server in servers:
            for identity in ("somebody@example.org", None):
                trusting = ssl.create_default_context()
                authority.configure_trust(trusting)
                if identity is not None:
                    authority.issue_cert(identity).configure_cert(trusting)
                port = server.sockets[0].getsockname()[1]
                tls: dict[str, Any] = {"ssl": trusting, "server_hostname": "localhost"}
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, **(tls if server is servers[0] else {})
                )
                writer.write(get("/", "Connection: close"))
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()

    web.run(main())
    assert found[1:] == [(None, None)] * 3
    certificate, der = found[0]
    if asked:
        assert certificate["subjectAltName"] == (("email", "somebody@example.org"),)
        assert der.startswith(b"\x30")
    else:
        assert (certificate, der) == (None, None)


def test_handshake_timeout(virtual_web: Web, authority: trustme.CA) -> None:
    """A client that says nothing after it has connected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = virtual_web.serve(echo, ssl_options=context, handshake_timeout=5, header_timeout=1000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        client = await virtual_web.connect(server)
        assert await client.rest() == b""
        assert 5 <= loop.time() - start <= 6

    virtual_web.run(main())


def test_chunk_size(web: Web) -> None:
    """No more than that is read at once, and what a request does not take stays in the kernel."""
    sizes: list[int] = []

    class Application:
        def streams_body(self, request: HTTPServerRequest) -> bool:
            return True

        def __call__(self, request: HTTPServerRequest) -> None:
            def more() -> None:
                while data := request.connection.take_body():
                    sizes.append(len(data))
                if request.complete:
                    request.connection.respond(body=b"done")
                else:
                    request.connection.wait_for_body(more)

            more()

    server = web.serve(Application(), chunk_size=1000)

    async def main() -> None:
        client = await web.connect(server)
        assert (await client.ask(post("/", bytes(10_000)))).body == b"done"
        assert sum(sizes) == 10_000
        assert max(sizes) <= 1000

    web.run(main())


def test_options_of_tornados_server_are_all_there(web: Web) -> None:
    """Those of tornado.httpserver.HTTPServer.initialize, by their names."""
    given = inspect.signature(tornado.httpserver.HTTPServer.initialize).parameters
    ours = inspect.signature(HTTPServer.__init__).parameters
    assert given.keys() - {"self", "request_callback"} <= ours.keys()
    for name, parameter in given.items():
        if name not in ("self", "request_callback", "idle_connection_timeout", "body_timeout", "max_header_size"):
            assert ours[name].default in (parameter.default, ()), name


def test_the_protocol_that_the_operator_names(web: Web) -> None:
    server = web.serve(lambda request: request.connection.respond(body=request.full_url().encode()), protocol="https")

    async def main() -> None:
        client = await web.connect(server)
        for data in (get("/x"), post("/x", b"y")):
            assert (await client.ask(data)).body == b"https://a/x"

    web.run(main())


def test_names_of_an_application_are_its_own(web: Web) -> None:
    """What a user's application calls startup or shutdown is not the server's to call."""

    class Own:
        def __call__(self, request: HTTPServerRequest) -> None:
            request.connection.respond(body=b"own")

        def startup(self, database: str) -> None:
            raise AssertionError

        shutdown = startup

    server = web.serve(Own())

    async def main() -> None:
        await server.startup()
        assert (await web.ask(server, get())).body == b"own"
        assert await server.shutdown() == 0

    web.run(main())


def test_a_streamed_body_for_an_application_of_ours(web: Web) -> None:
    """The seam that handlers stream by: `streams_body` says which requests, `take_body` brings the parts."""

    class Summing:
        def streams_body(self, request: HTTPServerRequest) -> bool:
            return request.uri == "/stream"

        def __call__(self, request: HTTPServerRequest) -> None:
            if request.incoming is None:
                request.connection.respond(body=b"whole %d" % len(request.body))
                return
            size = 0

            def more() -> None:
                nonlocal size
                size += len(request.connection.take_body())
                if request.complete:
                    request.connection.respond(body=b"streamed %d" % size)
                else:
                    request.connection.wait_for_body(more)

            more()

    callback: Callable[[Any], object] = Summing()
    server = web.serve(callback)

    async def main() -> None:
        client = await web.connect(server)
        for path, word in (("/stream", b"streamed"), ("/other", b"whole"), ("/stream", b"streamed")):
            assert (await client.ask(post(path, bytes(3 << 20)))).body == b"%b %d" % (word, 3 << 20)
            assert (await client.ask(post(path, b"abc"))).body == word + b" 3"
        assert (await client.ask(get("/stream"))).body == b"whole 0"

    web.run(main())
