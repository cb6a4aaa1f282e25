"""What one sends goes to all, by aiohttp on uvloop. python aiohttp_broadcast.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped"

import sys

import uvloop
from aiohttp import WSMsgType, web

everybody: set[web.WebSocketResponse] = set()


async def room(request: web.Request) -> web.WebSocketResponse:
    """Send each message to all."""
    connection = web.WebSocketResponse(compress=False, max_msg_size=0)
    await connection.prepare(request)
    everybody.add(connection)
    try:
        async for message in connection:
            if message.type == WSMsgType.BINARY:
                for each in list(everybody):
                    await each.send_bytes(message.data)
    finally:
        everybody.discard(connection)
    return connection


app = web.Application()
app.router.add_get("/", room)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    access_log=None,
    print=None,
    backlog=4096,
    loop=uvloop.new_event_loop(),
)
