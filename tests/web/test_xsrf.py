"""Requests that other sites make browsers send: tokens, and the origins that browsers tell."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import tornado.web

from pollux_http.cookies import parse_cookie
from pollux_web import Application, RequestHandler
from tests.web.client import Answer, Web, get, post
from tests.web.oracle import ask_all, tornado_server

FORM = "Content-Type: application/x-www-form-urlencoded"


class Form(RequestHandler):
    def get(self) -> None:
        self.write(self.xsrf_form_html())

    def post(self) -> None:
        self.write("changed")

    put = delete = patch = post


def token_of(answer: Answer) -> tuple[str, str]:
    """Return the token of the page and the Cookie header."""
    found = re.search(rb'<input type="hidden" name="_xsrf" value="([^"]*)"/>', answer.body)
    assert found
    name, value = next(iter(parse_cookie((answer.one("Set-Cookie") or "").partition(";")[0]).items()))
    return found[1].decode(), f"Cookie: {name}={value}"


def served(web: Web, *requests: bytes, **settings: Any) -> list[Answer]:
    server = web.serve(Application([("/", Form)], **{"xsrf_cookies": True, **settings}))
    return web.run(ask_all(web, server.sockets[0].getsockname(), list(requests)))


def form(token: str) -> bytes:
    return urlencode({"_xsrf": token}).encode()


@pytest.mark.parametrize("version", [1, 2])
def test_the_token_of_the_form_is_that_of_the_cookie(web: Web, version: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    (page, other) = served(web, get(), get(), xsrf_cookie_version=version)
    token, cookie = token_of(page)
    foreign, _ = token_of(other)
    good = [
        post("/", form(token), FORM, cookie),
        post("/", b"", f"X-XSRFToken: {token}", cookie),
        post("/", b"", f"X-CSRFToken: {token}", cookie),
        post("/", b"", f"X-CSRFToken: {token}", cookie, method="PUT"),
        get("/", cookie),
    ]
    bad = [
        post("/", b"", cookie),
        post("/", form(token), FORM),
        post("/", form(foreign), FORM, cookie),
        post("/", form("junk"), FORM, cookie),
        post("/", form("2|zz|zz|1"), FORM, cookie),
        post("/", form("2|00000000||1"), FORM, cookie),
        post("/", form("x" * 100_000), FORM, cookie),
        post("/", b"", cookie, method="DELETE"),
        post("/", form(""), FORM, "Cookie: _xsrf="),
    ]
    answers = served(web, *good, *bad, xsrf_cookie_version=version)
    assert [answer.status for answer in answers] == [200] * len(good) + [403] * len(bad)


def test_tokens_are_masked(web: Web) -> None:
    """No two pages have the same text, so that its length after compression tells nothing."""
    (first,) = served(web, get())
    token, cookie = token_of(first)
    pages = served(web, get("/", cookie), get("/", cookie))
    assert all(page.one("Set-Cookie") is None for page in pages)
    tokens = {token, *(re.search(rb'value="([^"]*)"', page.body)[1].decode() for page in pages)}  # type: ignore[index]
    assert len(tokens) == 3
    assert {answer.status for answer in served(web, *(post("/", form(t), FORM, cookie) for t in tokens))} == {200}


def test_the_cookie_can_be_named_and_given_attributes(web: Web) -> None:
    options = {"httponly": True, "samesite": "Strict"}
    (page,) = served(web, get(), xsrf_cookie_name="__Host-token", xsrf_cookie_kwargs=options)
    assert (page.one("Set-Cookie") or "").startswith("__Host-token=2|")
    assert "HttpOnly" in (page.one("Set-Cookie") or "")
    token, cookie = token_of(page)
    assert served(web, post("/", form(token), FORM, cookie), xsrf_cookie_name="__Host-token")[0].status == 200


class TornadoForm(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("read")

    def post(self) -> None:
        self.write("changed")


ORIGIN_SETTINGS = {"cross_origin_protection": True, "trusted_origins": ["https://trusted.example"]}


@pytest.fixture(scope="module", params=["tokens", "origins"])
def oracle(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """Tornado with either protection."""
    settings: dict[str, Any] = {"xsrf_cookies": True} if request.param == "tokens" else ORIGIN_SETTINGS
    with tornado_server([("/", TornadoForm)], **settings) as address:
        yield request.param, address


def test_tornado_decides_as_we_do(web: Web, oracle: tuple[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    kind, address = oracle
    if kind == "tokens":
        token, cookie = token_of(served(web, get())[0])
        requests = [post("/", form(token), FORM, cookie), post("/", b"", cookie), post("/", form("junk"), FORM, cookie)]
        expected = [200, 403, 403]
    else:
        requests = [post("/", b"", *lines) for lines, _ in ORIGINS]
        expected = [status for _, status in ORIGINS]
    assert [answer.status for answer in web.run(ask_all(web, address, requests))] == expected


@pytest.mark.parametrize("version", [0, 3])
def test_an_unknown_version_is_told(web: Web, version: int, caplog: pytest.LogCaptureFixture) -> None:
    assert served(web, get(), xsrf_cookie_version=version)[0].status == 500
    assert f"xsrf_cookie_version is 1 or 2, got {version}" in caplog.text


ORIGINS = [
    ([], 200),
    (["Sec-Fetch-Site: same-origin"], 200),
    (["Sec-Fetch-Site: none"], 200),
    (["Sec-Fetch-Site: same-origin", "Origin: http://evil.example"], 200),
    (["Sec-Fetch-Site: cross-site"], 403),
    (["Sec-Fetch-Site: cross-site", "Origin: http://a"], 403),
    (["Sec-Fetch-Site: cross-site", "Origin: https://trusted.example"], 200),
    (["Sec-Fetch-Site: same-site", "Origin: http://b.a"], 403),
    (["Origin: http://a"], 200),
    (["Origin: http://A"], 200),
    (["Origin: http://evil.example"], 403),
    (["Origin: https://trusted.example"], 200),
    (["Origin: null"], 403),
    (["Origin: http://a.evil.example"], 403),
]


def test_cross_origin_protection(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    requests = [post("/", b"", *lines) for lines, _ in ORIGINS]
    reading = get("/", "Origin: http://evil.example")
    answers = served(web, *requests, reading, xsrf_cookies=False, **ORIGIN_SETTINGS)
    assert [answer.status for answer in answers] == [*(status for _, status in ORIGINS), 200]
