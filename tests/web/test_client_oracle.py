"""The same program on Tornado's client and on ours: only the module differs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import tornado.httpclient

from pollux_http import httpclient
from tests.web.client import Web
from tests.web.origins import OK, Peer, origin

MADE_BY_EACH = ("user-agent", "accept-encoding", "connection", "host")  # which differ, rightly


class Site:
    """Answers by path; remembers the requests."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            headers = sorted((k.lower(), v) for k, v in request.headers if k.lower() not in MADE_BY_EACH)
            self.seen.append((request.line, headers, request.body))
            path = request.line.split(" ")[1].partition("?")[0]
            if path.startswith("/status/"):
                code = path.rpartition("/")[2]
                head = "" if code in ("204", "304") else "Content-Length: 4\r\n"
                await peer.send(f"HTTP/1.1 {code} Reason\r\nX-A: 1\r\nX-A: 2\r\n{head}\r\n".encode())
                if head and not request.line.startswith("HEAD"):
                    await peer.send(b"body")
            elif path.startswith("/to/"):
                code = path.rpartition("/")[2]
                answer = f"HTTP/1.1 {code} Moved\r\nLocation: /end?a=b\r\nContent-Length: 0\r\n\r\n"
                await peer.send(answer.encode())
            elif path == "/loop":
                await peer.send(b"HTTP/1.1 302 Moved\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")
            elif path == "/chunked":
                await peer.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                )
            elif path == "/close":
                await peer.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
                return
            elif path == "/cut":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
                return
            elif path == "/drop":
                return
            elif path == "/bad":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc")
                return
            else:
                await peer.send(OK)


Scenario = Callable[[Any, Any, str], Awaitable[Any]]


async def outcome(module: Any, http: Any, url: str, *args: Any, **options: Any) -> Any:
    """What a fetch brings, in words."""
    try:
        response = await http.fetch(
            module.HTTPRequest(url, *args, **options) if args else url, **({} if args else options)
        )
    except module.HTTPClientError as error:
        response = error.response
        if response is None:
            return "HTTPClientError", error.code
    except Exception as error:
        return type(error).__name__
    where = response.effective_url.split("/", 3)[3]
    return (
        response.code,
        response.reason,
        response.headers.get_list("X-A"),
        response.body,
        where,
        response.error is None,
    )


FETCHES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"status {code}": (f"status/{code}", {}) for code in (200, 201, 204, 206, 304, 400, 404, 500, 599)},
    **{
        f"{method} {code}": (f"to/{code}", {"method": method, "body": b"x" if method == "POST" else None})
        for method in ("GET", "HEAD", "POST")
        for code in (300, 301, 302, 303, 307, 308)
    },
    "loop": ("loop", {}),
    "no redirects": ("loop", {"follow_redirects": False}),
    "max_redirects": ("loop", {"max_redirects": 2}),
    "raise_error": ("status/404", {"raise_error": False}),
    "chunked": ("chunked", {}),
    "until the end": ("close", {}),
    "cut": ("cut", {}),
    "drop": ("drop", {}),
    "drop, not raised": ("drop", {"raise_error": False}),
    "bad": ("bad", {}),
    "head": ("status/200", {"method": "HEAD"}),
    "post text": ("", {"method": "POST", "body": "é"}),
    "put": ("", {"method": "PUT", "body": b"", "headers": {"Content-Type": "a/b"}}),
    "no body": ("", {"method": "POST"}),
    "body": ("", {"method": "GET", "body": b"x"}),
    "unknown": ("", {"method": "BREW"}),
    "nonstandard": ("", {"method": "BREW", "allow_nonstandard_methods": True}),
    "auth": ("", {"auth_username": "u", "auth_password": "p"}),
    "auth alone": ("", {"auth_username": "u"}),
    "digest": ("", {"auth_username": "u", "auth_password": "p", "auth_mode": "digest"}),
    "since": ("", {"if_modified_since": 1e9}),
    "headers": ("a?b=c#d", {"headers": {"x-a": "1", "X-B": "2"}}),
    "expect": ("", {"method": "POST", "body": b"x"}),
    "source": ("", {"network_interface": "127.0.0.1"}),
    "no source": ("", {"network_interface": "lo"}),
}


async def fetches(module: Any, http: Any, url: str) -> Any:
    return [await outcome(module, http, url + path, **options) for path, options in FETCHES.values()]


async def streams(module: Any, http: Any, url: str) -> Any:
    pieces: list[bytes] = []
    lines: list[str] = []

    async def slowly(piece: bytes) -> None:
        await asyncio.sleep(0)
        pieces.append(piece)

    found = [
        await outcome(module, http, f"{url}chunked", streaming_callback=pieces.append, header_callback=lines.append),
        await outcome(module, http, f"{url}to/302", streaming_callback=pieces.append, header_callback=lines.append),
        await outcome(module, http, f"{url}close", streaming_callback=slowly),
    ]
    return found, b"".join(pieces), lines


async def produces(module: Any, http: Any, url: str) -> Any:
    async def produce(write: Any) -> None:
        await write(b"abc")
        await write(b"de")

    return [
        await outcome(module, http, url, method="POST", body_producer=produce),
        await outcome(module, http, url, method="PUT", body_producer=produce, headers={"Content-Length": "5"}),
        await outcome(module, http, url, method="GET", body_producer=produce),
    ]


async def requests(module: Any, http: Any, url: str) -> Any:
    request = module.HTTPRequest(url, "POST", {"A": "b"}, "text")
    found = [request.method, request.body, dict(request.headers)]
    request.body, request.headers = "é", None
    found += [request.body, dict(request.headers), module.HTTPRequest._DEFAULTS]
    response = await http.fetch(request)
    found += [response.request is request, response.buffer.read()]
    made = module.HTTPResponse(request, 418, reason=None)
    found += [made.code, str(made.error), made.body, made.buffer is None, dict(made.headers), made.effective_url == url]
    error = module.HTTPError(404)
    return [*found, str(error), repr(error), error.code, error.message, error.response, error.args]


SCENARIOS: list[Scenario] = [fetches, streams, produces, requests]


async def played(module: Any, scenario: Scenario, **options: Any) -> Any:
    site = Site()
    async with origin(site) as server:
        http = module.AsyncHTTPClient(force_instance=True, **options)
        try:
            return await scenario(module, http, server.url), site.seen
        finally:
            http.close()
            await asyncio.sleep(0)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_as_tornado_does(web: Web, scenario: Scenario) -> None:
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        theirs = runner.run(played(tornado.httpclient, scenario))
    web.loop.make_current()
    ours = web.run(played(httpclient, scenario))
    assert ours[0] == theirs[0]
    assert len(ours[1]) == len(theirs[1])
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert mine == other
