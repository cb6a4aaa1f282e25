"""`@asynchronous` (requests that a callback ends), `detach`, and exceptions of callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pollux import IOLoop
from pollux.stack_context import NullContext
from pollux_web import Application, HTTPError, RequestHandler, asynchronous
from tests.web.client import Answer, Web, get


def ask(web: Web, handler: type[RequestHandler], *requests: bytes, **settings: Any) -> list[Answer]:
    server = web.serve(Application([(".*", handler)], **settings))

    async def main() -> list[Answer]:
        client = await web.connect(server)
        return [await client.ask(data, data.partition(b" ")[0].decode()) for data in requests or [get()]]

    return web.run(main())


def test_a_callback_ends_the_request(web: Web) -> None:
    class Later(RequestHandler):
        @asynchronous
        def get(self) -> None:
            self.write("now ")
            IOLoop.current().add_callback(self.step, 3)

        def step(self, left: int) -> None:
            if left:
                IOLoop.current().add_callback(self.step, left - 1)
            else:
                self.finish("later")

    assert [answer.body for answer in ask(web, Later, get(), get())] == [b"now later"] * 2


@pytest.mark.parametrize(("error", "status"), [(ValueError("x"), 500), (HTTPError(418), 418)])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_exception_of_a_callback_ends_the_request(
    web: Web, error: Exception, status: int, depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(RequestHandler):
        @asynchronous
        def get(self) -> None:
            self.step(depth)

        def step(self, left: int) -> None:
            if not left:
                raise error
            IOLoop.current().add_timeout(IOLoop.current().time(), lambda: self.step(left - 1))

    answers = ask(web, Failing, get(), get())
    assert [answer.status for answer in answers] == [status] * 2
    assert ("Uncaught exception GET '/'" in caplog.text) is (status == 500)


def test_one_that_leaves_the_context_is_the_loops(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    class Outside(RequestHandler):
        @asynchronous
        def get(self) -> None:
            with NullContext():
                IOLoop.current().add_callback(self.fail)
            IOLoop.current().add_callback(lambda: IOLoop.current().add_callback(self.finish, "lives"))

        def fail(self) -> None:
            raise ZeroDivisionError

    assert ask(web, Outside)[0].body == b"lives"
    assert "Exception in callback" in caplog.text


def test_a_coroutine_does_not_finish_either(web: Web) -> None:
    class Both(RequestHandler):
        @asynchronous
        async def get(self) -> None:
            await asyncio.sleep(0)
            IOLoop.current().add_callback(self.finish, "after")

    assert ask(web, Both)[0].body == b"after"


def test_the_client_goes_away(web: Web) -> None:
    entered, closed = asyncio.Event(), asyncio.Event()

    class Waiting(RequestHandler):
        @asynchronous
        def get(self) -> None:
            entered.set()

        def on_connection_close(self) -> None:
            closed.set()

    server = web.serve(Application([("/", Waiting)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        await entered.wait()
        client.reset()
        await closed.wait()

    web.run(main())


@pytest.mark.parametrize("behind", [b"", b"line one\nline two\n"])
def test_detach(web: Web, behind: bytes) -> None:
    class Raw(RequestHandler):
        async def get(self) -> None:
            stream = self.detach()
            assert self._finished
            await stream.write(b"raw: ")
            await stream.write(await stream.read_until(b"\n"))
            await stream.write(await stream.read_until(b"\n"))
            stream.close()

    server = web.serve(Application([("/", Raw)]))

    async def main() -> bytes:
        client = await web.connect(server)
        await client.send(get("/", "Connection: Upgrade", "Upgrade: lines") + behind)
        if not behind:
            assert await client.exactly(5) == b"raw: "
            await client.send(b"line one\nline two\n")
            return await client.rest()
        return (await client.rest()).removeprefix(b"raw: ")

    assert web.run(main()) == b"line one\nline two\n"
