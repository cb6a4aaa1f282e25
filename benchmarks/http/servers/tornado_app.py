"""Tornado on its own loop (asyncio), one process, access log off."""

import asyncio
import logging
import sys

from tornado.web import Application, RequestHandler

LARGE = bytes(range(256)) * 4096


class Hello(RequestHandler):
    """A fixed text."""

    def get(self) -> None:
        """Answer as text/html, the default."""
        self.write("Hello, world")


class Json(RequestHandler):
    """A dict, serialised for each request."""

    def get(self) -> None:
        """Answer as application/json, which a dict implies."""
        self.write({"message": "Hello, world!"})


class User(RequestHandler):
    """A path parameter."""

    def get(self, number: str) -> None:
        """Echo it."""
        self.write(number)


class Large(RequestHandler):
    """A mebibyte."""

    def get(self) -> None:
        """Send it."""
        self.set_header("Content-Type", "application/octet-stream")
        self.write(LARGE)


class Upload(RequestHandler):
    """A mebibyte from the client."""

    def post(self) -> None:
        """Answer with its length."""
        self.write(str(len(self.request.body)))


async def main() -> None:
    """Serve until killed."""
    logging.getLogger("tornado.access").disabled = True
    app = Application(
        [(r"/", Hello), (r"/json", Json), (r"/user/([0-9]+)", User), (r"/large", Large), (r"/upload", Upload)]
    )
    app.listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


asyncio.run(main())
