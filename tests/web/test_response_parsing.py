"""`ResponseParser` and `Decoder`, without sockets: each case whole and byte by byte."""

from __future__ import annotations

import gzip
import zlib
from importlib import import_module
from typing import Any

import pytest

from pollux_http.decoding import Decoder, accepted
from pollux_http.errors import HTTPInputError
from pollux_http.response_parsing import ResponseParser, parse_head

LIMIT = 64 * 1024
WAYS = pytest.mark.parametrize("step", [1, 7, 1 << 20])


def parsed(data: bytes, step: int, method: str = "GET", head: int = LIMIT, body: int = LIMIT) -> tuple[Any, bytes]:
    """Feed `data` in pieces of `step` bytes, up to the response's end; return the parser and the body."""
    parser = ResponseParser(method, head, body)
    pieces: list[bytes] = []
    for start in range(0, len(data), step):
        pieces += parser.feed(data[start : start + step])
    return parser, b"".join(pieces)


COMPLETE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 \xe9\r\nX: \xff\t a\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n", b"abc", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
    (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", b"x", True),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", b"", False),
    (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"", False),
]  # fmt: skip


@WAYS
@pytest.mark.parametrize(("data", "body", "reusable"), COMPLETE)
def test_complete(data: bytes, body: bytes, reusable: bool, step: int) -> None:
    parser, found = parsed(data, step)
    assert parser.done
    assert (found, parser.reusable) == (body, reusable)
    assert parser.received == len(body)
    parser.end()


@WAYS
@pytest.mark.parametrize(("data", "body", "reusable"), COMPLETE)
def test_whatever_comes_behind_a_response_spoils_the_connection(
    data: bytes, body: bytes, reusable: bool, step: int
) -> None:
    parser, found = parsed(data + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", step)
    assert (found, parser.done, parser.surplus, parser.reusable) == (body, True, True, False)


@WAYS
def test_head_has_no_body(step: int) -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"):
        parser, body = parsed(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing, step, "HEAD")
        assert (parser.done, parser.reusable, body) == (True, True, b"")


@WAYS
def test_until_the_end(step: int) -> None:
    parser, body = parsed(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nabc", step)
    assert (parser.done, body) == (False, b"abc")
    parser.end()
    assert (parser.done, parser.reusable) == (True, False)


MALFORMED = [
    b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: \xc2\xb2\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked123\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\nb\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nA : b\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n: b\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\nabc",
    b"HTTP/1.1 200 O\x00K\r\n\r\nabc",
    b"HTTP/1.1 200 O\x1bK\r\n\r\nabc",
    b"HTTP/2.0 200 OK\r\n\r\nabc",
    b"HTTP/1.2 200 OK\r\n\r\nabc",
    b"HTTP/1.1 99 OK\r\n\r\nabc",
    b"HTTP/1.1 2000 OK\r\n\r\nabc",
    b"HTTP/1.1 20a OK\r\n\r\nabc",
    b"http/1.1 200 OK\r\n\r\nabc",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
]  # fmt: skip


@WAYS
@pytest.mark.parametrize("data", MALFORMED)
def test_malformed(data: bytes, step: int) -> None:
    with pytest.raises(HTTPInputError):
        parsed(data, step)


@WAYS
def test_limits(step: int) -> None:
    parsed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100, step, body=100)
    too_much = [
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1000, "head above 1000"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "head above 1000"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", "of 101 bytes, above 100"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101, "above 100"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101, "above 100"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2000, "line before a chunk, above 1000"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 2000, "trailers"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"b" * 2000, "trailers"),
    ]
    for data, words in too_much:
        with pytest.raises(HTTPInputError, match=words):
            parsed(data, step, head=1000, body=100)


@WAYS
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "before the response"),
        (b"HTTP/1.1 200 OK\r\n", "within the response head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "within the response head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "3 of 5 bytes before"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "within the chunked"),
    ],
)
def test_early_end(data: bytes, words: str, step: int) -> None:
    parser, _ = parsed(data, step)
    with pytest.raises(HTTPInputError, match=words):
        parser.end()


def test_remembered_heads_are_equal_to_parsed_ones() -> None:
    short = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\n\r\n"
    long = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\nC: " + b"d" * 4000 + b"\r\n\r\n"
    assert parse_head(short) == parse_head(bytes(bytearray(short)))
    assert parse_head(short).fields == parse_head(long).fields[:2]


# Content codings

TEXT = b"hello, world " * 3000
BROTLI, ZSTD = import_module("brotli"), import_module("zstandard")
_raw = zlib.compressobj(9, zlib.DEFLATED, -15)
CODED: list[tuple[bytes, bytes]] = [
    (b"gzip", gzip.compress(TEXT, mtime=0)),
    (b"X-Gzip", gzip.compress(TEXT[:99], mtime=0) + gzip.compress(TEXT[99:], mtime=0)),
    (b"deflate", zlib.compress(TEXT)),
    (b"deflate", _raw.compress(TEXT) + _raw.flush()),
    (b"br", BROTLI.compress(TEXT)),
    (b"zstd", ZSTD.ZstdCompressor().compress(TEXT)),
    (b"ZSTD", ZSTD.ZstdCompressor().compress(TEXT[:99]) + ZSTD.ZstdCompressor().compress(TEXT[99:])),
]


@WAYS
@pytest.mark.parametrize(("coding", "data"), CODED)
def test_decoding(coding: bytes, data: bytes, step: int) -> None:
    assert Decoder.decodes(coding)
    decoder = Decoder(coding, len(TEXT))
    found = b"".join(
        piece for start in range(0, len(data), step) for piece in decoder.decode(data[start : start + step])
    )
    assert found == TEXT
    assert decoder.done
    with pytest.raises(HTTPInputError, match=f"above {len(TEXT) - 1} bytes when decompressed"):
        list(Decoder(coding, len(TEXT) - 1).decode(data))
    cut = Decoder(coding, len(TEXT))
    list(cut.decode(data[:-1]))
    assert not cut.done


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"zstd"])
def test_what_is_not_coded_as_was_said(coding: bytes) -> None:
    with pytest.raises(HTTPInputError, match=f"not {coding.decode()}, as Content-Encoding says"):
        list(Decoder(coding, 1000).decode(b"\xff plain text, not compressed at all"))


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd"])
def test_bombs_come_in_pieces_and_end_at_the_limit(coding: bytes) -> None:
    size = 256 * 1024 * 1024
    blank = bytes(1024 * 1024)
    compressors: dict[bytes, Any] = {
        b"gzip": zlib.compressobj(9, zlib.DEFLATED, 31),
        b"br": BROTLI.Compressor(quality=5),
        b"zstd": ZSTD.ZstdCompressor(level=3).compressobj(),
    }
    compressor = compressors[coding]
    compress, end = ("process", "finish") if coding == b"br" else ("compress", "flush")
    data = b"".join(getattr(compressor, compress)(blank) for _ in range(size // len(blank)))
    data += getattr(compressor, end)()
    assert len(data) < size // 500
    limit = 20 * 1024 * 1024
    decoder = Decoder(coding, limit)
    came = 0
    with pytest.raises(HTTPInputError, match="when decompressed"):
        for piece in decoder.decode(data):
            assert len(piece) < 8 * 1024 * 1024
            came += len(piece)
    assert 0 < came <= limit


def test_zstd_windows_are_bounded() -> None:
    parameters = ZSTD.ZstdCompressionParameters.from_level(3, window_log=27)
    compressor = ZSTD.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x") + compressor.flush()
    with pytest.raises(HTTPInputError, match="not zstd"):
        list(Decoder(b"zstd", 1 << 20).decode(data))


def test_codings_that_are_asked_for_can_be_undone() -> None:
    assert all(Decoder.decodes(coding.strip().encode()) for coding in accepted().split(","))
    assert not Decoder.decodes(b"compress")
    assert not Decoder.decodes(b"gzip, br")
