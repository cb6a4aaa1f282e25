"""The pages of errors: who gets which, and that nothing in them runs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pollux_web import Application, HTTPError, RequestHandler
from tests.web.client import Answer, Web, get
from tests.web.oracle import ask_all

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Failing(RequestHandler):
    def get(self, kind: str) -> None:
        secret = Unprintable() if kind == "repr" else "<script>local()</script>" * (100 if kind == "long" else 1)
        if kind == "http":
            raise HTTPError(409, "for the log", reason="<script>reason()</script>")
        raise ValueError("<script>message()</script>" + str(type(secret)))


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def served(web: Web, *requests: bytes, **settings: Any) -> list[Answer]:
    server = web.serve(Application([("/fail/(.*)", Failing)], **settings))
    return web.run(ask_all(web, server.sockets[0].getsockname(), list(requests)))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/html"), (BROWSER, "text/html"), ("Accept: */*", "text/html"),
        ("Accept: application/json", "application/json"),
        ("Accept: application/json, text/plain, */*", "application/json"),
        ("Accept: text/html, application/json", "text/html"), ("Accept: image/png", "text/html"),
        ("Accept: text/html;q=0.5, application/json;q=0.6", "application/json"),
    ],
)  # fmt: skip
def test_json_goes_to_those_who_prefer_it(web: Web, accept: str | None, kind: str) -> None:
    lines = [accept] if accept else []
    for answer, code, message in zip(
        served(web, get("/nowhere", *lines), get("/fail/x", *lines)),
        (404, 500),
        ("Not Found", "Internal Server Error"),
        strict=True,
    ):
        assert answer.status == code
        assert answer.one("Content-Type") == f"{kind}; charset=UTF-8"
        if kind == "application/json":
            assert json.loads(answer.body) == {"error": {"code": code, "message": message}}
        else:
            assert (
                answer.body == f"<html><title>{code}: {message}</title><body>{code}: {message}</body></html>".encode()
            )


@pytest.mark.parametrize("kind", ["x", "http", "repr", "long"])
def test_nothing_in_a_page_runs(web: Web, kind: str) -> None:
    path = f"/fail/{kind}?<script>query()</script>"
    for settings in ({}, {"debug": True, "autoreload": False}):
        (answer,) = served(web, get(path, BROWSER), **settings)
        assert answer.one("Content-Type") == "text/html; charset=UTF-8"
        assert b"<script" not in answer.body
        assert len(answer.body) < 200_000


def test_only_debug_tells(web: Web) -> None:
    (plain,) = served(web, get("/fail/x", BROWSER))
    assert b"message" not in plain.body
    assert b"ValueError" not in plain.body
    (page,) = served(web, get("/fail/x", BROWSER), debug=True, autoreload=False)
    for part in (b"ValueError", b"message()", b"Failing.get", b"local()", b"raise ValueError(", b"GET /fail/x"):
        assert part in page.body
    (text,) = served(web, get("/fail/x", "Accept: */*"), debug=True, autoreload=False)
    assert text.one("Content-Type") == "text/plain; charset=UTF-8"
    assert text.body.startswith(b"Traceback (most recent call last):")
    (as_json,) = served(web, get("/fail/x", "Accept: application/json"), serve_traceback=True)
    assert json.loads(as_json.body)["error"]["traceback"][-1].startswith("ValueError: ")
    (off,) = served(web, get("/fail/x", BROWSER), debug=True, autoreload=False, serve_traceback=False)
    assert off.body == plain.body


def test_allow_names_the_methods_there_are(web: Web) -> None:
    class Two(RequestHandler):
        SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "BREAK")

        def get(self) -> None:
            pass

        def delete(self) -> None:
            pass

    server = web.serve(Application([("/", Two)]))
    answer = web.run(web.ask(server, get(method="PATCH")))
    assert (answer.status, answer.one("Allow")) == (405, "GET, DELETE")
