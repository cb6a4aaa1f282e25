"""What is no request gets an error or a close, in any pieces, and what stands behind it is never served.

Each is named for its class of fault: request smuggling lives from two readers of one stream who disagree.
"""

from __future__ import annotations

import pytest

from pollux_http import HTTPInputError, HTTPServerRequest
from pollux_http.parsing import Limits, RequestParser
from pollux_http.request import Fields
from tests.web.client import Web

H = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = H + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def length(value: bytes) -> bytes:
    return H + b"Content-Length:" + value + b"\r\n\r\n"


def coding(value: bytes) -> bytes:
    return H + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"


def host(lines: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + lines + b"\r\n"


MALFORMED: dict[str, tuple[int, bytes]] = {
    # 1
    **{f"length {value!r}": (400, length(value)) for value in (
        b" +5", b" -5", b" 5_0", b" 0x5", b" 5a", b" a5", b" 5 5", b" 5,5", b" 5, 5", b" ", b"", b" 5.0", b" 1e1",
        b" \xb2", "\u0665".encode(), b" 99999999999999999999999", b" 5;", b" \x0b5", b" 5\x00",
    )},
    **{f"chunk size {value!r}": (400, CHUNKED + value + b"\r\nabcde\r\n0\r\n\r\n") for value in (
        b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5_0", b"", b"g", b"\t5", b"5\x00", b"fffffffffffffffff", b"\xb2",
    )},
    # 2
    "length and coding": (400, H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding and length": (400, H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "coding and length 0": (400, H + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
    # 3
    "different lengths": (400, H + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
    # 2 and 4
    **{f"coding {value!r}": (0, coding(value)) for value in (
        b"chunked123", b"xchunked", b"chunked, chunked", b"identity", b"gzip, chunked", b"chunked, gzip",
        b"chunked\r\nTransfer-Encoding: chunked", b"gzip", b"", b"\x0bchunked", b"chunked\x00", b"\"chunked\"",
        b"chunked;a",
    )},
    "coding in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # 5
    "chunk longer than its size": (400, CHUNKED + b"2\r\nabcde\r\n0\r\n\r\n"),
    "chunk data without CRLF": (400, CHUNKED + b"5\r\nabcdeXX0\r\n\r\n"),
    "LF after chunk data": (400, CHUNKED + b"5\r\nabcde\n0\r\n\r\n"),
    "CR and no LF after chunk data": (400, CHUNKED + b"5\r\nabcde\rX0\r\n\r\n"),
    "LF after chunk size": (400, CHUNKED + b"5\nabcde\r\n0\r\n\r\n"),
    "LF in a chunk extension": (400, CHUNKED + b"5;a\nb\r\nabcde\r\n0\r\n\r\n"),
    "LF in a quoted extension": (400, CHUNKED + b'5;a="b\nc"\r\nabcde\r\n0\r\n\r\n'),
    "CR in a chunk extension": (400, CHUNKED + b"5;a\rb\r\nabcde\r\n0\r\n\r\n"),
    "LF ends the chunks": (400, CHUNKED + b"0\n\n"),
    "trailer without colon": (400, CHUNKED + b"0\r\nX\r\n\r\n"),
    "trailer ends in LF": (400, CHUNKED + b"0\r\nX: y\nZ: w\r\n\r\n"),
    "trailer with space before the colon": (400, CHUNKED + b"0\r\nX : y\r\n\r\n"),
    "length as a trailer": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
    "coding as a trailer": (400, CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    # 6
    "bare LF ends the request line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare LF ends a field": (400, host(b"Host: a\nX: y\r\n")),
    "bare LF ends the head": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "bare CR ends the request line": (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    "bare CR in a value": (400, host(b"Host: a\r\nX: a\rb\r\n")),
    "bare CR ends a field": (400, host(b"Host: a\rX: y\r\n")),
    "folded value": (400, host(b"Host: a\r\nX: a\r\n b\r\n")),
    "folded with a tab": (400, host(b"Host: a\r\nX: a\r\n\tb\r\n")),
    "first field folded": (400, host(b" Host: a\r\n")),
    # 7
    "space before the colon": (400, host(b"Host: a\r\nX : y\r\n")),
    "tab before the colon": (400, host(b"Host: a\r\nX\t: y\r\n")),
    "no colon": (400, host(b"Host: a\r\nX\r\n")),
    "no name": (400, host(b"Host: a\r\n: y\r\n")),
    **{f"{byte:#04x} in a value": (400, host(b"Host: a\r\nX: a%cContent-Length: 5\r\n" % byte))
       for byte in (0, 1, 8, 0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F, 0x7F)},
    **{f"{byte:#04x} in a name": (400, host(b"Host: a\r\nX%cY: z\r\n" % byte))
       for byte in (0, 9, 0x0B, 0x20, 0x22, 0x28, 0x2C, 0x2F, 0x5B, 0x7F, 0x80, 0x85, 0xFF)},
    # 8
    "no Host": (400, host(b"")),
    "two Hosts": (400, host(b"Host: a\r\nHost: b\r\n")),
    "the same Host twice": (400, host(b"Host: a\r\nhost: a\r\n")),
    **{f"Host {value!r}": (400, host(b"Host: " + value + b"\r\n")) for value in (
        b"a b", b"a/b", b"a@b", b"user:pw@b", b"a:b", b"a:80:80", b"[::1", b"::1", b"[a]x",
        b"a?b", b"a#b", b"http://a", b"<a>", b"a\\b", b"\xe4",
    )},
    "two Hosts in HTTP/1.0": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    # 9
    **{f"upgrade with a body: {framing!r}": (
        400, H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + framing + b"\r\n\r\n0\r\n\r\n"
    ) for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked")},
    # 10
    **{f"target {target!r}": (400, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") for target in (
        b"a", b"http://", b"http:///x", b"http://u@b/", b"http://b c/", b"ftp://b/", b"javascript:x", b"http://b:x/",
        b"/\x00",
        b"/\x7f", b"/\xff", "/é".encode(), b"?a", b"",
    )},
    # The request line
    "no version": (505, b"GET /\r\nHost: a\r\n\r\n"),
    "HTTP/2": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/11": (400, b"GET / HTTP/11\r\nHost: a\r\n\r\n"),
    "version in lower case": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "method in lower case": (400, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "unknown method": (400, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab in the request line": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space at the start": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space after the version": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Expectations and limits
    "unknown expectation": (417, H + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nabcde"),
    "unknown expectation, no body": (417, host(b"Host: a\r\nExpect: x\r\n")),
    "body too large": (413, H + b"Content-Length: 1001\r\n\r\n"),
    "chunked body too large": (413, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (1001, b"x" * 1001)),
    "target too long": (414, b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 2000)),
    "head too long": (431, host(b"Host: a\r\nX: %b\r\n" % (b"x" * 2000))),
}  # fmt: skip

LIMITS = {"max_header_size": 1500, "max_body_size": 1000}


@pytest.mark.parametrize(("status", "data"), MALFORMED.values(), ids=list(MALFORMED))
def test_the_parser_refuses_it_in_any_pieces(status: int, data: bytes) -> None:
    for step in (len(data) + len(SMUGGLED), 1, 2, 3, 7):
        parser = RequestParser(Limits(1500, 1000))
        stream = data + SMUGGLED
        refused = None
        for start in range(0, len(stream), step):
            try:
                parser.feed(stream[start : start + step])
            except HTTPInputError as error:
                refused = error
                break
        assert refused is not None, f"taken for {list(parser.requests)} in pieces of {step}"
        assert refused.status == status or (status == 0 and refused.status in (400, 501)), str(refused)
        assert not parser.requests
        assert str(refused).isprintable()


def test_the_server_refuses_it_and_serves_nothing_behind_it(web: Web) -> None:
    """On one server: what one client does wrong must not matter to the next. In one piece, and the rest in a second."""
    served: list[str] = []

    def answer(request: HTTPServerRequest) -> None:
        served.append(request.uri)
        request.connection.respond(body=b"good")

    server = web.serve(answer, **LIMITS)

    async def main() -> None:
        for name, (status, data) in MALFORMED.items():
            for cut in (len(data), len(data) // 2):
                client = await web.connect(server)
                await client.send(data[:cut])
                if cut == len(data):
                    await client.send(SMUGGLED)
                else:
                    await client.send(data[cut:] + SMUGGLED)
                refused = await client.answer()
                assert refused.status == status or (status == 0 and refused.status in (400, 501)), name
                assert refused.one("Connection") == "close", name
                try:
                    await client.send(SMUGGLED)  # it lingers: this must not be a request either
                    client.end()
                except OSError:
                    pass
                assert await client.rest() == b"", name
                client.close()
                assert served == [], name
        assert (await web.ask(server, b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"good"
        assert served == ["/good"]

    web.run(main())


def test_good_requests_before_a_bad_one_are_answered_in_order(web: Web) -> None:
    """Pipelining: answers in request order."""

    def answer(request: HTTPServerRequest) -> None:
        request.connection.respond(body=request.uri.encode())

    server = web.serve(answer)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(
            b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nrubbish\r\n\r\n" + SMUGGLED
        )
        assert [(await client.answer()).body for _ in range(2)] == [b"/1", b"/2"]
        assert (await client.answer()).status == 400
        client.end()
        assert await client.rest() == b""

    web.run(main())


@pytest.mark.parametrize("fields", [(), ((b"a", b"b"),)])
def test_fields_are_what_was_sent(fields: Fields) -> None:
    parser = RequestParser(Limits())
    parser.feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n")
    assert parser.requests[0].fields == ((b"host", b"a"), *fields)
