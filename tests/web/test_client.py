"""`AsyncHTTPClient` on every backend: what goes out, what comes back."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import datetime
import gzip
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from pollux import IOLoop, gen
from pollux.stack_context import ExceptionStackContext
from pollux_http import AsyncHTTPClient, HTTPClientError, HTTPHeaders, HTTPInputError, HTTPRequest, HTTPResponse
from pollux_http.httpclient import HTTPClient, HTTPError
from tests.web.client import Web
from tests.web.origins import OK, Peer, client, origin


def test_get(web: Web) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 5\r\n\r\nhello"
        async with origin(None, answer) as server, client() as http:
            response = await http.fetch(f"{server.url}path?a=1#fragment")
            (request,) = server.requests
            assert request.line == "GET /path?a=1 HTTP/1.1"
            assert request.one("Host") == f"127.0.0.1:{server.port}"
            assert (request.one("User-Agent") or "").startswith("Pollux/")
            assert "gzip" in (request.one("Accept-Encoding") or "")
            assert request.all("Connection") == []
            assert (response.code, response.reason, response.body) == (200, "Fine", b"hello")
            assert response.headers.get_list("X-A") == ["1", "2"]
            assert response.buffer is not None
            assert response.buffer.read() == b"hello"
            assert response.error is None
            response.rethrow()
            assert response.effective_url.startswith(f"{server.url}path?a=1")
            assert response.request.url.endswith("#fragment")
            assert response.request_time >= 0
            assert response.start_time > 0
            info = response.time_info
            assert 0 <= info["namelookup"] <= info["connect"] <= info["pretransfer"]
            assert info["pretransfer"] <= info["starttransfer"] <= info["total"]
            assert info["queue"] == info["redirect"] == info["appconnect"] == 0

    web.run(main())


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_methods_without_a_body(web: Web, method: str) -> None:
    async def main() -> None:
        length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        answer = length if method == "HEAD" else OK
        async with origin(None, answer, answer) as server, client() as http:
            for _ in range(2):
                response = await http.fetch(server.url, method=method)
                assert response.body == (b"" if method == "HEAD" else b"ok")
            assert [request.line for request in server.requests] == [f"{method} / HTTP/1.1"] * 2
            assert server.requests[0].all("Content-Length") == []
            assert server.connections == 1

    web.run(main())


@pytest.mark.parametrize("size", [0, 5, 300_000])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_methods_with_a_body(web: Web, method: str, size: int) -> None:
    async def main() -> None:
        async with origin(None, OK, OK) as server, client() as http:
            for body in (b"x" * size, "é" * size):
                await http.fetch(server.url, method=method, body=body)
            first, second = server.requests
            assert first.body == b"x" * size
            assert second.body == ("é" * size).encode()
            assert first.one("Content-Length") == str(size)
            form = "application/x-www-form-urlencoded"
            assert first.one("Content-Type") == (form if method == "POST" else None)
            assert server.connections == 1

    web.run(main())


def test_headers_and_options(web: Web) -> None:
    async def main() -> None:
        async with origin(None, *[OK] * 6) as server, client(defaults={"user_agent": "ours"}) as http:
            when = datetime.datetime(2020, 1, 2, 3, 4, 5)  # UTC, as Tornado has it
            await http.fetch(
                server.url,
                headers={"x-a": "1", "Host": "other", "content-length": "9", "Transfer-Encoding": "chunked"},
                auth_username="user", auth_password="pass:é", if_modified_since=when, decompress_response=False,
            )  # fmt: skip
            await http.fetch(server.url.replace("//", "//us%20er:pw@"), user_agent="theirs", if_modified_since=0.0)
            many = HTTPHeaders()
            many.add("X-B", "1")
            many.add("X-B", "2")
            await http.fetch(HTTPRequest(server.url, headers=many, method="POST", allow_nonstandard_methods=True))
            await http.fetch(server.url, method="GET", body=b"abc", allow_nonstandard_methods=True)
            await http.fetch(server.url, method="PURGE", allow_nonstandard_methods=True)
            await http.fetch(f"{server.url}ü/%2F?é")
            one, two, three, four, five, six = server.requests
            assert one.one("X-A") == "1"
            assert one.one("Host") == "other"
            assert one.all("Content-Length") == one.all("Transfer-Encoding") == one.all("Accept-Encoding") == []
            assert one.one("Authorization") == "Basic " + base64.b64encode("user:pass:é".encode()).decode()
            assert one.one("If-Modified-Since") == "Thu, 02 Jan 2020 03:04:05 GMT"
            assert one.one("User-Agent") == "ours"
            assert two.one("Authorization") == "Basic " + base64.b64encode(b"us er:pw").decode()
            assert two.one("Host") == f"127.0.0.1:{server.port}"
            assert two.one("User-Agent") == "theirs"
            assert two.one("If-Modified-Since") == "Thu, 01 Jan 1970 00:00:00 GMT"
            assert three.all("X-B") == ["1", "2"]
            assert three.one("Content-Length") == "0"
            assert (four.line, four.body) == ("GET / HTTP/1.1", b"abc")
            assert five.line == "PURGE / HTTP/1.1"
            assert six.line == "GET /%C3%BC/%2F?%C3%A9 HTTP/1.1"

    web.run(main())


BAD: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"url": "http://127.0.0.1/\r\nX: y"}, ValueError),
    ({"url": "http://127.0.0.1/a b"}, ValueError),
    ({"url": "http://127.0.0.1\n.evil/"}, ValueError),
    ({"url": "http:///path"}, ValueError),
    ({"url": "http://[::g]/"}, ValueError),
    ({"url": "http://a:b/"}, ValueError),
    ({"url": "ftp://127.0.0.1/"}, ValueError),
    ({"url": "/"}, ValueError),
    ({"method": "GET / HTTP/1.1\r\nX:", "allow_nonstandard_methods": True}, ValueError),
    ({"method": "PURGE"}, KeyError),
    ({"method": "POST"}, ValueError),
    ({"body": b""}, ValueError),
    ({"headers": {"X\r\nY": "z"}}, HTTPInputError),
    ({"headers": {"X": "y\r\nZ: a"}}, HTTPInputError),
    ({"headers": {"X": "y\n"}}, HTTPInputError),
    ({"user_agent": "y\r\nZ: a"}, HTTPInputError),
    ({"user_agent": "ü\u0141"}, HTTPInputError),
    ({"auth_username": "a", "auth_mode": "digest"}, ValueError),
    ({"auth_username": "a:b"}, ValueError),
    ({"proxy_host": "127.0.0.1"}, ValueError),
    ({"proxy_host": "a", "proxy_port": 1, "proxy_username": "u", "proxy_auth_mode": "digest"}, ValueError),
    ({"network_interface": "eth0"}, ValueError),
    ({"url": "https://127.0.0.1/", "ca_certs": "/no/such/file"}, OSError),
    ({"url": "https://127.0.0.1/", "ssl_options": {"no_such": 1}}, ValueError),
    (
        {"method": "POST", "body_producer": lambda write: None, "headers": {"Content-Length": "+1"}},
        ValueError,
    ),
]


@pytest.mark.parametrize(("options", "error"), BAD)
def test_bad_requests_are_refused_before_anything_is_sent(
    web: Web, options: dict[str, Any], error: type[Exception]
) -> None:
    async def main() -> None:
        async with origin(None, OK) as server, client() as http:
            future = http.fetch(**{"request": options.get("url", server.url)} | {
                name: value for name, value in options.items() if name != "url"
            })  # fmt: skip
            with pytest.raises(error):
                await future
            assert server.connections == 0
            assert (await http.fetch(server.url)).code == 200

    web.run(main())


def test_misuse(web: Web) -> None:
    async def main() -> None:
        http = AsyncHTTPClient(force_instance=True)
        with pytest.raises(ValueError, match="exclude each other"):
            HTTPRequest("http://a/", body=b"", body_producer=lambda write: None)
        with pytest.raises(ValueError, match="beside one"):
            http.fetch(HTTPRequest("http://a/"), method="GET")
        with pytest.raises(ValueError, match="unknown default 'colour'"):
            AsyncHTTPClient(force_instance=True, defaults={"colour": 1})
        with pytest.raises(ValueError, match="at least 1"):
            AsyncHTTPClient(force_instance=True, max_clients=0)
        http.close()
        http.close()
        with pytest.raises(RuntimeError, match="closed AsyncHTTPClient"):
            http.fetch("http://a/")

    web.run(main())


def test_errors_of_the_status(web: Web) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 404 Lost\r\nContent-Length: 4\r\n\r\ngone"
        async with origin(None, answer, answer, answer) as server, client() as http:
            with pytest.raises(HTTPError, match="HTTP 404: Lost") as caught:
                await http.fetch(server.url)
            assert caught.value.code == 404
            assert caught.value.response is not None
            assert caught.value.response.body == b"gone"
            response = await http.fetch(server.url, raise_error=False)
            assert response.code == 404
            assert isinstance(response.error, HTTPClientError)
            with pytest.raises(HTTPError):
                response.rethrow()
            assert (await http.fetch(server.url, False)).code == 404  # Tornado 6's second argument
            assert server.connections == 1

    web.run(main())


def test_callback(web: Web) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        async with origin(None, OK, answer, OK, OK) as server, client() as http:
            heard: asyncio.Queue[HTTPResponse] = asyncio.Queue()
            http.fetch(server.url, heard.put_nowait)
            assert (await heard.get()).body == b"ok"
            http.fetch(HTTPRequest(server.url), callback=heard.put_nowait)
            response = await heard.get()
            assert (response.code, str(response.error)) == (500, "HTTP 500: No")
            http.fetch("http://127.0.0.1:1/", callback=heard.put_nowait, raise_error=False)
            response = await heard.get()
            assert response.code == 599
            assert isinstance(response.error, ConnectionRefusedError)
            assert response.body == b""
            assert (await gen.Task(http.fetch, server.url)).body == b"ok"

            raised: asyncio.Queue[BaseException] = asyncio.Queue()

            def handle(kind: Any, error: BaseException, traceback: Any) -> bool:
                raised.put_nowait(error)
                return True

            with ExceptionStackContext(handle):
                http.fetch(server.url, callback=lambda response: 1 // 0)
            assert isinstance(await raised.get(), ZeroDivisionError)

    web.run(main())


def test_the_loops_client(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncHTTPClient, "_configured", (None, {}))

    class Counting(AsyncHTTPClient):
        fetched = 0

        def fetch_impl(self, request: HTTPRequest, callback: Any) -> None:
            self.fetched += 1
            super().fetch_impl(request, callback)

    async def main() -> None:
        AsyncHTTPClient.configure(None, max_clients=3, defaults={"user_agent": "x"})
        http = AsyncHTTPClient()
        assert http is AsyncHTTPClient()
        assert http.max_clients == 3
        assert http is not AsyncHTTPClient(force_instance=True)
        http.close()
        assert http is not AsyncHTTPClient()
        AsyncHTTPClient().close()
        AsyncHTTPClient.configure("tornado.curl_httpclient.CurlAsyncHTTPClient")
        assert AsyncHTTPClient.configured_class() is AsyncHTTPClient
        with pytest.raises(ImportError, match=r"no client 'json\.nothing'"):
            AsyncHTTPClient.configure("json.nothing")
        with pytest.raises(TypeError, match="expected a subclass"):
            AsyncHTTPClient.configure("json.JSONDecoder")
        AsyncHTTPClient.configure(Counting, max_clients=2)
        answer = b"HTTP/1.1 404 Lost\r\nContent-Length: 0\r\n\r\n"
        async with origin(None, OK, answer, answer) as server:
            ours: Any = AsyncHTTPClient()
            assert type(ours) is Counting
            assert (await ours.fetch(server.url)).body == b"ok"
            with pytest.raises(HTTPError, match="404"):
                await ours.fetch(server.url)
            assert (await ours.fetch(server.url, raise_error=False)).code == 404
            with pytest.raises(ValueError, match="url scheme"):
                await ours.fetch("ftp://a/", raise_error=False)
            assert ours.fetched == 4
            ours.close()

    web.run(main())


def test_streaming_body(web: Web) -> None:
    async def main() -> None:
        came = asyncio.Event()

        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await came.wait()
            await peer.send(b"2\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
            await peer.request()
            await peer.send(OK)

        pieces: list[bytes] = []
        lines: list[str] = []

        def streaming(piece: bytes) -> None:
            pieces.append(piece)
            came.set()

        async with origin(serve) as server, client() as http:
            response = await http.fetch(server.url, streaming_callback=streaming, header_callback=lines.append)
            assert pieces == [b"abc", b"de"]
            assert (response.body, response.code) == (b"", 200)
            assert lines == ["HTTP/1.1 200 OK\r\n", "Transfer-Encoding: chunked\r\n", "\r\n"]
            assert (await http.fetch(server.url)).body == b"ok"
            assert server.connections == 1

    web.run(main())


def test_streaming_callback_may_be_a_coroutine_and_holds_up_the_server(web: Web) -> None:
    size = 8_000_000

    async def main() -> None:
        going = asyncio.Event()
        sent = 0

        async def serve(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // 100_000):
                await peer.send(b"x" * 100_000)
                sent += 100_000

        received = 0
        at_work = 0

        async def streaming(piece: bytes) -> None:
            nonlocal received, at_work
            at_work += 1
            assert at_work == 1
            received += len(piece)
            await going.wait()
            at_work -= 1

        async with origin(serve) as server, client() as http:
            future = http.fetch(server.url, streaming_callback=streaming)
            before = -1
            while sent != before or not received:  # until the server is held up
                before = sent
                for _ in range(50):
                    await asyncio.sleep(0)
            assert 0 < received <= 65536
            going.set()
            assert (await future).code == 200
            assert received == size

    web.run(main())


def test_callbacks_run_in_the_contexts_of_the_fetch(web: Web) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def main() -> None:
        async with origin(None, OK, OK) as server, client() as http:
            for each in ("first", "second"):  # on one connection
                name.set(each)
                seen: list[str] = []
                await http.fetch(
                    server.url, method="POST", streaming_callback=lambda piece, seen=seen: seen.append(name.get()),
                    header_callback=lambda line, seen=seen: seen.append(name.get()),
                    body_producer=lambda write, seen=seen: seen.append(name.get()),
                )  # fmt: skip
                assert set(seen) == {each}
            assert server.connections == 1

    web.run(main())


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("kind", ["plain", "native", "gen"])
def test_body_producer(web: Web, kind: str, length: bool) -> None:
    def plain(write: Any) -> None:
        write(b"abc")
        write(b"")
        write(b"de")

    async def native(write: Any) -> None:
        for piece in (b"abc", b"", b"de"):
            await write(piece)
            await asyncio.sleep(0)

    @gen.coroutine
    def old(write: Any) -> Any:
        yield write(b"abc")
        yield write(b"de")

    producers: dict[str, Any] = {"plain": plain, "native": native, "gen": old}

    async def main() -> None:
        async with origin(None, OK, OK) as server, client() as http:
            for _ in range(2):
                headers = {"Content-Length": "5"} if length else {}
                await http.fetch(server.url, method="PUT", body_producer=producers[kind], headers=headers)
            for request in server.requests:
                assert request.body == b"abcde"
                assert request.one("Content-Length") == ("5" if length else None)
            assert server.connections == 1

    web.run(main())


def test_body_producer_waits_for_a_slow_server(web: Web) -> None:
    size = 8_000_000

    async def main() -> None:
        reading = asyncio.Event()
        written = 0

        async def produce(write: Any) -> None:
            nonlocal written
            for _ in range(size // 100_000):
                await write(b"x" * 100_000)
                written += 100_000

        async def serve(peer: Peer) -> None:
            head = await peer.head()
            await reading.wait()
            await peer.reader.readexactly(int(head.one("Content-Length") or 0))
            await peer.send(OK)

        async with origin(serve) as server, client() as http:
            headers = {"Content-Length": str(size)}
            future = http.fetch(server.url, method="POST", body_producer=produce, headers=headers)
            before = -1
            while written != before or not written:
                before = written
                for _ in range(50):
                    await asyncio.sleep(0)
            assert written < size
            reading.set()
            assert (await future).body == b"ok"
            assert written == size

    web.run(main())


@pytest.mark.parametrize("produced", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_expect_100_continue(web: Web, produced: bool, wanted: bool) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            head = await peer.head()
            assert head.one("Expect") == "100-continue"
            if wanted:
                await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
                bodies.append(await peer.reader.readexactly(4))
                await peer.send(OK)
                await peer.request()
                await peer.send(OK)
            else:
                await peer.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
                bodies.append(await peer.reader.read())

        bodies: list[bytes] = []
        options: dict[str, Any] = {"body": b"body"}
        if produced:
            options = {"body_producer": lambda write: write(b"body"), "headers": {"Content-Length": "4"}}
        async with origin(serve) as server, client() as http:
            response = await http.fetch(
                server.url, method="POST", expect_100_continue=True, raise_error=False, **options
            )  # fmt: skip
            assert response.code == (200 if wanted else 417)
            assert "Link" not in response.headers
            if wanted:
                await http.fetch(server.url)
                assert server.connections == 1
            else:
                while not bodies:
                    await asyncio.sleep(0)
            assert bodies == [b"body" if wanted else b""]

    web.run(main())


def test_compressed(web: Web) -> None:
    text = b"hello " * 10_000
    codings = {
        "gzip": gzip.compress(text), "br": import_module("brotli").compress(text),
        "zstd": import_module("zstandard").ZstdCompressor().compress(text),
        "identity": text, "gzip, br": b"as it is",
    }  # fmt: skip

    async def main() -> None:
        for coding, data in codings.items():
            answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (
                coding.encode(), len(data), data,
            )  # fmt: skip
            async with origin(None, answer, answer, answer) as server, client() as http:
                response = await http.fetch(server.url)
                undone = coding in ("gzip", "br", "zstd")
                assert response.body == (text if undone else data)
                assert ("Content-Encoding" in response.headers) is not undone
                assert response.headers.get("X-Consumed-Content-Encoding") == (coding if undone else None)
                pieces: list[bytes] = []
                await http.fetch(server.url, streaming_callback=pieces.append)
                assert b"".join(pieces) == response.body
                response = await http.fetch(server.url, use_gzip=False)
                assert response.body == data
                assert server.connections == 1

    web.run(main())


def test_bodies_by_framing(web: Web) -> None:
    async def main() -> None:
        answers = {
            b"HTTP/1.1 200 OK\r\n\r\nuntil the end": b"until the end",
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end": b"until the end",
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n": b"",
            b"HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n": b"",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx": b"x",
        }
        for answer, body in answers.items():
            async with origin(None, answer) as server, client() as http:
                assert (await http.fetch(server.url)).body == body

    web.run(main())


def test_source_address_and_family(web: Web) -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def serve(peer: Peer) -> None:
            seen.append(peer.writer.get_extra_info("peername")[0])
            await peer.request()
            await peer.send(OK)

        async with origin(serve) as server, client(hostname_mapping={"some.test": "127.0.0.1"}) as http:
            await http.fetch(server.url, network_interface="127.0.0.2")
            assert seen == ["127.0.0.2"]
            await http.fetch(f"http://some.test:{server.port}/", allow_ipv6=False)
            assert len(seen) == 2

    web.run(main())


def test_blocking_client(web: Web) -> None:
    with pytest.raises(ValueError, match="max_clients"):
        HTTPClient(max_clients=0)
    http = HTTPClient()
    with pytest.raises(ConnectionRefusedError):
        http.fetch("http://127.0.0.1:1/")
    http.close()
    http.close()
    assert IOLoop.current() is web.loop


def test_blocking_client_and_command(web: Web) -> None:
    """Each in a process of its own, as there is a loop at work here."""
    script = (
        "import sys; from pollux_http import HTTPClient; c = HTTPClient(); print(c.fetch(sys.argv[1]).body); c.close()"
    )

    async def output(*arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        return out

    async def main() -> None:
        async with origin(None, OK) as server:
            assert await output("-c", script, server.url) == b"b'ok'\n"
            assert await output("-m", "pollux_http.httpclient", server.url) == b"ok"
            shown = await output("-m", "pollux_http.httpclient", "--print_headers", "--no-print_body", server.url)
            assert shown == b"Content-Length: 2\n\n"

    web.run(main())
