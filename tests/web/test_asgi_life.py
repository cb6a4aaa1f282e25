"""ASGI applications: lifespan, background work, the end of the server, limits."""

from __future__ import annotations

import asyncio

import pytest

from tests.web.asgi_parts import Message, Receive, Send, any_kind, body, errors, serve, start
from tests.web.client import Client, Web, get

# Life


class Living:
    """Knows lifespan."""

    def __init__(self, fail: str = "") -> None:
        self.events: list[str] = []
        self.fail = fail

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["state"]["count"] = scope["state"].get("count", 0) + 1
            scope["state"]["shared"].append(1)
            await send(start())
            await send(body(b"%d %d" % (scope["state"]["count"], len(scope["state"]["shared"]))))
            return
        while True:
            message = await receive()
            self.events.append(message["type"])
            if message["type"] == self.fail:
                await send({"type": f"{self.fail}.failed", "message": "no database"})
                return
            scope["state"].update(shared=[])
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def test_lifespan_and_its_state(web: Web) -> None:
    application = Living()
    server = web.serve(any_kind(application))

    async def main() -> None:
        assert (await web.ask(server, get())).body == b"1 1", "a request waits for the startup"
        assert (await web.ask(server, get())).body == b"1 2", (
            "each request has a copy, as deep as the specification says"
        )
        assert application.events == ["lifespan.startup"]
        await server.shutdown(1)
        assert application.events == ["lifespan.startup", "lifespan.shutdown"]

    web.run(main())


def test_startup_failed(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    from pollux_http.lifespan import LifespanError

    server = web.serve(any_kind(Living("lifespan.startup")))

    async def main() -> None:
        with pytest.raises(LifespanError, match="the application failed to start: no database"):
            await server.startup()
        assert (await web.ask(server, get())).status == 500

    web.run(main())
    assert any("no database" in message for message in errors(caplog))


def test_shutdown_failed_is_logged(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    server = web.serve(any_kind(Living("lifespan.shutdown")))

    async def main() -> None:
        await server.startup()
        await server.shutdown(1)

    web.run(main())
    assert errors(caplog) == ["the application failed to shut down: no database"]


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_an_application_without_lifespan(web: Web, mode: str) -> None:
    from pollux_http.lifespan import LifespanError

    asked: list[str] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        asked.append(scope["type"])
        if scope["type"] != "http":
            raise NotImplementedError("only http")
        await send(start())
        await send(body())

    server = web.serve(any_kind(application), lifespan=mode)

    async def main() -> None:
        if mode == "on":
            with pytest.raises(LifespanError, match="NotImplementedError: only http"):
                await server.startup()
        else:
            await server.startup()
            assert (await web.ask(server, get())).status == 200
        assert ("lifespan" in asked) is (mode != "off")

    web.run(main())


def test_background_work_goes_on_behind_the_response_and_is_cancelled_at_the_end(web: Web) -> None:
    told: list[str] = []

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"early"))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):
            assert (await client.ask(get())).body == b"early"
        assert told == []
        await server.shutdown(0)
        assert told == ["cancelled"] * 2

    web.run(main())


def test_a_request_that_is_cut_off_at_shutdown(web: Web) -> None:
    told: list[str] = []
    begun = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        begun.set()
        await receive()
        told.append((await receive())["type"])

    server = serve(web, application)

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        await begun.wait()
        assert await server.shutdown(0) == 1
        await asyncio.sleep(0)
        assert await client.rest() == b""
        assert told == ["http.disconnect"]

    web.run(main())


def test_limit_concurrency(web: Web) -> None:
    go = asyncio.Event()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await go.wait()
        await send(start())
        await send(body(b"ok"))

    server = serve(web, application, limit_concurrency=2)

    async def main() -> None:
        waiting: list[Client] = []
        for _ in range(2):
            waiting.append(await web.connect(server))
            await waiting[-1].send(get("/wait"))
        while server.live < 2:
            await asyncio.sleep(0)
        refused = await web.ask(server, get())
        assert (refused.status, refused.one("Retry-After")) == (503, "1")
        waiting[0].reset()
        while server.live == 2:
            await asyncio.sleep(0)
        assert (await web.ask(server, get())).body == b"ok"
        go.set()
        assert (await waiting[1].answer()).body == b"ok"
        assert server.live == 0

    web.run(main())
