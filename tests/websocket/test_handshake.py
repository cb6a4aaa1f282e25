"""The opening handshake: without I/O, and as a server on every backend answers it."""

from __future__ import annotations

from typing import Any

import pytest

from pollux_http import HTTPHeaders
from pollux_web import Application, RequestHandler
from pollux_websocket import HandshakeError, WebSocketHandler
from pollux_websocket.handshake import ClientHandshake, accept_key, read_offer
from tests.web.client import Web, get, post
from tests.websocket.wire import ACCEPT, KEY, OPENING, connect, frame

FIELDS = dict(line.split(": ") for line in OPENING)


def test_rfc_example() -> None:
    """RFC 6455 1.3."""
    assert accept_key(KEY) == ACCEPT


def test_an_offer() -> None:
    headers = HTTPHeaders(FIELDS)
    headers["Connection"] = "keep-alive, Upgrade"
    headers.add("Sec-WebSocket-Protocol", "chat, superchat")
    headers.add("Sec-WebSocket-Protocol", "third")
    headers["Origin"] = "http://a"
    offer = read_offer("GET", True, headers)
    assert (offer.key, offer.origin) == (KEY, "http://a")
    assert offer.subprotocols == ["chat", "superchat", "third"]
    assert offer.extensions == []
    headers["Sec-WebSocket-Version"] = "8"
    assert read_offer("GET", True, headers).origin is None
    headers["Sec-WebSocket-Origin"] = "http://b"
    assert read_offer("GET", True, headers).origin == "http://b"


WRONG: list[tuple[dict[str, str | None], int, str]] = [
    ({"Upgrade": None}, 400, "Upgrade"),
    ({"Upgrade": "notwebsocket"}, 400, "Upgrade"),
    ({"Upgrade": "websockets, h2c"}, 400, "Upgrade"),
    ({"Connection": "keep-alive"}, 400, "Connection"),
    ({"Connection": "notupgrade"}, 400, "Connection"),
    ({"Sec-WebSocket-Version": None}, 426, "13, 8"),
    ({"Sec-WebSocket-Version": "7"}, 426, "13, 8"),
    ({"Sec-WebSocket-Version": "13, 8"}, 426, "13, 8"),
    ({"Sec-WebSocket-Version": "+13"}, 426, "13, 8"),
    ({"Sec-WebSocket-Version": "013"}, 426, "13, 8"),
    ({"Sec-WebSocket-Key": None}, 400, "16 bytes"),
    ({"Sec-WebSocket-Key": ""}, 400, "16 bytes"),
    ({"Sec-WebSocket-Key": "AAAA"}, 400, "16 bytes"),
    ({"Sec-WebSocket-Key": KEY + "!"}, 400, "16 bytes"),
    ({"Sec-WebSocket-Key": "é" * 24}, 400, "16 bytes"),
    ({"Sec-WebSocket-Protocol": "caf\xe9"}, 400, "tokens"),
    ({"Sec-WebSocket-Protocol": "a b"}, 400, "tokens"),
    ({"Sec-WebSocket-Protocol": "a, a"}, 400, "tokens"),
    ({"Sec-WebSocket-Extensions": "permessage-deflate; ="}, 400, "Extensions"),
]


@pytest.mark.parametrize(("change", "status", "words"), WRONG)
def test_wrong_offers(change: dict[str, str | None], status: int, words: str) -> None:
    headers = HTTPHeaders({name: value for name, value in (FIELDS | change).items() if value is not None})
    with pytest.raises(HandshakeError, match=words) as caught:
        read_offer("GET", True, headers)
    assert caught.value.status == status


def test_only_get_of_http_1_1() -> None:
    with pytest.raises(HandshakeError) as caught:
        read_offer("POST", True, HTTPHeaders(FIELDS))
    assert caught.value.status == 405
    with pytest.raises(HandshakeError, match="Upgrade"):
        read_offer("GET", False, HTTPHeaders(FIELDS))


def answered(handshake: ClientHandshake, **change: str | None) -> Any:
    fields = {
        "Upgrade": "WebSocket",
        "Connection": "upgrade",
        "Sec-WebSocket-Accept": accept_key(handshake.fields()["Sec-WebSocket-Key"]),
    }
    changed = {**fields, **{name.replace("_", "-"): value for name, value in change.items()}}
    return handshake.check(HTTPHeaders({name: value for name, value in changed.items() if value is not None}))


def test_answers() -> None:
    assert answered(ClientHandshake()) == (None, None)
    assert answered(ClientHandshake(["a", "b"]), Sec_WebSocket_Protocol="b") == ("b", None)
    handshake = ClientHandshake(["a"], {})
    assert handshake.fields()["Sec-WebSocket-Protocol"] == "a"
    assert answered(handshake, Sec_WebSocket_Extensions="permessage-deflate")[1] is not None
    assert ClientHandshake().fields() != ClientHandshake().fields(), "a key is new each time"


@pytest.mark.parametrize(
    "change",
    [
        {"Upgrade": None}, {"Upgrade": "h2c"}, {"Connection": "close"}, {"Sec_WebSocket_Accept": None},
        {"Sec_WebSocket_Accept": ACCEPT}, {"Sec_WebSocket_Protocol": "c"}, {"Sec_WebSocket_Protocol": "a,b"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"}, {"Sec_WebSocket_Extensions": ";"},
    ],
)  # fmt: skip
def test_wrong_answers(change: dict[str, str | None]) -> None:
    with pytest.raises(HandshakeError):
        answered(ClientHandshake(["a", "b"]), **change)


@pytest.mark.parametrize("subprotocols", [["a b"], ["a", "a"], ["é"], [""]])
def test_wrong_subprotocols(subprotocols: list[str]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        ClientHandshake(subprotocols)


# A server


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, isinstance(message, bytes))


class Choosy(Echo):
    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "b" if "b" in subprotocols else "never offered" if "c" in subprotocols else None

    def open(self) -> None:
        self.write_message(str(self.selected_subprotocol))


class Plain(RequestHandler):
    def get(self) -> None:
        self.write("plain")


class Dressed(Echo):
    def prepare(self) -> None:
        self.set_header("X-Own", "yes")
        self.set_cookie("a", "b")
        if self.get_argument("no", None):
            self.set_status(401)
            self.finish("no")


APPLICATION = Application([("/", Echo), ("/choosy", Choosy), ("/plain", Plain), ("/dressed", Dressed)])


@pytest.mark.parametrize(("change", "status", "words"), WRONG)
def test_what_a_server_answers(web: Web, change: dict[str, str | None], status: int, words: str) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        client = await web.connect(server)
        fields = {name: value for name, value in (FIELDS | change).items() if value is not None}
        answer = await client.ask(get("/", *(f"{name}: {value}" for name, value in fields.items())))
        assert answer.status == status
        assert words in answer.body.decode()
        if status == 426:
            assert answer.one("Sec-WebSocket-Version") == "13, 8"
            assert answer.one("Upgrade") == "websocket"

    web.run(main())


@pytest.mark.parametrize(
    ("version", "field", "origin", "host", "status"),
    [
        (13, "Origin", "http://a", "a", 101),
        (13, "Origin", "https://A:8443", "a:8443", 101),
        (13, "Origin", "http://a:80", "a", 403),
        (13, "Origin", "http://evil", "a", 403),
        (13, "Origin", "http://a.evil", "a", 403),
        (13, "Origin", "http://a@evil", "a", 403),
        (13, "Origin", "null", "a", 403),
        (13, "Origin", "", "a", 403),
        (13, "Origin", "a", "a", 403),
        (13, "Sec-WebSocket-Origin", "http://evil", "a", 101),
        (8, "Sec-WebSocket-Origin", "http://a", "a", 101),
        (8, "Sec-WebSocket-Origin", "http://evil", "a", 403),
    ],
)
def test_origins(web: Web, version: int, field: str, origin: str, host: str, status: int) -> None:
    async def main() -> None:
        client = await web.connect(web.serve(APPLICATION))
        lines = [*OPENING[:3], f"Sec-WebSocket-Version: {version}", f"{field}: {origin}", f"Host: {host}"]
        assert (await client.ask(get("/", *lines))).status == status

    web.run(main())


def test_two_origins_are_refused(web: Web) -> None:
    async def main() -> None:
        client = await web.connect(web.serve(APPLICATION))
        answer = await client.ask(get("/", *OPENING, "Origin: http://evil", "Origin: http://a"))
        assert answer.status == 403

    web.run(main())


def test_an_upgrade_with_a_body_is_refused(web: Web) -> None:
    """aiohttp CVE-2026-69243."""

    async def main() -> None:
        server = web.serve(APPLICATION)
        for lines in (("Content-Length: 3",), ("Transfer-Encoding: chunked",)):
            client = await web.connect(server)
            assert (await client.ask(get("/", *OPENING, *lines))).status == 400
        client = await web.connect(server)
        assert (await client.ask(post("/", b"", *OPENING))).status in (400, 403, 405)

    web.run(main())


def test_http_goes_on_after_a_refusal_and_beside(web: Web) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        client = await web.connect(server)
        assert (await client.ask(get("/", *OPENING[:3], "Sec-WebSocket-Version: 99"))).status == 426
        assert (await web.ask(server, get("/plain"))).body == b"plain"
        assert (await web.ask(server, get("/plain", *OPENING))).body == b"plain"

    web.run(main())


def test_what_follows_the_handshake_at_once_is_received(web: Web) -> None:
    async def main() -> None:
        client = await web.connect(web.serve(APPLICATION))
        await client.send(get("/", *OPENING) + frame(0x81, b"early"))
        assert (await client.answer()).status == 101
        assert await client.exactly(7) == b"\x81\x05early"

    web.run(main())


def test_subprotocols(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        for offered, chosen in (("a, b", "b"), ("a", None)):
            client = await web.connect(server)
            answer = await client.ask(get("/choosy", *OPENING, f"Sec-WebSocket-Protocol: {offered}"))
            assert answer.one("Sec-WebSocket-Protocol") == chosen
            assert (await client.exactly(2 + len(str(chosen))))[2:] == str(chosen).encode()
        answer = await web.ask(server, get("/choosy", *OPENING, "Sec-WebSocket-Protocol: c"))
        assert answer.status == 500
        assert "never offered" in caplog.text

    web.run(main())


def test_headers_and_prepare(web: Web) -> None:
    async def main() -> None:
        server = web.serve(APPLICATION)
        client = await web.connect(server)
        answer = await client.ask(get("/dressed", *OPENING))
        assert (answer.status, answer.one("X-Own"), answer.one("Set-Cookie")) == (101, "yes", "a=b; Path=/")
        assert answer.one("Content-Type") is None
        refused = await web.ask(server, get("/dressed?no=1", *OPENING))
        assert (refused.status, refused.body) == (401, b"no")
        peer = await connect(web, server, path="/dressed")
        await peer.send(frame(0x81, b"x"))
        assert (await peer.frame()).payload == b"x"

    web.run(main())
