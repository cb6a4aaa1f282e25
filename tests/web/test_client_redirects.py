"""Redirects on every backend: where they lead, and what goes along (RFC 9110 15.4)."""

from __future__ import annotations

from typing import Any

import pytest

from pollux_http import HTTPClientError, HTTPHeaders
from tests.web.client import Web
from tests.web.origins import OK, client, origin


def to(location: str, code: int = 302, body: bytes = b"elsewhere") -> bytes:
    head = f"HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_method_and_body(web: Web, method: str, code: int) -> None:
    becomes_get = (code == 303 and method != "HEAD") or (code in (301, 302) and method == "POST")
    body = b"body" if method in ("POST", "PUT") else None

    async def main() -> None:
        first = to("/there?a#b", code, b"" if method == "HEAD" else b"elsewhere")
        second = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        async with origin(None, first, second) as server, client() as http:
            pieces: list[bytes] = []
            lines: list[str] = []
            response = await http.fetch(
                f"{server.url}here", method=method, body=body, headers={"Content-Type": "text/plain", "X-A": "b"},
                streaming_callback=pieces.append, header_callback=lines.append,
            )  # fmt: skip
            before, after = server.requests
            assert before.line == f"{method} /here HTTP/1.1"
            assert after.line == f"{'GET' if becomes_get else method} /there?a HTTP/1.1"
            assert after.body == (b"" if becomes_get else body or b"")
            assert after.one("Content-Type") == (None if becomes_get else "text/plain")
            assert after.one("X-A") == "b"
            assert response.effective_url == f"{server.url}there?a"
            assert response.request.method == method
            assert response.request.url == f"{server.url}here"
            assert pieces == []
            assert lines[0] == "HTTP/1.1 200 OK\r\n"
            assert response.time_info["redirect"] > 0
            assert server.connections == 1

    web.run(main())


SECRETS = ["Authorization", "Cookie", "Proxy-Authorization"]


@pytest.mark.parametrize("same", [True, False])
def test_credentials_stay_with_their_origin(web: Web, same: bool) -> None:
    """Regressions: Tornado CVE-2026-49853, Twisted CVE-2022-21712. All values, and never again on the way back."""

    async def main() -> None:
        async with origin(None, OK) as other, client(defaults={"auth_username": "default"}) as http:
            headers = HTTPHeaders({"X-A": "b", "Host": "virtual"})
            for name in SECRETS:
                headers.add(name, "one")
                headers.add(name, "two")
            async with origin(None, to("/next" if same else other.url), OK) as server:
                response = await http.fetch(server.url.replace("//", "//user:pw@"), headers=headers)
                request = server.requests[1] if same else other.requests[0]
                assert server.requests[0].one("Host") == "virtual"
                assert request.one("Host") != "virtual"
                assert request.one("X-A") == "b"
                for name in SECRETS:
                    assert bool(request.all(name)) is same
                assert "pw" not in response.effective_url

    web.run(main())


def test_credentials_do_not_come_back(web: Web) -> None:
    async def main() -> None:
        async with client(defaults={"auth_username": "default"}) as http:

            async def serve(peer: Any) -> None:
                request = await peer.request()
                home.requests.append(request)
                await peer.send(OK if "back" in request.line else to(other.url))
                request = await peer.request()
                home.requests.append(request)
                await peer.send(OK)

            async def away(peer: Any) -> None:
                other.requests.append(await peer.request())
                await peer.send(to(f"{home.url}back".replace("//", "//evil:pw@")))

            async with origin(serve) as home, origin(away) as other:
                await http.fetch(home.url, headers={"Cookie": "a=b"})
                first, last = home.requests
                assert first.one("Authorization") is not None
                assert other.requests[0].all("Authorization") == other.requests[0].all("Cookie") == []
                assert last.line == "GET /back HTTP/1.1"
                assert last.all("Authorization") == last.all("Cookie") == []

    web.run(main())


def test_limits(web: Web) -> None:
    async def main() -> None:
        async with origin(None, *[to("/again")] * 20) as server, client() as http:
            with pytest.raises(HTTPClientError, match="HTTP 302: Moved") as caught:
                await http.fetch(server.url)
            assert len(server.requests) == 6
            assert caught.value.response is not None
            assert caught.value.response.body == b"elsewhere"
            server.requests.clear()
            assert (await http.fetch(server.url, max_redirects=1, raise_error=False)).code == 302
            assert len(server.requests) == 2
            assert (await http.fetch(server.url, max_redirects=0, raise_error=False)).code == 302
            response = await http.fetch(server.url, follow_redirects=False, raise_error=False)
            assert (response.code, response.headers["Location"]) == (302, "/again")
            assert len(server.requests) == 4
            assert server.connections == 1

    web.run(main())


def test_locations(web: Web) -> None:
    cases = {
        "next?q=1": "GET /a/next?q=1 HTTP/1.1",
        "../next": "GET /next HTTP/1.1",
        "?only": "GET /a/b?only HTTP/1.1",
        "/with space": "GET /with%20space HTTP/1.1",
        "/\xc3\xbc%2F": "GET /%C3%BC%2F HTTP/1.1",
    }

    async def main() -> None:
        for location, line in cases.items():
            async with origin(None, to(location), OK) as server, client() as http:
                await http.fetch(f"{server.url}a/b")
                assert server.requests[1].line == line

    web.run(main())


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "http://[bad/", "javascript:alert(1)"])
def test_bad_locations(web: Web, location: str) -> None:
    async def main() -> None:
        async with origin(None, to(location), OK) as server, client() as http:
            with pytest.raises(ValueError, match=r"(?i)url"):
                await http.fetch(server.url, raise_error=False)
            assert not http._active

    web.run(main())


def test_without_location_it_is_a_response(web: Web) -> None:
    async def main() -> None:
        answer = b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nok"
        async with origin(None, answer) as server, client() as http:
            response = await http.fetch(server.url, raise_error=False)
            assert (response.code, response.body) == (302, b"ok")

    web.run(main())


def test_long_bodies_of_redirects_are_not_read(web: Web) -> None:
    async def main() -> None:
        async with origin(None, OK) as other, client() as http:
            endless = f"HTTP/1.1 302 Found\r\nLocation: {other.url}\r\n\r\n".encode() + b"x" * 10_000_000
            async with origin(None, endless) as server:
                assert (await http.fetch(server.url)).body == b"ok"

    web.run(main())


def test_a_produced_body_cannot_be_sent_again(web: Web) -> None:
    async def main() -> None:
        async with origin(None, to("/next", 307), to("/next", 303), OK) as server, client() as http:
            options: dict[str, Any] = {"method": "POST", "body_producer": lambda write: write(b"x") and None}
            assert (await http.fetch(server.url, raise_error=False, **options)).code == 307
            assert (await http.fetch(server.url, **options)).body == b"ok"
            assert server.requests[-1].line == "GET /next HTTP/1.1"

    web.run(main())
