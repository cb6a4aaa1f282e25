"""aiohttp on uvloop, access log off."""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys

import uvloop
from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    """Answer a fixed text."""
    return web.Response(text="Hello, world", content_type="text/html")


async def message(request: web.Request) -> web.Response:
    """Answer a dict, serialised for each request."""
    return web.json_response({"message": "Hello, world!"})


async def user(request: web.Request) -> web.Response:
    """Echo the path parameter."""
    return web.Response(text=request.match_info["number"])


app = web.Application()
app.add_routes(
    [web.get("/", hello), web.get("/json", message), web.get("/user/{number:[0-9]+}", user)],
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
