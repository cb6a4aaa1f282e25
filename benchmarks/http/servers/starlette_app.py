"""Starlette, served by uvicorn and by us: the cases as its documentation writes them."""
# mypy: disable-error-code="import-not-found, import-untyped"

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

LARGE = bytes(range(256)) * 4096


async def hello(request: Request) -> Response:
    """Answer a fixed text."""
    return HTMLResponse("Hello, world")


async def message(request: Request) -> Response:
    """Answer a dict, serialised for each request."""
    return JSONResponse({"message": "Hello, world!"})


async def user(request: Request) -> Response:
    """Echo the path parameter."""
    return PlainTextResponse(str(request.path_params["number"]))


async def large(request: Request) -> Response:
    """Send a mebibyte."""
    return Response(LARGE, media_type="application/octet-stream")


async def upload(request: Request) -> Response:
    """Take one."""
    return PlainTextResponse(str(len(await request.body())))


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/json", message),
        Route("/user/{number:int}", user),
        Route("/large", large),
        Route("/upload", upload, methods=["POST"]),
    ]
)
