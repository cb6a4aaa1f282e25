"""`HTTPHeaders`, with tornado.httputil.HTTPHeaders as the oracle where they agree."""

from __future__ import annotations

import pytest
import tornado.httputil

from pollux_http import HTTPHeaders, HTTPInputError

BOTH = pytest.mark.parametrize("make", [HTTPHeaders, tornado.httputil.HTTPHeaders], ids=["ours", "tornado"])


@BOTH
def test_a_mapping_of_names_in_any_case(make: type[HTTPHeaders]) -> None:
    headers = make({"content-TYPE": "text/html"})
    assert dict(headers) == {"Content-Type": "text/html"}
    assert headers["CONTENT-type"] == headers.get("content-type") == "text/html"
    assert "content-type" in headers
    assert "x" not in headers
    headers["Content-type"] = "a"
    assert list(headers.get_all()) == [("Content-Type", "a")]
    del headers["content-type"]
    assert len(headers) == 0
    with pytest.raises(KeyError):
        headers["x"]
    with pytest.raises(KeyError):
        del headers["x"]


@BOTH
def test_several_values(make: type[HTTPHeaders]) -> None:
    headers = make()
    headers.add("Set-Cookie", "a=b")
    headers.add("x", "1")
    headers.add("set-cookie", "c=d")
    assert headers.get_list("SET-COOKIE") == ["a=b", "c=d"]
    assert headers["set-cookie"] == "a=b,c=d"
    assert headers.get_list("y") == []
    assert list(headers.get_all()) == [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X", "1")]
    assert str(headers) == "Set-Cookie: a=b\nSet-Cookie: c=d\nX: 1\n"
    headers["Set-Cookie"] = "e"
    assert headers.get_list("Set-Cookie") == ["e"]


@BOTH
def test_a_copy_changes_alone(make: type[HTTPHeaders]) -> None:
    headers = make({"A": "1"})
    copy = headers.copy()
    copy.add("A", "2")
    assert headers.get_list("A") == ["1"]
    assert copy.get_list("A") == ["1", "2"]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\r", "\x00", "a\x0bb", "\x7f", "\x1b[31m"])
def test_values_hold_no_control_character(value: str) -> None:
    """Response splitting: CR, LF in a header."""
    headers = HTTPHeaders({"A": "1"})
    with pytest.raises(HTTPInputError):
        headers["A"] = value
    with pytest.raises(HTTPInputError):
        headers.add("A", value)
    assert headers.get_list("A") == ["1"]


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "é", "a\x00", "(a)"])
def test_names_are_tokens(name: str) -> None:
    headers = HTTPHeaders()
    with pytest.raises(HTTPInputError):
        headers.add(name, "x")
    assert len(headers) == 0


def test_from_raw_keeps_order_and_bytes() -> None:
    headers = HTTPHeaders.from_raw([(b"b", b"\xe9"), (b"A", b"1"), (b"B", b"2")])
    assert list(headers.get_all()) == [("B", "\xe9"), ("B", "2"), ("A", "1")]
    assert repr(headers) == "HTTPHeaders([('B', '\xe9'), ('B', '2'), ('A', '1')])"
