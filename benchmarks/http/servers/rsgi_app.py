"""A raw RSGI application, granian's own protocol."""

import json
import re
from typing import Any

LARGE = bytes(range(256)) * 4096
USER = re.compile("/user/([0-9]+)")


async def app(scope: Any, protocol: Any) -> None:
    """Answer the cases."""
    path = scope.path
    status, kind = 200, "text/html; charset=utf-8"
    if path == "/":
        body = "Hello, world"
    elif path == "/json":
        body, kind = json.dumps({"message": "Hello, world!"}), "application/json"
    elif match := USER.fullmatch(path):
        body = match[1]
    elif path == "/large":
        protocol.response_bytes(status=200, headers=[("content-type", "application/octet-stream")], body=LARGE)
        return
    elif path == "/upload":
        body = str(len(await protocol()))
    else:
        status, body = 404, "Not found"
    protocol.response_str(status=status, headers=[("content-type", kind)], body=body)
