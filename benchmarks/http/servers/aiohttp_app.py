"""aiohttp on uvloop, access log off."""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys

import uvloop
from aiohttp import web

LARGE = bytes(range(256)) * 4096


async def hello(request: web.Request) -> web.Response:
    """Answer a fixed text."""
    return web.Response(text="Hello, world", content_type="text/html")


async def message(request: web.Request) -> web.Response:
    """Answer a dict, serialised for each request."""
    return web.json_response({"message": "Hello, world!"})


async def user(request: web.Request) -> web.Response:
    """Echo the path parameter."""
    return web.Response(text=request.match_info["number"])


async def large(request: web.Request) -> web.Response:
    """Send a mebibyte."""
    return web.Response(body=LARGE, content_type="application/octet-stream")


async def upload(request: web.Request) -> web.Response:
    """Take one."""
    return web.Response(text=str(len(await request.read())))


app = web.Application(client_max_size=2 << 20)
app.add_routes(
    [
        web.get("/", hello),
        web.get("/json", message),
        web.get("/user/{number:[0-9]+}", user),
        web.get("/large", large),
        web.post("/upload", upload),
    ],
)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop=uvloop.new_event_loop(),
    access_log=None,
    print=None,
    keepalive_timeout=3600,
    backlog=4096,
)
