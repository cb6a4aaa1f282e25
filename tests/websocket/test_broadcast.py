"""`broadcast` on every backend: one frame for all, whatever was agreed on compression; slow readers, ends, order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pollux_web import Application
from pollux_websocket import WebSocketHandler, broadcast, websocket_connect
from pollux_websocket.deflate import Agreement
from pollux_websocket.protocol import make_protocol
from tests.web.client import Web
from tests.websocket.wire import Frame, connect

TEXT = "so it goes, " * 50


class Room(WebSocketHandler):
    """Everybody who is there."""

    def initialize(self, room: dict[str, Room]) -> None:
        self.room = room
        self.left = asyncio.get_running_loop().create_future()

    def open(self, name: str) -> None:
        self.name = name
        self.room[name] = self

    def on_message(self, message: Any) -> None:
        self.write_message(f"only {self.name}: {message}")

    def on_close(self) -> None:
        del self.room[self.name]
        self.left.set_result(None)

    def get_compression_options(self) -> dict[str, Any] | None:
        return {} if self.get_query_argument("compressed", "") else None


def serve(web: Web, room: dict[str, Room], **settings: Any) -> Any:
    return web.serve(Application([(r"/(\w+)", Room, {"room": room})], **settings))


def test_one_message_to_all(web: Web) -> None:
    room: dict[str, Room] = {}

    async def main() -> None:
        server = serve(web, room)
        peers = [await connect(web, server, path=f"/p{number}") for number in range(5)]
        handlers = [room[f"p{number}"] for number in range(5)]
        handlers[1].write_message("before")
        handlers[4].close(4000)
        assert broadcast(handlers, "hello") == 4
        handlers[1].write_message("after")
        assert broadcast(room.values(), b"\xff", binary=True) == 4
        assert broadcast(set(handlers), {"a": 1}) == 4
        assert broadcast([], "nobody") == 0
        for number, peer in enumerate(peers[:4]):
            expected = [b"before", b"hello", b"after"] if number == 1 else [b"hello"]
            frames = [*(Frame(0x81, text) for text in expected), Frame(0x82, b"\xff"), Frame(0x81, b'{"a": 1}')]
            assert [await peer.frame() for _ in frames] == frames
        assert await peers[4].frame() == Frame(0x88, b"\x0f\xa0")
        peers[4].client.close()
        await handlers[4].left
        assert broadcast(handlers, "x" * 100_000) == 4, "of a connection that is closed nothing is left"
        assert await peers[0].frame() == Frame(0x81, b"x" * 100_000)

    web.run(main())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"server_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"server_max_window_bits": 10, "client_no_context_takeover": True},
    ],
    ids=["takeover", "no takeover", "window 9", "window 10"],
)
def test_compressed(web: Web, options: dict[str, Any]) -> None:
    """Between messages of a connection's own, which refer to what was sent before."""
    room: dict[str, Room] = {}

    async def main() -> None:
        server = serve(web, room)
        port = server.sockets[0].getsockname()[1]
        clients = []
        for name, compression in (("a", options), ("b", {}), ("c", options), ("d", None)):
            url = f"ws://127.0.0.1:{port}/{name}?compressed=yes"
            clients.append((name, await websocket_connect(url, compression_options=compression)))
        for _ in range(3):
            for _, client in clients:
                client.write_message(TEXT)
            for name, client in clients:
                assert await client.read_message() == f"only {name}: {TEXT}"
            for message in (TEXT, "", TEXT + "!"):
                assert broadcast(room.values(), message) == 4
                for _, client in clients:
                    assert await client.read_message() == message

    web.run(main())


def test_what_is_alike_is_made_once() -> None:
    frames: dict[object, bytes] = {}
    agreements = [None, Agreement(), Agreement(True), Agreement(server_max_window_bits=10)]
    protocols = [make_protocol(False, 1000, agreement) for agreement in (*agreements, *agreements)]
    made = [protocol.shared_message(b"x" * 100, False, frames) for protocol in protocols]
    assert len({id(frame) for frame in made}) == 3, "plain, window 15, window 10"
    assert made[1] is made[2], "whether the window is kept makes no difference"
    client = make_protocol(True, 1000, None)
    assert client.shared_message(b"x", False, frames) != client.shared_message(b"x", False, frames), "two keys"


def test_a_slow_reader_holds_nobody_and_is_cut_off_alone(web: Web) -> None:
    room: dict[str, Room] = {}

    async def main() -> None:
        server = serve(web, room, websocket_max_unsent=1 << 20)
        slow = await connect(web, server, path="/slow", receive_buffer=65536)
        fast = [await connect(web, server, path=f"/fast{number}") for number in range(2)]
        stuck = room["slow"]
        count = 0
        while "slow" in room:
            count += 1
            await asyncio.sleep(0)  # nothing below waits if all is there at once
            broadcast(list(room.values()), bytes([count % 256]) * 300_000, binary=True)
            for peer in fast:
                assert await peer.frame() == Frame(0x82, bytes([count % 256]) * 300_000)
            assert stuck._connection is not None
            assert stuck._connection.stream.unsent <= (1 << 20) + 300_014
        assert set(room) == {"fast0", "fast1"}
        assert count > 3
        slow.client.close()

    web.run(main())


def test_clients_may_broadcast_too(web: Web) -> None:
    room: dict[str, Room] = {}

    async def main() -> None:
        port = serve(web, room).sockets[0].getsockname()[1]
        clients = [await websocket_connect(f"ws://127.0.0.1:{port}/{name}") for name in "ab"]
        assert broadcast(clients, "hello") == 2
        assert [await client.read_message() for client in clients] == ["only a: hello", "only b: hello"]

    web.run(main())


@pytest.mark.parametrize("message", [1, None, b"\xff"])
def test_what_cannot_be_sent_is_sent_to_nobody(web: Web, message: Any) -> None:
    room: dict[str, Room] = {}

    async def main() -> None:
        peer = await connect(web, serve(web, room), path="/a")
        with pytest.raises((TypeError, ValueError)):
            broadcast(room.values(), message)
        broadcast(room.values(), "good")
        assert await peer.frame() == Frame(0x81, b"good")

    web.run(main())
