"""From a path to a handler. The oracle is a table without literals: patterns tried one by one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http import HTTPServerRequest
from pollux_web import Application, RequestHandler, URLSpec, url
from pollux_web.handler_router import HandlerRouter


class A(RequestHandler):
    pass


class B(RequestHandler):
    pass


class C(RequestHandler):
    pass


def router(*rules: Any) -> HandlerRouter:
    return Application(rules).wildcard_router


def look_up(table: HandlerRouter, path: str) -> Any:
    """As `Application` does."""
    return table.lookup(HTTPServerRequest("GET", path), path)


def found(table: HandlerRouter, path: str) -> Any:
    match = look_up(table, path)
    return match and (match[0].__name__, *match[1:])


def test_the_first_that_matches_wins() -> None:
    table = router(URLSpec("/a", A), URLSpec("/(.)", B), URLSpec("/b", C), URLSpec("/a", C), URLSpec("/cc", C))
    assert found(table, "/a") == ("A", {}, (), {})
    assert found(table, "/b") == ("B", {}, ("b",), {})
    assert found(table, "/cc") == ("C", {}, (), {})
    assert found(table, "/ccc") is None
    assert found(table, "") is None
    table.add_rules([URLSpec("/late", A), URLSpec("/cc", A)])
    assert found(table, "/late") == ("A", {}, (), {})
    assert found(table, "/cc") == ("C", {}, (), {})


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/a", ["/a"], ["/ab", "/a/", "a", "/a\n", "x/a"]),
        ("/a$", ["/a"], ["/a$", "/ab"]),
        (r"/a\.b", ["/a.b"], ["/axb"]),
        (r"/a\$", ["/a$"], ["/a"]),
        ("/a|/b", ["/a", "/b"], ["/ab", "/a/x", "/bx", "x/b"]),
        ("/a|/b$", ["/a", "/b"], ["/a/secret", "x/b"]),
        ("/a.*", ["/a", "/a/b"], ["/b"]),
        ("(?i)/x", ["/X", "/x"], ["/xx"]),
        (r"/\d+", ["/12"], ["/1a", "/"]),
        ("/a-b_c~d%20", ["/a-b_c~d%20"], ["/a-b_c~d "]),
    ],
)
def test_the_whole_path_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    table = router(URLSpec(pattern, A))
    assert [path for path in yes if look_up(table, path) is None] == []
    assert [path for path in no if look_up(table, path) is not None] == []


def test_named_groups_go_by_keyword_and_the_others_are_left_out() -> None:
    table = router(URLSpec("/(x)/(?P<name>.*)", A, {"k": 1}, name="n"))
    assert found(table, "/x/%41%zz") == ("A", {"k": 1}, (), {"name": "A%zz"})


def test_groups_that_are_no_utf8_are_left_to_the_handler() -> None:
    assert found(router(("/(.*)/(.*)", A)), "/%41/%ff") == ("A", {}, (b"A", b"\xff"), {})


def test_a_wrong_pattern_is_told() -> None:
    with pytest.raises(ValueError, match=r"route '/\(' is no regular expression"):
        Application([("/(", A)])


def test_url_is_urlspec() -> None:
    assert url is URLSpec
    assert repr(URLSpec("/a", A, name="n")) == "URLSpec('/a', A, name='n')"


PATTERNS = ["/a", "/b", "/a$", r"/a\.b", "/.", "/(.)", "/a|/b", "/(?P<x>.*)", "/ab", r"/\w+", "/a.b"]


@given(
    chosen=st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from([A, B, C])), max_size=6),
    path=st.one_of(st.sampled_from(["/a", "/b", "/a.b", "/axb", "/ab", "/", "/%61"]), st.text("/ab.%", max_size=5)),
)
@settings(max_examples=300, deadline=None, database=None)
def test_literals_make_no_difference(chosen: list[tuple[str, type[RequestHandler]]], path: str) -> None:
    match = look_up(router(*chosen), path)
    expected = next((handler for pattern, handler in chosen if re.fullmatch(pattern, path)), None)
    assert (match[0] if match else None) is expected
