"""Starlette: files, streams, background work, lifespan, middleware."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypedDict

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


class State(TypedDict):
    """What the lifespan gives to each request."""

    greeting: str


told: list[str] = []
happened = asyncio.Event()


@contextlib.asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[State]:
    """Give each request a greeting."""
    yield {"greeting": "hello"}
    print("lifespan ended", flush=True)


class Marking(BaseHTTPMiddleware):
    """The middleware with a task group of its own: it needs a current task from the first step on."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Mark the response."""
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        return response


async def hello(request: Request) -> Response:
    """Answer with what the lifespan has set."""
    return PlainTextResponse(f"{request.state.greeting} {request.query_params.get('name')}")


async def upload(request: Request) -> Response:
    """Take a form with a file."""
    async with request.form() as form:
        file = form["file"]
        assert not isinstance(file, str)
        data = await file.read()
        return JSONResponse({"name": file.filename, "size": len(data), "text": form["text"]})


async def count(request: Request) -> Response:
    """Count a body as it comes."""
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
    except ClientDisconnect:
        told.append("disconnect")
        happened.set()
        raise
    return PlainTextResponse(str(size))


async def stream(request: Request) -> Response:
    """Send parts, without an end if so asked."""
    endless = "endless" in request.query_params

    async def parts() -> AsyncIterator[bytes]:
        number = 0
        try:
            while endless or number < 100:
                yield b"%07d\n" % number * 128
                number += 1
        finally:
            told.append("stream ended")
            happened.set()

    return StreamingResponse(parts())


async def background(request: Request) -> Response:
    """Work on behind the response."""

    async def work() -> None:
        await asyncio.sleep(0)
        told.append("worked")
        happened.set()

    return PlainTextResponse("early", background=BackgroundTask(work))


async def happenings(request: Request) -> Response:
    """Wait until something has happened behind a response, and tell what."""
    await happened.wait()
    happened.clear()
    return JSONResponse(told)


async def file(request: Request) -> Response:
    """Send this file."""
    return FileResponse(__file__)


async def fail(request: Request) -> Response:
    """Raise."""
    raise ZeroDivisionError


routes = [
    Route("/", hello), Route("/upload", upload, methods=["POST"]), Route("/count", count, methods=["POST"]),
    Route("/stream", stream), Route("/background", background), Route("/happenings", happenings),
    Route("/file", file), Route("/fail", fail), Mount("/static", StaticFiles(directory=Path(__file__).parent)),
]  # fmt: skip
plain = Starlette(routes=routes, lifespan=lifespan)
app = Starlette(
    routes=routes, middleware=[Middleware(Marking), Middleware(GZipMiddleware, minimum_size=500)], lifespan=lifespan
)
