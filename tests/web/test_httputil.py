"""`httputil` and `escape`: Tornado's helpers, each compared with Tornado's."""

from __future__ import annotations

import datetime
import json
import re
import time
from typing import Any

import pytest
import tornado.escape
import tornado.httputil
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http import HTTPInputError
from pollux_web import escape, httputil

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("</script>aé\u2028", max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=8,
)


@given(st.text(max_size=40))
@settings(max_examples=300, deadline=None, database=None)
def test_escapes_are_tornados(text: str) -> None:
    theirs: Any = tornado.escape
    for name in ("xhtml_escape", "xhtml_unescape", "url_escape", "squeeze", "utf8", "to_unicode", "native_str"):
        if text.isprintable() or name not in ("url_escape", "utf8"):
            assert getattr(escape, name)(text) == getattr(theirs, name)(text), name
    if text.isprintable():
        for plus in (True, False):
            quoted = escape.url_escape(text, plus)
            assert quoted == theirs.url_escape(text, plus)
            assert escape.url_unescape(quoted, plus=plus) == text
            assert escape.url_unescape(text, None, plus) == theirs.url_unescape(text, None, plus)
            assert escape.url_unescape(text.encode(), None, plus) == theirs.url_unescape(text.encode(), None, plus)


@given(JSON)
@settings(max_examples=300, deadline=None, database=None)
def test_json_is_tornados(value: Any) -> None:
    text = escape.json_encode(value)
    assert text == tornado.escape.json_encode(value)
    assert "</" not in text
    assert escape.json_decode(text) == json.loads(text) == value
    assert escape.json_decode(text.encode()) == value


@given(st.text("abc=&;+%20é", max_size=30), st.booleans())
@settings(max_examples=300, deadline=None, database=None)
def test_queries_are_tornados(text: str, keep: bool) -> None:
    assert escape.parse_qs_bytes(text.encode(), keep) == tornado.escape.parse_qs_bytes(text.encode(), keep)


def test_other_types_are_refused() -> None:
    for function in (escape.utf8, escape.to_unicode, escape.xhtml_escape):
        with pytest.raises(TypeError, match="expected str, bytes or None, got int"):
            function(5)  # type: ignore[operator, call-overload, arg-type, unused-ignore]
    assert escape.utf8(None) is escape.to_unicode(None) is None
    assert escape.recursive_unicode({b"a": [b"b", (b"c", 1)]}) == {"a": ["b", ("c", 1)]}


LINKS = [
    "hello http://example.com!", "hello http://example.com/with?query=Yes,%20please&x=1#anchor.", "www.a.com", "plain",
    "<b>http://a.b</b>", 'a "http://a.b/c" d', "(http://a.b/c)", "javascript:alert(1)",
    "http://a.b, www.c.d; x", "a@b.c",
    "Übung http://ü.de/ä",
]  # fmt: skip


@pytest.mark.parametrize("text", LINKS)
def test_links_are_tornados(text: str) -> None:
    assert escape.linkify(text) == tornado.escape.linkify(text)


def test_links() -> None:
    link = escape.linkify
    assert link("x http://a.b/c_(d). y") == 'x <a href="http://a.b/c_(d)">http://a.b/c_(d)</a>. y'
    assert link("javascript://%0aalert(1) data:text/html,x") == "javascript://%0aalert(1) data:text/html,x"
    assert link("HTTP://A.B") == '<a href="HTTP://A.B">HTTP://A.B</a>'
    assert link("www.a.b", require_protocol=True) == "www.a.b"
    assert link("ftp://a", permitted_protocols=["ftp"]) == '<a href="ftp://a">ftp://a</a>'
    assert link("http://a", extra_params='rel="x"') == '<a href="http://a" rel="x">http://a</a>'
    assert (
        link("http://a", extra_params=lambda url: f'data-x="{len(url)}"')
        == '<a href="http://a" data-x="8">http://a</a>'
    )
    shortened = link("http://example.com/" + "x" * 50, shorten=True)
    assert f'title="http://example.com/{"x" * 50}"' in shortened
    assert "...</a>" in shortened


@given(st.text("<>\"'&htp:/w.a ()", max_size=60))
@settings(max_examples=500, deadline=None, database=None)
def test_links_are_the_only_markup(text: str) -> None:
    rest = re.sub(r'<a href="[^"<>]*">|</a>', "", escape.linkify(text))
    assert rest == escape.xhtml_escape(text)


@pytest.mark.parametrize(
    "text", ["a." * 200_000, "http://" + ")" * 200_000, "www." * 100_000, "a:" * 200_000, "(" * 200_000]
)
def test_linking_takes_linear_work(text: str) -> None:
    """Quadratic, this would take minutes, which the timeout of the tests cuts off."""
    escape.linkify(text)


@pytest.mark.parametrize("url", ["http://a/b", "/b?x=y", "?x", "http://a/b?x=y&x=z#f", "//a?", "/é?ä=ö"])
@pytest.mark.parametrize("args", [None, {}, {"a": "b c"}, [("a", "1"), ("a", "2")], (("é", "&"),)])
def test_url_concat_is_tornados(url: str, args: Any) -> None:
    assert httputil.url_concat(url, args) == tornado.httputil.url_concat(url, args)


def test_url_concat_refuses() -> None:
    with pytest.raises(TypeError, match="got str"):
        httputil.url_concat("/", "a=b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "moment",
    [
        1359312200, 1359312200.9, time.gmtime(1359312200), tuple(time.gmtime(1359312200)),
        datetime.datetime(2013, 1, 27, 18, 43, 20),
        datetime.datetime(2013, 1, 27, 19, 43, 20, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ],
)  # fmt: skip
def test_timestamps(moment: Any) -> None:
    assert (
        httputil.format_timestamp(moment)
        == "Sun, 27 Jan 2013 18:43:20 GMT"
        == tornado.httputil.format_timestamp(moment)
    )


def test_timestamps_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="a number, a time tuple or a datetime"):
        httputil.format_timestamp("now")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "X-Y /é HTTP/1.0", "GET /", "GET  / HTTP/1.1", "G T / HTTP/1.1", "GET / HTTP/2", ""]
)
def test_request_lines_are_tornados(line: str) -> None:
    try:
        expected: Any = tuple(tornado.httputil.parse_request_start_line(line))
    except tornado.httputil.HTTPInputError:
        with pytest.raises(HTTPInputError):
            httputil.parse_request_start_line(line)
    else:
        assert tuple(httputil.parse_request_start_line(line)) == expected


@pytest.mark.parametrize("line", ["HTTP/1.1 200 OK", "HTTP/1.0 404 Not here", "HTTP/1.1 20 OK", "HTTP/2 200 OK", "x"])
def test_response_lines_are_tornados(line: str) -> None:
    try:
        expected: Any = tuple(tornado.httputil.parse_response_start_line(line))
    except tornado.httputil.HTTPInputError:
        with pytest.raises(HTTPInputError):
            httputil.parse_response_start_line(line)
    else:
        assert tuple(httputil.parse_response_start_line(line)) == expected


@pytest.mark.parametrize("netloc", ["a", "a:80", "[::1]:80", "[::1]", "a:b", "a:٣", ":80", ""])
def test_host_and_port(netloc: str) -> None:
    if netloc != "a:٣":
        assert httputil.split_host_and_port(netloc) == tornado.httputil.split_host_and_port(netloc)
    else:
        assert httputil.split_host_and_port(netloc) == (netloc, None)


def test_the_rest() -> None:
    assert httputil.encode_username_password("ü", b"p") == tornado.httputil.encode_username_password("ü", b"p")
    assert list(httputil.qs_to_qsl({"a": ["1", "2"], "b": []})) == [("a", "1"), ("a", "2")]
    assert httputil.responses[404] == "Not Found"
    headers = httputil.HTTPHeaders.parse("A: 1\r\na: 2\r\nB:3 \r\n folded\r\n\r\n")
    assert list(headers.get_all()) == [("A", "1"), ("A", "2"), ("B", "3 folded")]
    for text in (" folded first\r\n", "no colon\r\n", "A: b\x00\r\n", "A b: c\r\n", "A: b\r\n c\x00\r\n"):
        with pytest.raises(HTTPInputError):
            httputil.HTTPHeaders.parse(text)
