"""`stream_request_body`: what comes is handed on as it comes, at the handler's pace."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pollux_web import Application, HTTPError, RequestHandler, stream_request_body
from tests.web.client import Web, get, post

LARGE = bytes(range(256)) * 8192  # 2 MiB


def receiver(waits: bool) -> tuple[type[RequestHandler], list[str]]:
    """Return a handler that keeps what it gets, and what happened to it."""
    events: list[str] = []

    @stream_request_body
    class Receiver(RequestHandler):
        def prepare(self) -> None:
            events.append("prepare")
            self.parts: list[bytes] = []

        def data_received(self, chunk: bytes) -> Any:
            assert chunk
            self.parts.append(chunk)
            if waits:
                return asyncio.sleep(0)
            return None

        def post(self) -> None:
            events.append("post")
            assert self.request.body in (b"", b"".join(self.parts))
            self.write({"size": sum(map(len, self.parts)), "right": b"".join(self.parts) in (LARGE, b"small")})

        get = post

        def on_connection_close(self) -> None:
            events.append("closed")

        def on_finish(self) -> None:
            events.append("finished")

    return Receiver, events


CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (post("/", LARGE), len(LARGE)),
        (post("/", b"small"), 5),
        (CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE), len(LARGE)),
        (get("/"), 0),
        (post("/", b""), 0),
    ],
    ids=["large", "small", "chunked", "none", "empty"],
)
def test_the_body_comes_in_parts(web: Web, request_: bytes, size: int, waits: bool) -> None:
    handler, events = receiver(waits)
    server = web.serve(Application([("/", handler)]))

    async def main() -> None:
        client = await web.connect(server)
        for _ in range(2):  # the connection goes on
            sending = asyncio.ensure_future(client.send(request_))
            answer = await client.answer()
            await sending
            assert answer.status == 200
            assert answer.body.startswith(b'{"size": %d' % size)

    web.run(main())
    assert events == ["prepare", "post", "finished"] * 2


def test_the_handler_sets_the_pace(web: Web) -> None:
    taken = 0
    go_on = asyncio.Event()

    @stream_request_body
    class Slow(RequestHandler):
        async def data_received(self, chunk: bytes) -> None:
            nonlocal taken
            taken += len(chunk)
            await go_on.wait()

        def post(self) -> None:
            self.write("done")

    server = web.serve(Application([("/", Slow)]))
    data = post("/", LARGE * 16)

    async def main() -> None:
        client = await web.connect(server)
        sent = 0
        view = memoryview(data)
        client.sock.setblocking(False)
        stalled = 0
        while stalled < 50:  # until nobody takes any more
            try:
                sent += client.sock.send(view[sent : sent + 65536])
                stalled = 0
            except BlockingIOError:
                stalled += 1
            await asyncio.sleep(0)
        assert 0 < sent < len(data)
        assert taken <= 512 * 1024
        go_on.set()
        await client.send(bytes(view[sent:]))
        assert (await client.answer()).body == b"done"

    web.run(main())
    assert taken == len(LARGE) * 16


def test_the_client_goes_away(web: Web) -> None:
    handler, events = receiver(waits=False)
    closed = asyncio.Event()

    class Watched(handler):  # type: ignore[misc, valid-type]
        def on_connection_close(self) -> None:
            super().on_connection_close()
            closed.set()

    server = web.serve(Application([("/", Watched)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/", "Content-Length: 10", method="POST") + b"abc")
        while "prepare" not in events:
            await asyncio.sleep(0)
        client.reset()
        await closed.wait()

    web.run(main())
    assert events == ["prepare", "closed"]


@pytest.mark.parametrize("where", ["prepare", "data_received"])
def test_an_answer_before_the_end(web: Web, where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    @stream_request_body
    class Refusing(RequestHandler):
        def prepare(self) -> None:
            if where == "prepare":
                raise HTTPError(403)

        def data_received(self, chunk: bytes) -> None:
            raise HTTPError(413)

    server = web.serve(Application([("/", Refusing)]))

    async def main() -> int:
        client = await web.connect(server)
        await client.send(get("/", "Content-Length: 10", method="POST") + b"abc")
        return (await client.answer()).status

    assert web.run(main()) == (403 if where == "prepare" else 413)


def test_without_data_received(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    @stream_request_body
    class Forgetful(RequestHandler):
        pass

    server = web.serve(Application([("/", Forgetful)]))
    assert web.run(web.ask(server, post("/", b"abc"))).status == 500
    assert "Forgetful streams request bodies and has no data_received()" in caplog.text


def test_it_decorates_classes() -> None:
    with pytest.raises(TypeError, match="decorates a RequestHandler class"):
        stream_request_body(lambda: None)  # type: ignore[arg-type, type-var]
