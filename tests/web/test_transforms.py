"""Compressed responses: who gets which, that they say the same, whole and in parts; and transforms of one's own."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import brotli  # type: ignore[import-untyped, unused-ignore]
import pytest
import tornado.web
import zstandard

import pollux_web
from pollux_web import Application, ContentEncoding, GZipContentEncoding, OutputTransform, RequestHandler, transforms
from pollux_web.accept import accepted, best
from tests.web.client import Answer, Web, get
from tests.web.oracle import ask_all, tornado_server

TEXT = "some text that is repeated, " * 100
CODINGS = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


def pages(web: Any) -> list[Any]:
    """Return handlers, written once for both frameworks."""

    class Page(web.RequestHandler):  # type: ignore[misc]
        def get(self, kind: str) -> None:
            if kind == "json":
                self.write({"text": TEXT})
                return
            types = {"png": "image/png", "svg": "image/svg+xml", "css": "text/css; charset=utf-8"}
            self.set_header("Content-Type", types.get(kind, "text/html; charset=UTF-8"))
            if kind == "vary":
                self.set_header("Vary", "Cookie")
            if kind == "encoded":
                self.set_header("Content-Encoding", "own")
            if kind == "none":
                self.set_status(204)
                return
            if kind == "error":
                raise web.HTTPError(500)
            self.write("short" if kind == "short" else TEXT)

        head = get

    class Parts(web.RequestHandler):  # type: ignore[misc]
        async def get(self) -> None:
            for _ in range(3):
                self.write(TEXT)
                await self.flush()

    return [("/parts", Parts), ("/(.*)", Page)]


def served(web: Web, *requests: bytes, **settings: Any) -> list[Answer]:
    server = web.serve(Application(pages(pollux_web), **(settings or {"compress_response": True})))
    return web.run(ask_all(web, server.sockets[0].getsockname(), list(requests)))


def opened(answer: Answer) -> tuple[int, str | None, bytes]:
    """Return status, coding and the body as it was."""
    coding = answer.one("Content-Encoding")
    body = CODINGS[coding](answer.body) if coding in CODINGS and answer.body else answer.body
    return answer.status, coding, body


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("deflate", None),
        ("GZIP", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("identity", None),
        ("gzip;q=0.1, identity;q=0.5", None),
        ("gzip;q=junk", None),
        ("x-gzip", None),
        ("zstd;q=0, *", "br"),
        (",,;q=1,", None),
    ],
)
def test_what_the_client_likes_best(web: Web, accept: str | None, coding: str | None) -> None:
    lines = [] if accept is None else [f"Accept-Encoding: {accept}"]
    (answer,) = served(web, get("/text", *lines))
    assert opened(answer) == (200, coding, TEXT.encode())
    assert answer.one("Vary") == "Accept-Encoding"
    assert answer.one("Content-Length") == str(len(answer.body))
    assert (len(answer.body) < 500) is (coding is not None)
    assert (answer.one("Etag") or "").startswith("W/" if coding else '"')


@pytest.mark.parametrize("coding", CODINGS)
def test_a_tag_of_a_compressed_page_is_known_again(web: Web, coding: str) -> None:
    accept = f"Accept-Encoding: {coding}"
    (first,) = served(web, get("/text", accept))
    (again,) = served(web, get("/text", accept, f"If-None-Match: {first.one('Etag')}"))
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("coding", CODINGS)
def test_each_part_can_be_read_when_it_comes(web: Web, coding: str) -> None:
    go_on = asyncio.Event()

    class Parts(RequestHandler):
        async def get(self) -> None:
            self.write("first " * 300)
            await self.flush()
            await go_on.wait()
            self.write("second")

    server = web.serve(Application([("/", Parts)], compress_response=True))
    decoders: dict[str, Any] = {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
    }

    async def main() -> bytes:
        client = await web.connect(server)
        await client.send(get("/", f"Accept-Encoding: {coding}"))
        while await client._line():
            pass
        decode = decoders[coding]()
        text = b""
        while len(text) < 1800:
            text += decode(await client.exactly(int(await client._line(), 16)))
            await client._line()
        go_on.set()
        while size := int(await client._line(), 16):
            text += decode(await client.exactly(size))
            await client._line()
        return text

    assert web.run(main()) == b"first " * 300 + b"second"


KINDS = ["text", "json", "png", "svg", "css", "short", "vary", "encoded", "none", "error"]


@pytest.fixture(scope="module")
def oracle() -> Any:
    with tornado_server(pages(tornado.web), compress_response=True) as address:
        yield address


@pytest.mark.parametrize("accept", ["Accept-Encoding: gzip", "X: y"])
def test_gzip_is_tornados(web: Web, oracle: Any, accept: str, caplog: pytest.LogCaptureFixture) -> None:
    requests = [get(f"/{kind}", accept, method=method) for kind in KINDS for method in ("GET", "HEAD")]
    requests.append(get("/parts", accept))
    ours = served(web, *requests)
    theirs = web.run(ask_all(web, oracle, requests))
    for request, mine, other in zip(requests, ours, theirs, strict=True):
        names = ("Vary", "Content-Encoding", "Content-Type", "Transfer-Encoding")
        assert opened(mine) == opened(other), request
        assert [mine.one(name) for name in names] == [other.one(name) for name in names], request


def test_the_old_names(web: Web) -> None:
    accept = "Accept-Encoding: br, gzip, zstd"
    assert served(web, get("/text", accept), transforms=[GZipContentEncoding])[0].one("Content-Encoding") == "gzip"
    assert served(web, get("/text", accept), gzip=True)[0].one("Content-Encoding") == "zstd"
    assert served(web, get("/text", accept), compress_response=False)[0].one("Content-Encoding") is None


def test_a_coding_whose_package_is_missing_is_not_offered(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(transforms, "import_module", missing)
    transforms._available.cache_clear()
    try:
        assert served(web, get("/text", "Accept-Encoding: zstd, br, gzip"))[0].one("Content-Encoding") == "gzip"
    finally:
        transforms._available.cache_clear()


def test_a_transform_of_ones_own(web: Web) -> None:
    class Upper(OutputTransform):
        def transform_first_chunk(self, status_code: int, headers: Any, chunk: bytes, finishing: bool) -> Any:
            headers["X-Finishing"] = str(finishing)
            return 203 if status_code == 200 else status_code, headers, self.transform_chunk(chunk, finishing)

        def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
            return chunk.upper()

    application = Application(pages(pollux_web))
    application.add_transform(Upper)
    server = web.serve(application)
    whole, parts = web.run(ask_all(web, server.sockets[0].getsockname(), [get("/short"), get("/parts")]))
    assert (whole.status, whole.body, whole.one("X-Finishing")) == (203, b"SHORT", "True")
    assert (parts.status, parts.body, parts.one("X-Finishing")) == (203, TEXT.upper().encode() * 3, "False")


def test_lists_with_weights() -> None:
    assert accepted("a;q=0.5, B, c;q=x, d; Q=0.7,,;q=1") == (("b", 1.0), ("d", 0.7), ("a", 0.5), ("c", 0.0))
    assert len(accepted("a," * 100_000)) == 64
    offers = ("text/html", "application/json")
    assert best("application/json", offers, "-") == "application/json"
    assert best("*/*", offers, "-") == "text/html"
    assert best("text/*;q=0.5, application/json;q=0.6", offers, "-") == "application/json"
    assert best("image/png", offers, "-") == "-"
    assert issubclass(GZipContentEncoding, ContentEncoding)
