"""Ours: the public API and nothing else, served by `pollux serve pollux_app.py:app`."""

from pollux_web import Application, RequestHandler

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


app = Application(
    [(r"/", Hello), (r"/json", Json), (r"/user/([0-9]+)", User), (r"/large", Large), (r"/upload", Upload)]
)
