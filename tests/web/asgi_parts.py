"""Parts of ASGI applications for the tests of `HTTPServer`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pollux_http import HTTPServer
from tests.web.client import Web

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PLAIN = [(b"content-type", b"text/plain")]


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: bytes = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def any_kind(application: Any) -> Any:
    return application  # `Web.serve` is typed for callbacks of our own kind


def serve(web: Web, application: Callable[[Message, Receive, Send], Awaitable[None]], **options: Any) -> HTTPServer:
    """Serve an application that does not know lifespan."""

    async def http_only(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await application(scope, receive, send)

    return web.serve(any_kind(http_only), **options)


class Recorder:
    """Answers, and keeps what it was asked."""

    def __init__(self) -> None:
        self.scope: Message = {}
        self.received: list[Message] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope = scope
        while True:
            self.received.append(await receive())
            if not self.received[-1].get("more_body"):
                break
        await send(start())
        await send(body(b"ok"))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
