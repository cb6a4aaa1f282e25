"""Fetching with generators: what 03_fetch_async.py does with nested callbacks, read from top to bottom.

python examples/04_fetch_gen.py                                 a server of its own, asked once in each way
python examples/04_fetch_gen.py http://example.org/a http://example.org/b        two pages from the web
"""

import sys
from collections.abc import Generator
from typing import Any
from urllib.parse import urljoin

from pollux import IOLoop, gen
from pollux_http.httpclient import AsyncHTTPClient
from pollux_web import Application, RequestHandler, asynchronous


class PageHandler(RequestHandler):
    """A page to fetch."""

    def get(self, name: str) -> None:
        self.write(f"This is {name}.")


class Fetching(RequestHandler):
    def initialize(self, urls: list[str]) -> None:
        self.urls = [urljoin(f"{self.request.protocol}://{self.request.host}", url) for url in urls]


class CallbackHandler(Fetching):
    """Callback makes a key and gives a function, Wait gives what that function is called with."""

    @asynchronous
    @gen.engine
    def get(self) -> Generator[Any, Any, None]:
        client = AsyncHTTPClient()
        client.fetch(self.urls[0], callback=(yield gen.Callback("first")))
        client.fetch(self.urls[1], callback=(yield gen.Callback("second")))  # both are under way now
        first = yield gen.Wait("first")
        second = yield gen.Wait("second")
        self.write(f"Callback and Wait: {first.body[:60]!r}, {second.body[:60]!r}\n")
        self.finish()


class TaskHandler(Fetching):
    """Task is both, with a key of its own."""

    @asynchronous
    @gen.engine
    def get(self) -> Generator[Any, Any, None]:
        client = AsyncHTTPClient()
        first = yield gen.Task(client.fetch, self.urls[0])
        second = yield gen.Task(client.fetch, self.urls[1])
        self.write(f"Task: {first.body[:60]!r}, {second.body[:60]!r}\n")
        self.finish()


class AwaitHandler(Fetching):
    """The same today."""

    async def get(self) -> None:
        client = AsyncHTTPClient()
        first, second = await gen.multi([client.fetch(url) for url in self.urls])
        self.write(f"await: {first.body[:60]!r}, {second.body[:60]!r}\n")


def make_application(urls: list[str]) -> Application:
    options = {"urls": urls}
    return Application(
        [
            (r"/callback", CallbackHandler, options),
            (r"/task", TaskHandler, options),
            (r"/await", AwaitHandler, options),
            (r"/page/(\w+)", PageHandler),
        ]
    )


async def main() -> None:
    server = make_application(sys.argv[1:3] if len(sys.argv) > 2 else ["/page/one", "/page/two"]).listen(0, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    client = AsyncHTTPClient()
    for path in ("callback", "task", "await"):
        response = await client.fetch(f"http://{host}:{port}/{path}", raise_error=False)
        print(response.code, response.body.decode(), end="")
    client.close()
    await server.shutdown()


if __name__ == "__main__":
    IOLoop.current().run_sync(main)
    IOLoop.current().close()
