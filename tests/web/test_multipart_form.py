"""Multipart forms: what browsers send, what attackers send, and that both take linear work."""

from __future__ import annotations

import logging

import pytest
import tornado.httputil
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http import HTTPInputError
from pollux_http.multipart_form import HTTPFile, boundary_of, parse_multipart
from pollux_web.httputil import parse_body_arguments, parse_multipart_form_data

FIELD = b'Content-Disposition: form-data; name="%b"\r\n\r\n%b'
FILE = b'Content-Disposition: form-data; name="f"; filename="%b"\r\nContent-Type: %b\r\n\r\n%b'


def form(*parts: bytes) -> bytes:
    return b"".join(b"--xx\r\n" + part + b"\r\n" for part in parts) + b"--xx--\r\n"


def test_fields_and_files() -> None:
    body = form(
        FIELD % (b"a", b"1"),
        FIELD % (b"a", b"\r\n--x\r\n\xff"),
        FIELD % ("ü".encode(), b""),
        FILE % (b"x.txt", b"text/plain; charset=utf-8", b"content"),
        FILE % ("é.bin".encode(), b"application/octet-stream", bytes(range(256))),
        FILE % (b"", b"application/octet-stream", b""),
        b'Content-Disposition: form-data; name="g"; filename="C:\\dir\\x"\r\n\r\n',
    )
    found = parse_multipart("xx", body)
    assert found.arguments == {"a": [b"1", b"\r\n--x\r\n\xff"], "ü": [b""], "f": [b""]}
    assert found.files == {
        "f": [
            HTTPFile("x.txt", b"content", "text/plain; charset=utf-8"),
            HTTPFile("é.bin", bytes(range(256)), "application/octet-stream"),
        ],
        "g": [HTTPFile("x", b"", "application/unknown")],
    }
    file = found.files["f"][0]
    assert [file["filename"], file["body"], file["content_type"]] == ["x.txt", b"content", "text/plain; charset=utf-8"]
    with pytest.raises(KeyError):
        file["other"]


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.binary(max_size=30)), max_size=5))
@settings(max_examples=300, deadline=None, database=None)
def test_fields_are_those_tornado_finds(fields: list[tuple[str, bytes]]) -> None:
    body = form(*(FIELD % (name.encode(), value) for name, value in fields))
    expected: dict[str, list[bytes]] = {}
    try:
        tornado.httputil.parse_multipart_form_data(b"xx", body, expected, {})
    except tornado.httputil.HTTPInputError:
        return  # a value that looks like a boundary
    assert parse_multipart("xx", body).arguments == expected


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=500, deadline=None, database=None)
def test_junk_is_a_form_or_an_error(junk: bytes, start: int, end: int) -> None:
    good = form(FIELD % (b"a", b"1"), FILE % (b"x", b"y", b"z"))
    for body in (junk, good[:start] + junk + good[end:]):
        try:
            parse_multipart("xx", body)
        except HTTPInputError:
            pass


@pytest.mark.parametrize(
    "body",
    [
        b"",
        form(FIELD % (b"a", b"1"))[:-4],
        form(b"A: b\r\n\r\n1"),
        form(b"Content-Disposition: form-data\r\n\r\n1"),
        form(FIELD % (b"a", b"1")).replace(b"\r\n", b"\n"),
        form(b"Content-Disposition: form-data; name=a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n1"),
        form(b"Content-Disposition: form-data; name=a\r\n" + b"X: y\r\n" * 100 + b"\r\n1"),
        form(*[FIELD % (b"a", b"1")] * 101),
        form(b'Content-Disposition: form-data; name="a\r\nb"\r\n\r\n1'),
    ],
    ids=["empty", "cut off", "no disposition", "no name", "bare LF", "long header", "many headers",
         "many parts", "CR LF in a header"],
)  # fmt: skip
def test_what_is_refused(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """With one error, and not a line of the log for each bad part."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(HTTPInputError, match="malformed multipart/form-data"):
        parse_multipart("xx", body)
    assert caplog.records == []


@pytest.mark.parametrize(
    "body",
    [
        form(FIELD % (b"a", b"\r\n--x" * 500_000)),
        form(FIELD % (b"a", b"\r" * 2_000_000)),
        b"--xx\r\n" * 500_000,
        b"\r\n--x" * 500_000,
        form(b'Content-Disposition: form-data; name="a"; ' + b"a=b; " * 500_000 + b"\r\n\r\n1"),
        form(b'Content-Disposition: form-data; name="' + b'\\"' * 4_000 + b'"\r\n\r\n1'),
        form(*[FIELD % (b"a", b"1")] * 50_000),
    ],
    ids=["near boundaries", "CR", "boundaries", "preamble", "parameters", "quotes", "parts"],
)
def test_hostile_forms_take_linear_work(body: bytes) -> None:
    """Quadratic, these would take minutes, which the timeout of the tests cuts off."""
    try:
        parse_multipart("xx", body)
    except HTTPInputError:
        pass


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=xx", "xx"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="x x"', "x x"),
        ("multipart/form-data;boundary=xx;a=b", "xx"),
        ("text/plain; boundary=xx", None),
        ("multipart/mixed; boundary=xx", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, boundary: str | None) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("rest", ["", "; boundary=", '; boundary=""'])
def test_a_boundary_that_is_missing(rest: str) -> None:
    with pytest.raises(HTTPInputError, match="without a boundary"):
        boundary_of(f"multipart/form-data{rest}")


def test_what_follows_the_form_is_ignored() -> None:
    """The epilogue of RFC 2046 5.1.1."""
    body = form(FIELD % (b"a", b"1")) + form(FIELD % (b"a", b"2"))
    assert parse_multipart("xx", body).arguments == {"a": [b"1"]}


def test_tornados_functions() -> None:
    arguments: dict[str, list[bytes]] = {"a": [b"0"]}
    files: dict[str, list[HTTPFile]] = {}
    parse_body_arguments("application/x-www-form-urlencoded", b"a=1&b=&c=%ff", arguments, files)
    assert arguments == {"a": [b"0", b"1"], "b": [b""], "c": [b"\xff"]}
    parse_body_arguments('multipart/form-data; boundary="xx"', form(FILE % (b"x", b"y", b"z")), arguments, files)
    parse_multipart_form_data(b"xx", form(FIELD % (b"a", b"2")), arguments, files)
    assert arguments["a"] == [b"0", b"1", b"2"]
    assert files == {"f": [HTTPFile("x", b"z", "y")]}
    parse_body_arguments("text/plain", b"a=3", arguments, files)
    assert arguments["a"] == [b"0", b"1", b"2"]
    for kind, body in [
        ("application/x-www-form-urlencoded", b"a=1&" * 1001),
        ("multipart/form-data; boundary=xx", b"junk"),
        ("multipart/form-data", form()),
    ]:
        with pytest.raises(HTTPInputError):
            parse_body_arguments(kind, body, arguments, files)
    with pytest.raises(HTTPInputError, match="Content-Encoding 'gzip'"):
        parse_body_arguments("application/x-www-form-urlencoded", b"", arguments, files, {"Content-Encoding": "gzip"})
