"""Starlette's and FastAPI's WebSockets as they are released, on every backend; the client is the library websockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import websockets
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket
from websockets.asyncio.client import connect

from tests.web.asgi_parts import any_kind, errors
from tests.web.client import Web, get
from tests.websocket.wire import OPENING


class Chat(WebSocketEndpoint):
    """Starlette's style of callbacks."""

    encoding = "json"

    async def on_connect(self, websocket: Any) -> None:
        subprotocols = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=subprotocols[0] if subprotocols else None, headers=[(b"x-chat", b"1")])

    async def on_receive(self, websocket: Any, data: Any) -> None:
        await websocket.send_json({"got": data, "started": websocket.state.started})

    async def on_disconnect(self, websocket: Any, close_code: int) -> None:
        websocket.state.codes.append(close_code)


async def iterating(websocket: StarletteWebSocket) -> None:
    """Starlette's style of iteration."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
    websocket.state.codes.append("iterated")


async def refusing(websocket: StarletteWebSocket) -> None:
    """Answer by a response of its own."""

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"go", b" ", b"away"):
            yield part

    if "stream" in websocket.query_params:
        await websocket.send_denial_response(StreamingResponse(parts(), status_code=429))
    else:
        await websocket.send_denial_response(JSONResponse({"error": "who are you"}, status_code=401))


class Marking:
    """A middleware that wraps `send`, as they do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def marking(message: Any) -> None:
            if message["type"] in ("websocket.accept", "http.response.start"):
                message["headers"] = [*message.get("headers", ()), (b"x-marked", b"yes")]
            await send(message)

        await self.app(scope, receive, marking)


def starlette(codes: list[Any]) -> Any:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"started": True, "codes": codes}

    async def page(request: Any) -> JSONResponse:
        return JSONResponse("page")

    routes = [
        Route("/", page), WebSocketRoute("/chat", Chat), WebSocketRoute("/upper", iterating),
        WebSocketRoute("/refused", refusing),
    ]  # fmt: skip
    return Starlette(routes=routes, middleware=[Middleware(Marking)], lifespan=lifespan)


def url(server: Any, path: str) -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"


async def until(codes: list[Any], count: int) -> None:
    while len(codes) < count:
        await asyncio.sleep(0)


def test_starlette(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    codes: list[Any] = []
    server = web.serve(any_kind(starlette(codes)))

    async def main() -> None:
        async with connect(url(server, "/chat"), subprotocols=["one", "two"], proxy=None) as chat:  # type: ignore[list-item]
            assert chat.subprotocol == "one"
            assert chat.response is not None
            assert (chat.response.headers["x-chat"], chat.response.headers["x-marked"]) == ("1", "yes")
            for number in range(3):
                await chat.send(f'{{"a": {number}}}')
                assert await chat.recv() == f'{{"got":{{"a":{number}}},"started":true}}'
            await chat.close(4000, "enough")
        await until(codes, 1)
        async with connect(url(server, "/upper"), proxy=None) as upper:
            await upper.send("é" * 100_000)
            assert await upper.recv() == "É" * 100_000
        await until(codes, 2)
        assert codes == [4000, "iterated"]
        assert (await web.ask(server, get("/"))).body == b'"page"'
        await server.shutdown(1)

    web.run(main())
    assert errors(caplog) == []


def test_starlettes_refusals(web: Web) -> None:
    server = web.serve(any_kind(starlette([])))

    async def main() -> None:
        client = await web.connect(server)
        answer = await client.ask(get("/refused", *OPENING))
        assert (answer.status, answer.body) == (401, b'{"error":"who are you"}')
        assert answer.one("Content-Type") == "application/json"
        answer = await client.ask(get("/refused?stream", *OPENING))
        assert (answer.status, answer.body) == (429, b"go away")
        assert (await client.ask(get("/nowhere", *OPENING))).status == 403
        await server.shutdown(1)

    web.run(main())


async def token(websocket: WebSocket, token: Annotated[str | None, Query()] = None) -> str:
    """A dependency that may refuse."""
    if token is None:
        raise WebSocketException(code=1008, reason="no token")
    return token


def fastapi(left: list[Any]) -> FastAPI:
    app = FastAPI()
    rooms: set[WebSocket] = set()

    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: int, token: Annotated[str, Depends(token)]) -> None:
        await websocket.accept()
        rooms.add(websocket)
        try:
            while True:
                data = await websocket.receive_bytes()
                for each in rooms:
                    await each.send_bytes(b"%d %b: %b" % (room, token.encode(), data))
        except WebSocketDisconnect as disconnect:
            rooms.remove(websocket)
            left.append((disconnect.code, disconnect.reason))

    @app.websocket("/fails")
    async def fails(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketException(code=1008, reason="against the rules")

    return app


def test_fastapi(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    left: list[Any] = []
    server = web.serve(any_kind(fastapi(left)))

    async def main() -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(url(server, "/rooms/1"), proxy=None)
        assert refused.value.response.status_code == 403
        async with connect(url(server, "/rooms/1?token=a"), proxy=None) as one:
            async with connect(url(server, "/rooms/2?token=b"), proxy=None) as two:
                await one.send(b"hello")
                assert [await one.recv(), await two.recv()] == [b"1 a: hello"] * 2
                await two.send(b"you too")
                assert [await one.recv(), await two.recv()] == [b"2 b: you too"] * 2
                await two.close(4001, "bye")
            await until(left, 1)
            await one.send(b"alone")
            assert await one.recv() == b"1 a: alone"
        await until(left, 2)
        assert left == [(4001, "bye"), (1000, "")]
        async with connect(url(server, "/fails"), proxy=None) as failing:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await failing.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "against the rules")
        await server.shutdown(1)

    web.run(main())
    assert errors(caplog) == []
