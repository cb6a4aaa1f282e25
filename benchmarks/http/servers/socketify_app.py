"""socketify: Python handlers on uWebSockets (C++), with its own router.

Written as its documentation writes them, which is also its cheapest way: plain functions, `end` of a text (no
Content-Type is sent) and of a dict (application/json, through the standard library's json).

    python socketify_app.py PORT [POOL]

POOL is how many request and response objects it keeps for reuse, which it does not unless told.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys
from typing import Any

from socketify import App

LARGE = bytes(range(256)) * 4096


def hello(response: Any, request: Any) -> None:
    """Answer a fixed text."""
    response.end("Hello, world")


def message(response: Any, request: Any) -> None:
    """Answer a dict, serialised for each request."""
    response.end({"message": "Hello, world!"})


def user(response: Any, request: Any) -> None:
    """Echo the path parameter; uWebSockets' patterns know no digits, so the handler checks them."""
    number = request.get_parameter(0)
    if number.isdigit():
        response.end(number)
    else:
        response.write_status(404).end("Not found")


def large(response: Any, request: Any) -> None:
    """Send a mebibyte."""
    response.end(LARGE)


def upload(response: Any, request: Any) -> None:
    """Take one, as it comes: `get_data`, which collects it, loses connections (0.0.31)."""
    length = 0

    def on_data(response: Any, chunk: bytes | None, is_end: bool) -> None:
        nonlocal length
        length += len(chunk or b"")
        if is_end:
            response.end(str(length))

    response.on_data(on_data)


app = App(request_response_factory_max_items=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
app.get("/", hello)
app.get("/json", message)
app.get("/user/:number", user)
app.get("/large", large)
app.post("/upload", upload)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
