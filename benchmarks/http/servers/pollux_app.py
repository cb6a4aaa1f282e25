"""Ours: the public API and nothing else, served by `pollux serve pollux_app.py:app`."""

from pollux_web import Application, RequestHandler


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


app = Application([(r"/", Hello), (r"/json", Json), (r"/user/([0-9]+)", User)])
