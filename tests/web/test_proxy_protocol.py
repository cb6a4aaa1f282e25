"""The PROXY protocol, and the headers in which proxies speak of their clients."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_http import HTTPHeaders, HTTPInputError, HTTPServerRequest
from pollux_http.forwarded import Forwarded
from pollux_http.proxy_protocol import parse_proxy_header
from tests.web.client import Web, get

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 80)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack("!HH", 4711, 80)

GOOD = {
    "v1": (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n", ("203.0.113.7", 4711)),
    "v1, IPv6": (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n", ("2001:db8::7", 4711)),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1, unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2": (v2(0x21, 0x11, IPV4), ("203.0.113.7", 4711)),
    "v2, IPv6": (v2(0x21, 0x21, IPV6), ("2001:db8::7", 4711)),
    "v2 with extensions": (v2(0x21, 0x11, IPV4 + b"\x04\0\x01x"), ("203.0.113.7", 4711)),
    "v2, local": (v2(0x20, 0x00, b""), None),
    "v2, local with addresses": (v2(0x20, 0x11, IPV4), None),
    "v2, Unix": (v2(0x21, 0x31, bytes(216)), None),
}


@pytest.mark.parametrize(("header", "address"), GOOD.values(), ids=list(GOOD))
def test_good_headers_whole_and_byte_by_byte(header: bytes, address: tuple[str, int] | None) -> None:
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    assert parse_proxy_header(header + b"GET") == (address, b"GET")
    assert parse_proxy_header(header + bytes(200)) == (address, bytes(200))


BAD = [
    b"GET / HTTP/1.1\r\n", b"PROXY\r\n", b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", b"PROXY TCP4 1.2.3.999 1.2.3.4 1 2\r\n", b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
    "PROXY TCP4 1.2.3.4 1.2.3.4 \u0661 2\r\n".encode(), b"PROXY TCP4 " + b"1" * 100, b"\n" + SIGNATURE,
    v2(0x11, 0x11, IPV4), v2(0x22, 0x11, IPV4), v2(0x21, 0x11, IPV4[:11]), v2(0x21, 0x21, IPV4),
    SIGNATURE + b"\x21\x11\xff\xff",
]  # fmt: skip


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_an_error(data: bytes) -> None:
    with pytest.raises(HTTPInputError):
        parse_proxy_header(data)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"PROXY " + data + b"\r\n")
       | st.binary(max_size=300).map(lambda data: SIGNATURE + data))  # fmt: skip
@settings(max_examples=300, deadline=None, database=None)
def test_anything_is_a_header_incomplete_or_an_error(data: bytes) -> None:
    try:
        found = parse_proxy_header(data)
    except HTTPInputError:
        return
    assert found is None or data.endswith(found[1])


def who(request: HTTPServerRequest) -> None:
    request.connection.respond(body=f"{request.remote_ip} {request.protocol} {request.uri}".encode())


@pytest.mark.parametrize("split", [False, True])
def test_a_server_that_expects_the_header(web: Web, split: bool) -> None:
    server = web.serve(who, proxy_protocol=True)

    async def main() -> None:
        for name, ip in (("v1", "203.0.113.7"), ("v2, IPv6", "2001:db8::7"), ("v2, local", "127.0.0.1")):
            header = GOOD[name][0]
            client = await web.connect(server)
            if split:
                await client.send(header[:7])
                while len(server._connections) == 0:
                    await asyncio.sleep(0)
                await client.send(header[7:] + get("/1"))
            else:
                await client.send(header + get("/1"))
            assert (await client.answer()).body == f"{ip} http /1".encode()
            assert (await client.ask(get("/2"))).body == f"{ip} http /2".encode()
            client.close()
        client = await web.connect(server)
        await client.send(get("/evil"))
        assert await client.rest() == b""

    web.run(main())


def test_a_header_that_is_late_or_never_comes(virtual_web: Web) -> None:
    server = virtual_web.serve(who, proxy_protocol=True, header_timeout=5.0)

    async def main() -> None:
        for data in (b"", b"PROXY TCP4"):
            client = await virtual_web.connect(server)
            await client.send(data)
            assert await client.rest() == b""

    virtual_web.run(main())


# Headers of proxies

PROXIES = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.1.2.3", {"X-Forwarded-For": "203.0.113.7"}, ("203.0.113.7", "http")),
        ("10.1.2.3", {"X-Forwarded-For": "1.1.1.1, 203.0.113.7, 10.9.9.9"}, ("203.0.113.7", "http")),
        ("::ffff:10.1.2.3", {"X-Forwarded-For": "203.0.113.7"}, ("203.0.113.7", "http")),
        ("10.1.2.3", {"X-Forwarded-For": "10.4.4.4, 10.5.5.5"}, ("10.4.4.4", "http")),
        ("10.1.2.3", {"X-Forwarded-For": "evil, 10.5.5.5"}, ("10.5.5.5", "http")),
        ("10.1.2.3", {"X-Forwarded-For": "evil"}, ("10.1.2.3", "http")),
        ("10.1.2.3", {"X-Forwarded-For": ""}, ("10.1.2.3", "http")),
        ("10.1.2.3", {"X-Real-Ip": "203.0.113.9"}, ("203.0.113.9", "http")),
        ("10.1.2.3", {"X-Real-Ip": "<script>"}, ("10.1.2.3", "http")),
        ("10.1.2.3", {"X-Forwarded-Proto": "https"}, ("10.1.2.3", "https")),
        ("10.1.2.3", {"X-Forwarded-Proto": "http, HTTPS"}, ("10.1.2.3", "https")),
        ("10.1.2.3", {"X-Forwarded-Proto": "javascript"}, ("10.1.2.3", "http")),
        ("10.1.2.3", {"X-Scheme": "https"}, ("10.1.2.3", "https")),
        ("2001:db8::1", {"X-Forwarded-For": "203.0.113.7"}, ("203.0.113.7", "http")),
        (None, {"X-Forwarded-For": "203.0.113.7"}, ("203.0.113.7", "http")),
        ("203.0.113.1", {"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "::1"}, ("203.0.113.1", "http")),
        ("203.0.113.1", {"X-Forwarded-Proto": "https"}, ("203.0.113.1", "http")),
        ("192.0.2.2", {"X-Forwarded-For": "127.0.0.1"}, ("192.0.2.2", "http")),
    ],
)  # fmt: skip
def test_forwarded(peer: str | None, headers: dict[str, str], expected: tuple[str | None, str]) -> None:
    assert Forwarded(PROXIES).origin(HTTPHeaders(headers), peer, "http") == expected


def test_everybody_is_believed_if_so_said() -> None:
    headers = HTTPHeaders({"X-Forwarded-For": "203.0.113.7, 192.0.2.9"})
    assert Forwarded(["*"]).origin(headers, "198.51.100.1", "https") == ("192.0.2.9", "https")
    assert Forwarded(["*"], ["192.0.2.9"]).origin(headers, "198.51.100.1", "http") == ("203.0.113.7", "http")


@pytest.mark.parametrize("name", ["proxy.example", "10.0.0.0/33", "", "10.0.0.1:80"])
def test_a_proxy_is_an_address(name: str) -> None:
    with pytest.raises(ValueError, match="a trusted proxy is an IP address or a network"):
        Forwarded([name])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "127.0.0.1 http"), ({"xheaders": True}, "203.0.113.7 https"),
        ({"proxies": ["127.0.0.1"]}, "203.0.113.7 https"),
        ({"proxies": ["192.0.2.1"]}, "127.0.0.1 http"), ({"proxies": [], "xheaders": True}, "127.0.0.1 http"),
    ],
)  # fmt: skip
def test_a_server_believes_whom_it_is_told_to(web: Web, options: dict[str, object], expected: str) -> None:
    server = web.serve(who, **options)

    async def main() -> None:
        client = await web.connect(server)
        for data in (get("/", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"),) * 2:
            assert (await client.ask(data)).body == f"{expected} /".encode()

    web.run(main())
