"""One program for Tornado and Pollux, written once: only the imports differ. Both must tell the same story."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import tornado.httpserver
import tornado.web
import tornado.websocket

import pollux
import pollux_http
import pollux_web
import pollux_websocket

STACKS: dict[str, Any] = {
    "tornado": (tornado.web, tornado.websocket, tornado.httpserver.HTTPServer, asyncio.run),
    "pollux": (pollux_web, pollux_websocket, pollux_http.HTTPServer, pollux.run),
}


def handlers(web: Any, ws: Any, log: list[Any], over: asyncio.Event) -> list[Any]:
    """Return the application's rules; what its handlers see goes to `log`, and `over` is set when one is closed."""

    class Told(ws.WebSocketHandler):  # type: ignore[misc]
        def initialize(self, name: str = "") -> None:
            log.append(("initialize", name))

        def prepare(self) -> None:
            log.append(("prepare", self.ws_connection))

        def open(self, *args: Any, **kwargs: Any) -> None:
            log.append(("open", args, kwargs, self.selected_subprotocol, self.get_argument("q", None)))
            self.set_nodelay(True)

        def on_message(self, message: Any) -> Any:
            log.append(("message", message))
            if message == "close":
                self.close(4001, "bye")
                log.append(("closed", self.ws_connection))
            elif message == "plain close":
                self.close()
            elif message == "dict":
                self.write_message({"a": [1, "é"]})
            elif message == "raise":
                raise ZeroDivisionError
            elif message == "forbidden":
                for call in (self.finish, self.flush, lambda: self.write("x"), lambda: self.set_header("A", "b")):
                    try:
                        call()
                    except RuntimeError:
                        log.append("RuntimeError")
            elif isinstance(message, str) and message.startswith("slow"):
                return self.slowly(message)
            else:
                self.write_message(message, binary=isinstance(message, bytes))
            return None

        async def slowly(self, message: str) -> None:
            await asyncio.sleep(0)
            await self.write_message(message)
            log.append(("done", message))

        def on_pong(self, data: bytes) -> None:
            log.append(("pong", data))

        def on_ping(self, data: bytes) -> None:
            log.append(("ping", data))

        def select_subprotocol(self, subprotocols: list[str]) -> str | None:
            log.append(("subprotocols", subprotocols))
            return subprotocols[0] if subprotocols else None

        def on_close(self) -> None:
            log.append(("close", self.close_code, self.close_reason))
            try:
                self.write_message("x")
            except ws.WebSocketClosedError as error:
                log.append(type(error).__name__)
            over.set()

    class Guarded(Told):
        def get_current_user(self) -> Any:
            return self.get_argument("user", None)

        @web.authenticated  # type: ignore[untyped-decorator]
        async def get(self, *args: Any, **kwargs: Any) -> None:
            await super().get(*args, **kwargs)

    class Squeezed(Told):
        def get_compression_options(self) -> dict[str, Any]:
            return {"compression_level": 9, "mem_level": 5}

    return [
        (r"/plain/(\w*)/(.*)", Told, {"name": "n"}), (r"/named/(?P<word>.*)", Told), ("/guarded", Guarded),
        ("/squeezed", Squeezed),
    ]  # fmt: skip


async def talk(
    ws: Any, base: str, log: list[Any], over: asyncio.Event, path: str, messages: list[Any], **options: Any
) -> None:
    got: list[Any] = []
    connection = await ws.websocket_connect(base + path, **options)
    subprotocol = connection.selected_subprotocol  # Tornado forgets it when the connection closes
    for message in messages:
        if isinstance(message, tuple):
            connection.ping(message[0])
        else:
            await connection.write_message(message, binary=isinstance(message, bytes))
            if message not in ("close", "plain close", "raise", "forbidden"):
                got.append(await connection.read_message())
    if messages[-1:] in (["close"], ["plain close"], ["raise"]):
        got.append(await connection.read_message())
    else:
        connection.close(3000, "enough")
        got.append(await connection.read_message())
    await over.wait()
    connection.close()  # Tornado warns of one that was never closed from this side
    log.append(("client", got, connection.close_code, connection.close_reason, subprotocol))


SCENES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "echo": ("/plain/a/b%20c?q=1", ["é", b"\xff", "", "x" * 100_000], {}),
    "groups": ("/named/w", ["a"], {}),
    "subprotocols": ("/named/w", ["a"], {"subprotocols": ["one", "two"]}),
    "dict": ("/named/w", ["dict"], {}),
    "slow": ("/named/w", ["slow 1", "slow 2", "fast"], {}),
    "pings": ("/named/w", [(b"p",), "a"], {}),
    "compressed": ("/squeezed", ["x" * 1000, b"y" * 1000], {"compression_options": {}}),
    "guarded": ("/guarded?user=me", ["a"], {}),
    "forbidden": ("/named/w", ["forbidden", "a"], {}),
    "close": ("/named/w", ["close"], {}),
    "plain close": ("/named/w", ["plain close"], {}),
}


def story(stack: str, scene: str) -> list[Any]:
    web, ws, server_class, run = STACKS[stack]
    log: list[Any] = []
    over = asyncio.Event()

    async def main() -> None:
        server = server_class(web.Application(handlers(web, ws, log, over), login_url="/login"))
        server.listen(0, "127.0.0.1")
        sockets = server._sockets.values() if stack == "tornado" else server.sockets
        base = f"ws://127.0.0.1:{next(iter(sockets)).getsockname()[1]}"
        path, messages, options = SCENES[scene]
        async with asyncio.timeout(20):
            await talk(ws, base, log, over, path, messages, **options)
        server.stop()
        await server.close_all_connections()

    run(main())
    return log


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_same_story(scene: str) -> None:
    assert story("pollux", scene) == story("tornado", scene)


def status(stack: str, path: str, fields: dict[str, str]) -> int:
    """Return what a handshake with these fields is answered."""
    web, ws, server_class, run = STACKS[stack]
    log: list[Any] = []
    over = asyncio.Event()

    async def main() -> int:
        server = server_class(web.Application(handlers(web, ws, log, over), login_url="/login"))
        server.listen(0, "127.0.0.1")
        sockets = server._sockets.values() if stack == "tornado" else server.sockets
        reader, writer = await asyncio.open_connection(*next(iter(sockets)).getsockname())
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.stop()
        await server.close_all_connections()
        return int(answer.split()[1])

    found: int = run(main())
    return found


FIELDS = {
    "Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/named/x", {}), ("/named/x", {"Upgrade": "h2c"}), ("/named/x", {"Connection": "close"}),
        ("/named/x", {"Sec-WebSocket-Version": "99"}), ("/named/x", {"Origin": "http://a"}),
        ("/named/x", {"Origin": "http://b"}), ("/guarded", {}),
        ("/nowhere", {}),
    ],
)  # fmt: skip
def test_the_same_status(path: str, change: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert status("pollux", path, FIELDS | change) == status("tornado", path, FIELDS | change)
