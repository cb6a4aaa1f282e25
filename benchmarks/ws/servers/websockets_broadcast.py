"""What one sends goes to all, by websockets on uvloop. python websockets_broadcast.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
from typing import Any

import uvloop
from websockets.asyncio.server import broadcast, serve

everybody: set[Any] = set()


async def room(connection: Any) -> None:
    """Send each message to all."""
    everybody.add(connection)
    try:
        async for message in connection:
            broadcast(everybody, message)
    finally:
        everybody.discard(connection)


async def main() -> None:
    """Serve until killed."""
    options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None, "backlog": 4096}
    async with serve(room, "127.0.0.1", int(sys.argv[1]), **options) as server:
        await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
