"""Echo by websockets on uvloop. python websockets_echo.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
from typing import Any

import uvloop
from websockets.asyncio.server import serve


async def echo(connection: Any) -> None:
    """Send back each message."""
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    """Serve until killed."""
    options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None, "backlog": 4096}
    async with serve(echo, "127.0.0.1", int(sys.argv[1]), **options) as server:
        await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
