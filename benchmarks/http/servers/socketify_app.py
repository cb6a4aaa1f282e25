"""socketify: Python handlers on uWebSockets (C++), with its own router.

Handlers are plain functions, its fastest kind, and JSON goes through the standard library as everywhere here.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import json
import sys
from typing import Any

from socketify import App


def hello(response: Any, request: Any) -> None:
    """Answer a fixed text."""
    response.write_header("Content-Type", "text/html; charset=utf-8").end("Hello, world")


def message(response: Any, request: Any) -> None:
    """Answer a dict, serialised for each request."""
    response.write_header("Content-Type", "application/json").end(json.dumps({"message": "Hello, world!"}))


def user(response: Any, request: Any) -> None:
    """Echo the path parameter; uWebSockets' patterns know no digits, so the handler checks them."""
    number = request.get_parameter(0)
    if number.isdigit():
        response.end(number)
    else:
        response.write_status(404).end("Not found")


app = App()
app.get("/", hello)
app.get("/json", message)
app.get("/user/:number", user)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
