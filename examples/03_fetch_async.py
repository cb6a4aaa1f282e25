"""Fetching from other servers with nested callbacks, as it was done before generators: see 04_fetch_gen.py.

python examples/03_fetch_async.py                               a server of its own, asked once
python examples/03_fetch_async.py http://example.org/a http://example.org/b      two pages from the web

`/` answers with the beginnings of two pages. `asynchronous` leaves the request open when `get` returns; each callback
makes the next step, and the last one finishes. What a callback raises becomes the error page of the request, because
all of them are scheduled inside it.
"""

import sys
from urllib.parse import urljoin

from pollux import IOLoop
from pollux_http.httpclient import AsyncHTTPClient, HTTPResponse
from pollux_web import Application, RequestHandler, asynchronous


class PageHandler(RequestHandler):
    """A page to fetch."""

    def get(self, name: str) -> None:
        self.write(f"This is {name}.")


class FetchHandler(RequestHandler):
    def initialize(self, urls: list[str]) -> None:
        self.first, self.second = (urljoin(f"{self.request.protocol}://{self.request.host}", url) for url in urls)

    @asynchronous
    def get(self) -> None:
        client = AsyncHTTPClient()

        def got_first(response: HTTPResponse) -> None:
            response.rethrow()
            self.write(f"first: {response.body[:60]!r}\n")
            client.fetch(self.second, callback=got_second)  # a callback in a callback

        def got_second(response: HTTPResponse) -> None:
            response.rethrow()
            self.write(f"second: {response.body[:60]!r}\n")
            self.finish()

        client.fetch(self.first, callback=got_first)


def make_application(urls: list[str]) -> Application:
    return Application([(r"/", FetchHandler, {"urls": urls}), (r"/page/(\w+)", PageHandler)])


def main() -> None:
    loop = IOLoop.current()
    server = make_application(sys.argv[1:3] if len(sys.argv) > 2 else ["/page/one", "/page/two"]).listen(0, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    client = AsyncHTTPClient()

    def show(response: HTTPResponse) -> None:
        print(response.code, response.body.decode(), end="")
        client.close()
        loop.add_callback(loop.stop)

    client.fetch(f"http://{host}:{port}/", callback=show)
    loop.start()
    loop.run_sync(server.shutdown)
    loop.close()


if __name__ == "__main__":
    main()
