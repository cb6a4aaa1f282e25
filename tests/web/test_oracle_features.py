"""Each feature of a handler on Tornado 6 and on Pollux: the same application, the same requests, the same responses.

Not compared: Date, Server and the order of headers. Where the two differ, `DIFFERENT` says how; a difference that is
not listed fails, and so does a listed one that is gone. One backend is enough: nothing here depends on the poller.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.routing
import tornado.web

import pollux_web
import pollux_web.routing
from pollux import IOLoop
from tests.web.client import Answer, Web, get, post
from tests.web.oracle import ask_all, tornado_server
from tests.web.site import SECRET, application, make_directory


def signed(name: str, value: str, **options: Any) -> str:
    """Return what Tornado signs: ours reads it."""
    return tornado.web.create_signed_value(SECRET, name, value, **options).decode()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def oracle(directory: Path) -> Iterator[Any]:
    handlers, settings = application(tornado.web, tornado.routing, directory)
    with tornado_server(handlers, **settings) as address:
        yield address


@pytest.fixture
def web() -> Iterator[Web]:
    """A loop on the best backend."""
    loop = IOLoop(make_current=False)
    loop.make_current()
    running = Web(loop)
    try:
        yield running
    finally:
        running.close()
        IOLoop.clear_current()


MALFORMED = ("", "x", "2|", "2|1:0|", "2|99:0|1:0|1:a|1:b|c", "||")  # signed values
LANGUAGES = ("de", "de-DE", "fr-CA;q=0.5, de-DE;q=0.9", "x", "fr_FR")
BODY_ETAG = '"02083f4579e08a612425c0c1a17ee47add783b94"'  # SHA-1 of "body"

FEATURES: dict[str, list[bytes]] = {
    "cookies": [
        get("/cookies"),
        get("/cookies", "Cookie: a=b; c=d"),
        get("/cookies", 'Cookie: a="q\\"uo\\073ted"; b = c ;; d; =e; f=g=h; a=2'),
        get("/cookies", "Cookie: a=1; ünï=2; b@d=3; ok=\xe9"),
        get("/cookies", 'Cookie: a="open; b=c"; d="'),
        post("/cookies", b""),
    ],
    "cookies refused": [
        *(get(f"/cookies?kind={k}", method="PUT") for k in ("name", "value", "clear", "domain", "path", "samesite")),
        get("/cookies?kind=DOMAIN", method="PUT"),
        get("/cookies?kind=path&value=%2F%3B%20domain=evil", method="PUT"),
        get("/cookies?kind=unknown&value=x", method="PUT"),
    ],
    "signed cookies": [
        get("/signed/a"),
        get("/signed/a", "Cookie: a=" + signed("a", "välue")),
        get("/signed/b", "Cookie: b=" + signed("a", "value")),
        get("/signed/a", "Cookie: a=" + signed("a", "value")[:-1] + "x"),
        get("/signed/a", "Cookie: a=" + signed("a", "value", clock=lambda: time.time() - 32 * 86400)),
        get("/signed/a?min=1", "Cookie: a=" + signed("a", "value", version=1)),
        get("/signed/a?min=2", "Cookie: a=" + signed("a", "value", version=1)),
        get("/signed/a?min=1", "Cookie: a=" + signed("a", "value", version=1).replace("|", "|0", 1)),
        *(get("/signed/a?min=1", f"Cookie: a={text}") for text in MALFORMED),
    ],
    "redirect": [
        get("/redirect"),
        get("/redirect?permanent=1"),
        get("/redirect?status=307"),
        get("/redirect?to=http://a.b/c%3Fd"),
        get("/redirect?to=//host"),
        get("/redirect?status=200"),
    ],
    "entity tags": [
        get("/etag/"),
        get("/etag/", f"If-None-Match: {BODY_ETAG}"),
        get("/etag/", f"If-None-Match: W/{BODY_ETAG}"),
        get("/etag/", f'If-None-Match: "x", {BODY_ETAG}'),
        get("/etag/", "If-None-Match: *"),
        get("/etag/", 'If-None-Match: "x"'),
        get("/etag/", "If-None-Match: junk"),
        get("/etag/", f"If-None-Match: {BODY_ETAG}", method="HEAD"),
        get("/etag/", method="HEAD"),
        post("/etag/", b"", f"If-None-Match: {BODY_ETAG}"),
        get("/etag/own"),
        get("/etag/own", 'If-None-Match: "mine"'),
        get("/etag/long"),
        get("/etag/status"),
        get("/etag/post"),
        get("/noetag"),
        get("/noetag", f"If-None-Match: {BODY_ETAG}"),
    ],
    "authenticated": [
        get("/page"),
        get("/page?user=me"),
        get("/page?x=1&y=a%20b"),
        get("/page", method="HEAD"),
        post("/page", b""),
        post("/page?user=me", b""),
        get("/page/absolute?x=1"),
        get("/page/query"),
    ],
    "slashes": [
        get("/slash"), get("/slash/"), get("/slash?a=b"), get("/slash", method="HEAD"), post("/slash", b""),
        get("/unslash"), get("/unslash/"), get("/unslash/?a=b"), post("/unslash/", b""),
    ],
    "Finish": [get("/finish/bare"), get("/finish/given")],
    "reverse_url": [get("/article/5")],
    "rendering": [
        get("/rendered"),
        get("/rendered?text='%22"),
        get("/rendered", "Accept-Language: de-DE,de;q=0.9,en;q=0.8"),
    ],
    "UI modules": [get("/modular")],
    "locale": [
        get("/locale"),
        *(get("/locale", f"Accept-Language: {text}") for text in LANGUAGES),
        *(get(f"/locale?code={code}") for code in ("de_DE", "fr", "xx", "en_US")),
        get("/locale", "Accept-Language: fr;q=0, de-DE;q=0.1"),
    ],
    "static_url": [get("/static_url"), get("/static_url", "Host: example.com:81")],
    "JSON": [get("/json")],
    "decode_argument": [get("/latin/%e9?a=%e9"), get("/latin/plain?a=b")],
    "write_error": [get("/broken"), post("/broken", b"")],
    "methods of one's own": [get("/options", method="PROPFIND")],
    "a target by name": [get("/by/name")],
    "RedirectHandler": [
        get("/old/a/b/c"), get("/old/a/b?x=y&x=z"), get("/old/a/%C3%A9"), get("/temporary"), get("/temporary?q=1"),
        get("/open//evil.example"), get("/hosted/evil.example"), get("/hosted%5Cevil.example"), get("/hostedx"),
        get("/old/a/%7B0%7D"), post("/temporary", b""),
    ],
    "ErrorHandler": [get("/error"), post("/error", b"")],
    "hosts": [
        get("/who"),
        get("/who", "Host: nested.example"),
        get("/who", "Host: NESTED.example:80"),
        get("/who", "Host: xnested.example"),
        get("/matched"),
    ],
    "static files": [
        *(get(f"/files/{path}") for path in (
            "a.txt", "none.txt", "a.tar.gz", "sp%20ace.html", "noextension", "sub/index.html", "sub", "sub/", "empty",
            "empty/", "nothing", "a.txt/", "../outside", "..%2foutside", "%2e%2e/outside", "../files-secret/x",
            "sub/../a.txt", "/a.txt", "//a.txt", "a.txt%00", "fifo", "a.txt?x=y", "link_in", "link_out", "link_dir/x",
            "link_nowhere", "big.css",
        )),
        get("/files/a.txt", method="HEAD"),
        get("/files/big.css", method="HEAD"),
        get("/files/nothing", method="HEAD"),
        get("/static/a.txt"),
        get("/favicon.ico"),
        get("/robots.txt"),
        post("/files/a.txt", b""),
        get("//files/sub"),
    ],
    "ranges": [
        *(get("/files/a.txt", f"Range: bytes={text}") for text in (
            "0-0", "1-3", "5-", "-3", "-20", "0-9", "0-100", "9-9", "10-", "10-11", "-0", "5-3", "x", "1-2,4-5", "-",
            "1-x",
        )),
        get("/files/a.txt", "Range: lines=1-2"),
        get("/files/none.txt", "Range: bytes=0-"),
        get("/files/a.txt", "Range: bytes=1-3", method="HEAD"),
        get("/files/big.css", "Range: bytes=100000-299999"),
    ],
    "conditional requests for files": [
        get("/files/a.txt", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
        get("/files/a.txt", "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT"),
        get("/files/a.txt", "If-Modified-Since: Wed, 15 Nov 2023 22:13:20 GMT"),
        get("/files/a.txt", "If-Modified-Since: yesterday"),
        get("/files/a.txt", "If-None-Match: *"),
        get("/files/a.txt", 'If-None-Match: "x"'),
        get("/files/a.txt", 'If-None-Match: "x"', "If-Modified-Since: Wed, 15 Nov 2023 22:13:20 GMT"),
    ],
}  # fmt: skip

# By feature, the numbers of the requests whose answers differ, and how.
DIFFERENT: dict[str, dict[int, str]] = {
    "cookies refused": {8: "Tornado sets the cookie nevertheless"},
    "entity tags": {11: "ours compares an entity tag of one's own too (RFC 9110 13.1.2)"},
    "rendering": {1: "Jinja2 writes quotes as &#39; and &#34;"},
    "RedirectHandler": {
        2: "ours sends what is not ASCII as %XX (RFC 3986), Tornado as bare UTF-8",
        10: "ours says in Allow which methods there are (RFC 9110 15.5.6)",
    },
    "static files": {
        19: "403 as for other paths that cannot be, Tornado 500",
        33: "ours says in Allow which methods there are (RFC 9110 15.5.6)",
    },
}


def comparable(answer: Answer) -> tuple[Any, ...]:
    headers = sorted((name, value) for name, value in answer.headers if name not in ("Date", "Server"))
    return (answer.status, answer.reason, headers, answer.body)


@pytest.mark.parametrize("feature", FEATURES)
def test_same(web: Web, oracle: Any, directory: Path, feature: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    handlers, settings = application(pollux_web, pollux_web.routing, directory)
    server = web.serve(pollux_web.Application(handlers, **settings))

    async def main() -> list[list[Answer]]:
        addresses = (server.sockets[0].getsockname(), oracle)
        return [await ask_all(web, address, FEATURES[feature]) for address in addresses]

    ours, theirs = ([comparable(answer) for answer in answers] for answers in web.run(main()))
    differ = {
        number: f"{FEATURES[feature][number]!r}\n  ours:   {mine}\n  theirs: {other}"
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True))
        if mine != other
    }
    listed = DIFFERENT.get(feature, {})
    unlisted = [text for number, text in differ.items() if number not in listed]
    assert not unlisted, "\n".join(unlisted)
    assert sorted(listed) == sorted(differ), "no longer different: take it off the list"
