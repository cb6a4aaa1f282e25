"""The parser alone: each case whole, byte by byte and in pieces. It knows no sockets, so neither do these tests."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pollux_http import HTTPInputError, HTTPServerRequest
from pollux_http.parsing import UNCOUNTED, HeadParser, Limits, RequestParser

Told = tuple[list[tuple[object, ...]], int | None]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def facts(request: HTTPServerRequest) -> tuple[object, ...]:
    return (
        request.method, request.uri, request.fields, request.raw_host, request.body,
        request.http11, request.keep_alive, request.plain,
    )  # fmt: skip


def feed(pieces: list[bytes], limits: Limits | None = None) -> Told:
    """Return what the parser makes of `pieces`: the requests, and the status of its error."""
    parser = RequestParser(limits or Limits())
    status = None
    for piece in pieces:
        try:
            while piece:  # an offer to upgrade is never taken up here: what follows is HTTP
                parser.feed(piece)
                piece, parser.rest = parser.rest, b""
        except HTTPInputError as error:
            status = error.status
            break
    return [facts(request) for request in parser.requests], status


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def every_way(data: bytes, limits: Limits | None = None) -> Told:
    """Feed whole, byte by byte and cut in two at every place; return what is the same in all."""
    whole = feed([data], limits)
    assert feed([bytes([byte]) for byte in data], limits) == whole
    for cut in range(1, len(data)):
        assert feed([data[:cut], data[cut:]], limits) == whole, f"cut at {cut}"
    return whole


GOOD = {
    "shortest": (GET + b"\r\n", b"", ()),
    "empty value": (GET + b"X:\r\n\r\n", b"", ((b"X", b""),)),
    "white space around a value": (GET + b"X:\t a b\t \r\n\r\n", b"", ((b"X", b"a b"),)),
    "ISO-8859-1 in a value stays what it is": (GET + b"X: a\x85\xa0b\xe9\r\n\r\n", b"", ((b"X", b"a\x85\xa0b\xe9"),)),
    "no colon splitting in a value": (GET + b"X: a:b: c\r\n\r\n", b"", ((b"X", b"a:b: c"),)),
    "same name twice": (GET + b"X: a\r\nx: b\r\n\r\n", b"", ((b"X", b"a"), (b"x", b"b"))),
    "length 0": (GET + b"Content-Length: 0\r\n\r\n", b"", ((b"Content-Length", b"0"),)),
    "leading zeros": (GET + b"Content-Length: 003\r\n\r\nabc", b"abc", ((b"Content-Length", b"003"),)),
    "body": (GET + b"Content-Length: 5\r\n\r\n\r\n\r\nx", b"\r\n\r\nx", ((b"Content-Length", b"5"),)),
    "chunks": (CHUNKED + b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", None),
    "chunk extensions": (CHUNKED + b'1;a=b;c="d"\r\na\r\n0\r\n\r\n', b"a", None),
    "trailers are dropped": (CHUNKED + b"1\r\na\r\n0\r\nHost: evil\r\nX: y\r\n\r\n", b"a", None),
    "coding in any case": (CHUNKED.replace(b"chunked", b"CHUNKED") + b"1\r\na\r\n0\r\n\r\n", b"a", None),
    "empty lines before": (b"\r\n\r\n" + GET + b"\r\n", b"", ()),
    "keep-alive said": (GET + b"Connection: keep-alive\r\n\r\n", b"", ((b"Connection", b"keep-alive"),)),
}


@pytest.mark.parametrize(("data", "body", "fields"), GOOD.values(), ids=list(GOOD))
def test_good(data: bytes, body: bytes, fields: tuple[tuple[bytes, bytes], ...] | None) -> None:
    requests, status = every_way(data)
    assert status is None
    assert len(requests) == 1
    found = requests[0]
    assert found[1] == "/"
    assert found[3] == b"a"
    assert found[4] == body
    assert found[5:7] == (True, True)
    if fields is not None:
        assert found[2] == ((b"host", b"a"), *((name.lower(), value) for name, value in fields))


@pytest.mark.parametrize(("data", "body", "fields"), GOOD.values(), ids=list(GOOD))
def test_idle_after_a_request_and_not_within_one(data: bytes, body: bytes, fields: object) -> None:
    """A connection that is taken for busy is cut at the header deadline instead of the idle one."""
    parser = RequestParser(Limits())
    assert parser.idle
    begun = len(data) - len(data.lstrip(b"\r\n"))
    for place in range(len(data)):
        parser.feed(data[place : place + 1])
        assert parser.idle is (place < begun or place == len(data) - 1), f"after byte {place}"
    parser.feed(data)
    assert parser.idle
    parser.feed(data + data[:10] if begun == 0 else data + b"\r\n\r\nGET ")
    assert not parser.idle


TARGETS = [
    ("/", b"a", "/"),
    ("/a?b=c&d", b"a", "/a?b=c&d"),
    ("//evil/path", b"a", "//evil/path"),
    ("/%2e%2e/", b"a", "/%2e%2e/"),
    ("*", b"a", "*"),
    ("http://b/c?d", b"b", "/c?d"),
    ("HTTP://b:80", b"b:80", "/"),
    ("https://[::1]:1?x", b"[::1]:1", "/?x"),
]


@pytest.mark.parametrize(("target", "host", "uri"), TARGETS)
def test_request_target(target: str, host: bytes, uri: str) -> None:
    """RFC 9112 3.2: of an absolute form, authority wins over Host."""
    method = "OPTIONS" if target == "*" else "GET"
    requests, status = every_way(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert status is None
    assert (requests[0][1], requests[0][3]) == (uri, host)


def test_the_scheme_of_the_target_is_not_believed() -> None:
    """Absolute-form target that spoofs scheme or host."""
    parser = RequestParser(Limits())
    parser.feed(b"GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert parser.requests[0].protocol == "http"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", "", True), ("1.1", "close", False), ("1.1", "x, Close", False), ("1.1", "keep-alive", True),
        ("1.0", "", False), ("1.0", "keep-alive", True), ("1.0", "close", False), ("1.1", "notclose", True),
    ],
)  # fmt: skip
def test_keep_alive(version: str, connection: str, kept: bool) -> None:
    lines = f"Connection: {connection}\r\n" if connection else ""
    requests, status = every_way(f"GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n".encode())
    assert status is None
    assert requests[0][5:7] == (version == "1.1", kept)


def test_http_1_0_needs_no_host() -> None:
    assert feed([b"GET / HTTP/1.0\r\n\r\n"])[0][0][3] == b""


def test_pipelined() -> None:
    data = (
        GET + b"\r\n" + CHUNKED + b"1\r\na\r\n0\r\n\r\n" + GET.replace(b"/ ", b"/3 ", 1) + b"Content-Length: 1\r\n\r\nb"
    )
    requests, status = every_way(data)
    assert status is None
    assert [(request[1], request[4]) for request in requests] == [("/", b""), ("/", b"a"), ("/3", b"b")]


def test_upgrade_is_not_taken_up_and_what_follows_is_http() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    requests, status = every_way(GET + upgrade + GET + b"X: y\r\n\r\n" + GET + upgrade)
    assert status is None
    assert len(requests) == 3
    assert requests[1][2] == ((b"host", b"a"), (b"x", b"y"))
    assert all(request[6] for request in requests)


def test_notupgrade_is_no_upgrade() -> None:
    """`notupgrade` matched as `upgrade`, with a body that is then lost."""
    data = GET + b"Connection: notupgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nab"
    requests, status = every_way(data)
    assert (len(requests), requests[0][4], status) == (1, b"ab", None)


# Limits


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_the_limit_on_the_head_is_exact_in_any_pieces(excess: int) -> None:
    """What counts is the target and the field lines with their line ends."""
    limit = 300
    line = b"X: " + b"y" * (limit - len(b"/") - len(b"Host: a\r\n") - len(b"X: \r\n") + excess) + b"\r\n"
    requests, status = every_way(GET + line + b"\r\n", Limits(header_size=limit))
    assert (len(requests), status) == ((1, None) if excess <= 0 else (0, 431))


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_on_the_body_is_exact(excess: int) -> None:
    limits = Limits(body_size=40)
    body = b"z" * (40 + excess)
    expected = (1, None) if not excess else (0, 413)
    requests, status = every_way(GET + b"Content-Length: %d\r\n\r\n" % len(body) + body, limits)
    assert (len(requests), status) == expected
    requests, status = every_way(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), limits)
    assert (len(requests), status) == expected
    one_by_one = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    requests, status = feed([CHUNKED + one_by_one + b"0\r\n\r\n"], limits)
    assert (len(requests), status) == expected


def test_a_body_that_is_too_large_is_refused_by_its_head() -> None:
    assert feed([GET + b"Content-Length: 41\r\n\r\n"], Limits(body_size=40)) == ([], 413)


UNFINISHED = {
    "target": (b"GET /", b"a", 414),
    "name": (GET, b"a", 431),
    "value": (GET + b"X: ", b"a", 431),
    "white space before a value": (GET + b"X:", b" ", 431),
    "many fields": (GET, b"X: y\r\n", 431),
    "many empty fields": (GET, b"X:\r\n", 431),
    "trailer name": (CHUNKED + b"0\r\n", b"a", 431),
    "trailer value": (CHUNKED + b"0\r\nX: ", b"a", 431),
    "many trailers": (CHUNKED + b"0\r\n", b"X: y\r\n", 431),
    "chunk extension": (CHUNKED + b"1;", b"a", 431),
    "chunk size": (CHUNKED, b"0", 431),
    "empty lines": (b"", b"\r\n", 431),
}


@pytest.mark.parametrize("piece_size", [1, 7, 4096])
@pytest.mark.parametrize(("start", "more", "expected"), UNFINISHED.values(), ids=list(UNFINISHED))
def test_limits_hold_across_reads(start: bytes, more: bytes, expected: int, piece_size: int) -> None:
    """Line limits must hold across reads. Of what never ends, no more is taken than the limit and the last piece."""
    limits = Limits(header_size=500)
    parser = RequestParser(limits)
    parser.feed(start)
    most = limits.header_size + UNCOUNTED + 2 * piece_size + 4 * len(more)
    fed = 0
    stream = more * (10_000 // len(more))
    with pytest.raises(HTTPInputError) as refused:
        while fed <= most:
            parser.feed(stream[fed : fed + piece_size])
            fed += piece_size
    assert refused.value.status in (expected, 431)


@pytest.mark.parametrize("size", [1, 2, 999, 65536, 300_000])
@pytest.mark.parametrize("piece", [1, 997, 65536])
def test_large_bodies_are_what_was_sent(size: int, piece: int) -> None:
    """Room for more than has come is made on the way."""
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    parser = RequestParser(Limits())
    for _ in range(2):
        data = POST % size + body
        for start in range(0, len(data), max(piece, size // 3000)):
            parser.feed(data[start : start + max(piece, size // 3000)])
        assert parser.requests.popleft().body == body
    chunks = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:]) if part)
    (request,), status = feed([chunks + b"0\r\n\r\n"])
    assert (request[4], status) == (body, None)


def test_an_announced_length_takes_no_memory() -> None:
    """A client may announce as much as it is allowed to, and send nothing."""
    gc.collect()
    tracemalloc.start()
    try:
        parsers = [RequestParser(Limits()) for _ in range(20)]
        for parser in parsers:
            parser.feed(POST % (100 << 20) + b"x" * 1000)
            parser.feed(b"x" * 1000)
        assert tracemalloc.get_traced_memory()[1] < 20 * 50_000
    finally:
        tracemalloc.stop()


def test_many_tiny_chunks() -> None:
    """Many tiny chunks: they are one body, and none is kept apart."""
    count = 50_000
    (request,), status = feed([CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n"])
    assert status is None
    assert request[4] == b"x" * count


# Expect


def test_continue_is_wanted_once_and_only_before_the_body() -> None:
    parser = RequestParser(Limits())
    parser.feed(GET + b"Content-Length: 2\r\nExpect: 100-Continue\r\n")
    assert not parser.take_continue()
    parser.feed(b"\r\n")
    assert parser.take_continue()
    assert not parser.take_continue()
    parser.feed(b"ab")
    assert parser.requests[0].body == b"ab"
    parser.feed(GET + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\na")
    assert not parser.take_continue()


def test_an_http_1_0_client_gets_no_continue() -> None:
    """RFC 9110 10.1.1."""
    parser = RequestParser(Limits())
    parser.feed(b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert not parser.take_continue()


# The common case, against the parser that does everything

names = st.sampled_from(["X", "x-y", "Accept", "Cookie", "Connection", "Content-Length", "Host", "Expect", "Upgrade",
                         "Transfer-Encoding", "content-length ", "", "X\x00", "É"])  # fmt: skip
values = st.one_of(
    st.sampled_from(["keep-alive", "close", "0", "5", "+0", "chunked", "100-continue", "upgrade", "a", "b, c", "", "\t",
                     " x ", "\x0b", "a\x1fb", "a\x85b", "\r\nX: y", "\n", "\r", "a\r\n\r\nGET / HTTP/1.1"]),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=8),
)  # fmt: skip
lines = st.lists(st.tuples(names, st.sampled_from([": ", ":", ":\t", " : "]), values), max_size=5)
heads = st.builds(
    lambda method, target, version, host, rest: (
        f"{method} {target} {version}\r\n{host}".encode("latin-1")
        + "".join(f"{name}{colon}{value}\r\n" for name, colon, value in rest).encode("latin-1")
        + b"\r\n"
    ),
    st.sampled_from(["GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PRI", "QUERY", "get", "", "\r\nGET"]),
    st.one_of(
        st.sampled_from(["/", "/a?b#c", "*", "http://b/", "a:1", "", "/é", "/\x00", "/ x"]), st.text(max_size=5)
    ).map(lambda text: text.encode("latin-1", "replace").decode("latin-1")),
    st.sampled_from(
        [
            "HTTP/1.1",
            "HTTP/1.1",
            "HTTP/1.1",
            "HTTP/1.1\r\n",
            "HTTP/1.0",
            "HTTP/2.0",
            "RTSP/1.0",
            " HTTP/1.1",
            "HTTP/1.1 ",
        ]
    ),
    st.sampled_from(["Host: a\r\n", "Host: a\r\n", "Host:a:1\r\n", "", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"]),
    lines,
)


@given(data=st.one_of(heads, st.lists(heads, min_size=2, max_size=2).map(b"".join)))
@example(data=b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
@settings(max_examples=300, deadline=None, database=None)
def test_both_parsers_agree(data: bytes) -> None:
    """What the short way accepts, the long way accepts, and both find the same in it."""
    request = HeadParser(Limits()).parse(data)
    if request is not None:
        assert feed([data]) == ([facts(request)], None)


@pytest.mark.parametrize("data", [GET + b"\r\n", GET + b"X: y\r\nCookie: a=b; c=d\r\n\r\n", GET + b"X:\r\n\r\n"])
def test_the_short_way_takes_what_is_common(data: bytes) -> None:
    request = HeadParser(Limits()).parse(data)
    assert request is not None
    assert feed([data]) == ([facts(request)], None)


@given(
    garbage=st.lists(
        st.one_of(st.binary(max_size=60), heads, heads.flatmap(lambda d: st.integers(0, len(d)).map(lambda n: d[:n]))),
        max_size=4,
    )
)
@settings(max_examples=300, deadline=None, database=None)
def test_nothing_is_left_of_one_call_in_the_next(garbage: list[bytes]) -> None:
    """One parser serves all connections of a server: what one client sends must not become part of another's."""
    parser = HeadParser(Limits())
    good = b"GET /mine HTTP/1.1\r\nHost: a\r\nCookie: mine\r\n\r\n"
    before = parser.parse(good)
    assert before is not None
    for data in garbage:
        parser.parse(data)
    after = parser.parse(good)
    assert after is not None
    assert facts(after) == facts(before)
    assert after is not before


@given(data=st.lists(heads, max_size=3).map(b"".join), cuts=st.lists(st.integers(0, 2000), max_size=8))
@settings(max_examples=300, deadline=None, database=None)
def test_pieces_make_no_difference(data: bytes, cuts: list[int]) -> None:
    assert feed(split(data, cuts)) == feed([data])
