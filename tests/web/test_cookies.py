"""Cookies: reading as browsers write, refusing what would change Set-Cookie, and signatures."""

from __future__ import annotations

import datetime
import http.cookies
import string
import time
from typing import Any

import pytest
import tornado.httputil
import tornado.web
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http.cookies import parse_cookie
from pollux_web import (
    Application,
    RequestHandler,
    create_signed_value,
    decode_signed_value,
    get_signature_key_version,
)
from tests.web.client import Web, get

SECRET = "a long and random text"
BAD = ["a\r\nb", "a\nb", "a;b", "a\x00b", "a\x7fb"]


@given(st.text(st.sampled_from('ab=;"\\ ,\t013é'), max_size=30))
@settings(max_examples=500, deadline=None, database=None)
def test_parsing_is_tornados(header: str) -> None:
    assert parse_cookie(header) == tornado.httputil.parse_cookie(header)


@pytest.mark.parametrize(
    "header", ['a="' + "\\" * 200_000, 'a="' + "\\0" * 100_000 + '"', "=;" * 100_000, ";" * 200_000]
)
def test_parsing_quadratic_cookies_takes_linear_work(header: str) -> None:
    """Quadratic, this would take minutes, which the timeout of the tests cuts off."""
    parse_cookie(header)


class Recorder:
    """A handler without a connection: what it would send."""

    def __init__(self, **settings_: Any) -> None:
        from pollux_http import HTTPServerRequest

        self.handler = RequestHandler(Application(**settings_), HTTPServerRequest("GET", "/"))

    def sent(self) -> list[str]:
        cookies = self.handler._new_cookies
        return [morsel.OutputString() for morsel in (cookies or {}).values()]


@pytest.mark.parametrize(
    "attribute", ["domain", "path", "samesite", "Domain", "PATH", "SameSite", "comment", "version"]
)
@pytest.mark.parametrize("bad", BAD)
def test_attributes_cannot_be_injected(attribute: str, bad: str) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match="control character or semicolon"):
        recorder.handler.set_cookie("a", "b", **{attribute: bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="control character or semicolon"):
        recorder.handler.clear_cookie("a", **{attribute: bad})
    assert recorder.sent() == []


@pytest.mark.parametrize(
    ("name", "value"), [("a b", "x"), ("a\n", "x"), ("a", "x\r\ny"), ("a", "x y"), ("a", b"x\x00")]
)
def test_names_and_values_cannot_be_injected(name: str, value: str | bytes) -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match="white space or control characters"):
        recorder.handler.set_cookie(name, value)
    assert recorder.sent() == []


@given(name=st.text(max_size=5), value=st.text(max_size=5), path=st.text(max_size=5), domain=st.text(max_size=5))
@settings(max_examples=500, deadline=None, database=None)
def test_whatever_is_set_is_one_cookie_or_refused(name: str, value: str, path: str, domain: str) -> None:
    recorder = Recorder()
    try:
        recorder.handler.set_cookie(name, value, path=path, domain=domain)
    except (ValueError, http.cookies.CookieError):
        assert recorder.sent() == []
        return
    (sent,) = recorder.sent()
    assert not set(sent) & set(map(chr, range(32)))
    attributes = [part.strip().partition("=")[0].lower() for part in sent.split(";")[1:]]
    assert set(attributes) <= {"path", "domain"}
    assert len(attributes) == len(set(attributes))


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(http.cookies.CookieError, match="unknown"):
        Recorder().handler.set_cookie("a", "b", unknown="x")


def test_clearing() -> None:
    recorder = Recorder()
    recorder.handler.clear_cookie("a", path="/p", domain="d", samesite="None", secure=True)
    (sent,) = recorder.sent()
    expires = datetime.datetime.strptime(sent.split("expires=")[1].split(";")[0], "%a, %d %b %Y %H:%M:%S GMT")
    assert expires < datetime.datetime.now()
    assert sent.startswith('a=""; Domain=d; expires=')
    assert sent.endswith("; Path=/p; SameSite=None; Secure")
    for argument in ("expires", "expires_days", "max_age"):
        with pytest.raises(TypeError, match=f"leave out '{argument}'"):
            recorder.handler.clear_cookie("a", **{argument: 1})


def test_all_that_were_sent_can_be_cleared(web: Web) -> None:
    class Clear(RequestHandler):
        def get(self) -> None:
            self.clear_all_cookies(path="/x")

    server = web.serve(Application([("/", Clear)]))
    answer = web.run(web.ask(server, get("/", "Cookie: a=1; b=2", "Cookie: c=3")))
    assert [line[:5] for line in answer.all("Set-Cookie")] == ['a="";', 'b="";', 'c="";']
    assert all("; Path=/x" in line for line in answer.all("Set-Cookie"))


# Signed values


@given(
    name=st.text(string.ascii_letters + "|:", max_size=8),
    value=st.binary(max_size=20),
    version=st.sampled_from([1, 2]),
    tornado_signs=st.booleans(),
)
@settings(max_examples=300, deadline=None, database=None)
def test_ours_and_tornados_read_each_other(name: str, value: bytes, version: int, tornado_signs: bool) -> None:
    create: Any = tornado.web.create_signed_value if tornado_signs else create_signed_value
    decode: Any = decode_signed_value if tornado_signs else tornado.web.decode_signed_value
    made = create(SECRET, name, value, version=version)
    assert decode(SECRET, name, made, min_version=version) == value
    assert create_signed_value(
        SECRET, name, value, version=version, clock=lambda: 1e9
    ) == tornado.web.create_signed_value(SECRET, name, value, version=version, clock=lambda: 1e9)


@given(position=st.integers(0, 200), replacement=st.binary(min_size=1, max_size=1))
@settings(max_examples=300, deadline=None, database=None)
def test_any_change_is_noticed(position: int, replacement: bytes) -> None:
    made = create_signed_value(SECRET, "name", "value")
    position %= len(made)
    changed = made[:position] + replacement + made[position + 1 :]
    read = decode_signed_value(SECRET, "name", changed)
    same = changed[:-64] == made[:-64] and changed.lower() == made.lower()  # hex digits may be upper case
    assert read == (b"value" if same else None)


@given(st.binary(max_size=60))
@settings(max_examples=500, deadline=None, database=None)
def test_junk_is_none(junk: bytes) -> None:
    for text in (junk, b"2|" + junk, b"2|1:0|" + junk):
        assert decode_signed_value(SECRET, "name", text, min_version=1) is None


def test_names_cannot_be_confused() -> None:
    """Version 2 has the length of each field in what is signed. Version 1 has not, and is not read unless asked for."""
    assert decode_signed_value(SECRET, "b", create_signed_value(SECRET, "a", "x")) is None
    shifted = create_signed_value(SECRET, "userrole", b"value", version=1)
    value, timestamp, signature = shifted.split(b"|")
    confused = b"|".join([b"role" + value, timestamp, signature])
    assert decode_signed_value(SECRET, "user", confused, min_version=1) is not None, "the known flaw of version 1"
    assert decode_signed_value(SECRET, "user", confused) is None
    assert decode_signed_value(SECRET, "userrole", shifted) is None


def test_digits_cannot_move_from_value_to_time() -> None:
    made = create_signed_value(SECRET, "a", b"abcd", version=1, clock=lambda: 1_700_000_000)
    value, timestamp, signature = made.split(b"|")
    for moved in (b"|".join([value[:-1], value[-1:] + timestamp, signature]), made.replace(b"|", b"|0", 1)):
        assert decode_signed_value(SECRET, "a", moved, min_version=1, clock=lambda: 1_700_000_000) is None


def test_values_grow_old() -> None:
    now = time.time()
    made = create_signed_value(SECRET, "a", "x", clock=lambda: now)
    assert decode_signed_value(SECRET, "a", made, 31, clock=lambda: now + 31 * 86400 - 1) == b"x"
    assert decode_signed_value(SECRET, "a", made, 31, clock=lambda: now + 31 * 86400 + 2) is None
    assert decode_signed_value(SECRET, "a", made, 0.5, clock=lambda: now + 43_300) is None


def test_secrets_can_be_rotated(web: Web) -> None:
    secrets = {1: "old", 2: "new"}
    old = create_signed_value(secrets, "a", "x", key_version=1)
    new = create_signed_value(secrets, "a", "x", key_version=2)
    assert decode_signed_value(secrets, "a", old) == decode_signed_value(secrets, "a", new) == b"x"
    assert decode_signed_value({2: "new"}, "a", old) is None
    assert decode_signed_value({1: "new", 2: "old"}, "a", old) is None
    assert [get_signature_key_version(made) for made in (old, new, b"junk", b"")] == [1, 2, None, None]
    with pytest.raises(ValueError, match="key version 3, only of"):
        create_signed_value(secrets, "a", "x", key_version=3)
    with pytest.raises(ValueError, match="knows no key versions"):
        create_signed_value(secrets, "a", "x", version=1)

    class Show(RequestHandler):
        def get(self) -> None:
            value = self.get_signed_cookie("a")
            self.set_signed_cookie("a", value or b"first", expires_days=1, httponly=True)
            self.write({"value": value and value.decode(), "key": self.get_signed_cookie_key_version("a")})

    server = web.serve(Application([("/", Show)], cookie_secret=secrets, key_version=2))
    answer = web.run(web.ask(server, get("/", f"Cookie: a={old.decode()}")))
    assert answer.body == b'{"value": "x", "key": 1}'
    cookie = answer.one("Set-Cookie") or ""
    assert get_signature_key_version(parse_cookie(cookie)["a"]) == 2
    assert "HttpOnly" in cookie


def test_settings_that_are_missing_are_named() -> None:
    with pytest.raises(RuntimeError, match=r"'cookie_secret' setting .* signed cookies"):
        Recorder().handler.set_signed_cookie("a", "b")
    with pytest.raises(RuntimeError, match=r"'key_version' setting .* key rotation"):
        Recorder(cookie_secret={1: "x"}).handler.create_signed_value("a", "b")
    with pytest.raises(ValueError, match="version 1 or 2, got 3"):
        create_signed_value(SECRET, "a", "b", version=3)
    with pytest.raises(ValueError, match="min_version=3"):
        decode_signed_value(SECRET, "a", "b", min_version=3)
