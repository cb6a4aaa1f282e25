"""Fuzzing the request parsers.

Invariant: whatever comes, in whatever pieces, `RequestParser` makes requests of it or raises `HTTPInputError`, and
nothing else; `HeadParser` returns a request or None. No request holds what HTTP does not allow in one.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http import HTTPInputError, HTTPServerRequest
from pollux_http.parsing import HeadParser, Limits, RequestParser

STATUSES = {400, 413, 414, 417, 431, 501, 505}

TOKENS = """
GET_|POST_|HEAD_/_|CONNECT_|/|*|http://a/|_HTTP/1.1|_HTTP/1.0|\\r\\n|\\r\\n\\r\\n|\\n|\\r|Host:_a\\r\\n|Host:|Content-Length:_
Content-Length:_3\\r\\n|Transfer-Encoding:_chunked\\r\\n|Transfer-Encoding:|chunked|Connection:_|close|keep-alive|upgrade
Upgrade:_x\\r\\n|Expect:_|100-continue|0|3|abc|0\\r\\n\\r\\n|3\\r\\nabc\\r\\n|ffffffff|;|=|"|_|\\t|:|\\x00|\\x0b|\\x85|\\xff
X:_y\\r\\n|GET_/_HTTP/1.1\\r\\nHost:_a\\r\\n\\r\\n|POST_/_HTTP/1.1\\r\\nHost:_a\\r\\n
"""  # _ is a space, | and line ends separate
tokens = st.sampled_from(
    [
        token.replace("_", " ").encode().decode("unicode_escape").encode("latin-1")
        for token in TOKENS.strip().replace("\n", "|").split("|")
    ]
)
pieces = st.lists(st.one_of(st.lists(tokens, max_size=12).map(b"".join), st.binary(max_size=30)), max_size=10)


def check(request: HTTPServerRequest) -> None:
    assert re.fullmatch(r"[A-Z][A-Z-]+", request.method)
    assert re.fullmatch(r"[!-~]+", request.uri)
    for name, value in request.fields:
        assert re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name)
        assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value)
        assert value == value.strip(b" \t")
    assert request.host
    assert request.headers is request.headers
    assert isinstance(request.arguments, dict)  # far below the limit on their number


@given(pieces=pieces, limits=st.builds(Limits, st.sampled_from([20, 200, 65536]), st.sampled_from([0, 3, 10_000])))
@settings(max_examples=400, deadline=None, database=None)
def test_requests_or_an_input_error(pieces: list[bytes], limits: Limits) -> None:
    parser = RequestParser(limits)
    status = None
    try:
        for piece in pieces:
            parser.feed(piece)
            assert isinstance(parser.idle, bool)
            parser.take_continue()
    except HTTPInputError as error:
        status = error.status
    assert status is None or status in STATUSES
    for request in parser.requests:
        check(request)
        assert len(request.body) <= limits.body_size


@given(data=pieces.map(b"".join))
@settings(max_examples=400, deadline=None, database=None)
def test_a_request_or_none(data: bytes) -> None:
    request = HeadParser(Limits()).parse(data)
    if request is not None:
        check(request)
        assert request.body == b""
