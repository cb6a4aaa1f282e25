"""Echo by aiohttp on uvloop. python aiohttp_echo.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys

import uvloop
from aiohttp import WSMsgType, web


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send back each message."""
    connection = web.WebSocketResponse(compress=False, max_msg_size=0)
    await connection.prepare(request)
    async for message in connection:
        if message.type == WSMsgType.BINARY:
            await connection.send_bytes(message.data)
    return connection


app = web.Application()
app.router.add_get("/", echo)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    access_log=None,
    print=None,
    backlog=4096,
    loop=uvloop.new_event_loop(),
)
