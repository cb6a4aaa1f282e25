"""Forms as handlers see them: arguments, files, cookies of the request; each compared with Tornado."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.web

import pollux_web
from tests.web.client import Web, get, post
from tests.web.oracle import ask_all, tornado_server

MULTIPART = "Content-Type: multipart/form-data; boundary=xx"


def handlers(web: Any) -> list[Any]:
    """Return the application, written once for both frameworks."""

    class Show(web.RequestHandler):  # type: ignore[misc]
        def get(self) -> None:
            self.write({name: morsel.value for name, morsel in self.request.cookies.items()})

        def post(self) -> None:
            files = {
                name: [[file["filename"], file.body.decode("latin-1"), file["content_type"]] for file in found]
                for name, found in self.request.files.items()
            }
            self.write({"a": self.get_arguments("a"), "body": self.get_body_arguments("a"), "files": files})

    return [("/", Show)]


def part(headers: str, content: bytes) -> bytes:
    return f"--xx\r\nContent-Disposition: form-data; {headers}\r\n\r\n".encode() + content + b"\r\n"


END = b"--xx--\r\n"
REQUESTS = {
    "fields": post(
        "/?a=0", part('name="a"', b" 1 ") + part('name="a"', b"2") + part('name="b"', b"3") + END, MULTIPART
    ),
    "files": post(
        "/",
        part('name="f"; filename="x.txt"\r\nContent-Type: text/plain', b"text")
        + part('name="f"; filename="y.bin"\r\nContent-Type: image/png', bytes(range(256)))
        + part('name="g"; filename="z"', b"")
        + part('name="empty"; filename=""\r\nContent-Type: application/octet-stream', b"")
        + END,
        MULTIPART,
    ),
    "quoted boundary": post("/", part('name="a"', b"1") + END, 'Content-Type: multipart/form-data; boundary="xx"'),
    "no form": post("/", part('name="a"', b"1") + END, "Content-Type: multipart/mixed; boundary=xx"),
    "invalid UTF-8": post("/", part('name="a"', b"\xff") + END, MULTIPART),
    "cut off": post("/", part('name="a"', b"1"), MULTIPART),
    "junk": post("/", b"junk", MULTIPART),
    "no boundary": post("/", part('name="a"', b"1") + END, "Content-Type: multipart/form-data"),
    "no name": post("/", part("x=y", b"1") + END, MULTIPART),
    "too many parts": post("/", part('name="a"', b"1") * 101 + END, MULTIPART),
    "put": post("/", part('name="a"', b"1") + END, MULTIPART, method="PUT"),
    "cookies": get("/", 'Cookie: a=1; b="x\\073y"; c', "Cookie: d=2"),
}
DIFFERENT = {
    "put": "ours says in Allow which methods there are",
    "cookies": "ours reads a Cookie header that is split (RFC 9113 8.2.3), Tornado joins the parts with a comma",
}


@pytest.fixture(scope="module")
def oracle() -> Iterator[Any]:
    with tornado_server(handlers(tornado.web)) as address:
        yield address


@pytest.mark.parametrize("name", REQUESTS)
def test_same(web: Web, oracle: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    server = web.serve(pollux_web.Application(handlers(pollux_web)))

    async def main() -> list[Any]:
        addresses = (server.sockets[0].getsockname(), oracle)
        return [(await ask_all(web, address, [REQUESTS[name]]))[0] for address in addresses]

    ours, theirs = (
        (answer.status, answer.reason, sorted(h for h in answer.headers if h[0] not in ("Date", "Server")), answer.body)
        for answer in web.run(main())
    )
    assert (ours == theirs) is (name not in DIFFERENT), f"{ours}\n{theirs}"


def test_a_bad_form_is_one_line_in_the_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    server = web.serve(pollux_web.Application(handlers(pollux_web)))
    caplog.set_level(logging.DEBUG)
    body = part("x=y", b"1") * 90 + END
    assert web.run(web.ask(server, post("/", body, MULTIPART))).status == 400
    assert len([record for record in caplog.records if record.name.startswith("pollux")]) == 1


def test_arguments_are_one_dict_that_may_be_changed(web: Web) -> None:
    """As programs do that put defaults there; query and body keep their own."""

    class Changing(pollux_web.RequestHandler):
        def post(self) -> None:
            assert self.request.arguments is self.request.arguments
            self.request.arguments["a"].append(b"more")
            self.request.arguments["new"] = [b"1"]
            self.write({"a": self.get_arguments("a"), "new": self.get_argument("new")})
            self.write({"q": self.get_query_arguments("a"), "b": self.get_body_arguments("a")})

    server = web.serve(pollux_web.Application([("/", Changing)]))
    form = post("/?a=q", b"a=b", "Content-Type: application/x-www-form-urlencoded")
    assert web.run(web.ask(server, form)).body == b'{"a": ["q", "b", "more"], "new": "1"}{"q": ["q"], "b": ["b"]}'
