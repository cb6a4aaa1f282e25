"""A raw ASGI application, without a framework: for uvicorn and granian."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

LARGE = bytes(range(256)) * 4096
USER = re.compile("/user/([0-9]+)")
Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer the cases."""
    path = scope["path"]
    status, kind = 200, b"text/html; charset=utf-8"
    if path == "/":
        body = b"Hello, world"
    elif path == "/json":
        body, kind = json.dumps({"message": "Hello, world!"}).encode(), b"application/json"
    elif match := USER.fullmatch(path):
        body = match[1].encode()
    elif path == "/large":
        body, kind = LARGE, b"application/octet-stream"
    elif path == "/upload":
        length, more = 0, True
        while more:
            message = await receive()
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"%d" % length
    else:
        status, body = 404, b"Not found"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
