"""What one sends goes to all, by picows on uvloop. python picows_broadcast.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

import asyncio
import sys
from typing import Any

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

everybody: set[Any] = set()


class Room(WSListener):
    """Sends each frame to all."""

    def on_ws_connected(self, transport: Any) -> None:
        """Come in."""
        everybody.add(transport)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        """Pass it on, or end."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        message = frame.get_payload_as_bytes()
        for each in everybody:
            each.send(frame.msg_type, message)

    def on_ws_disconnected(self, transport: Any) -> None:
        """Leave."""
        everybody.discard(transport)


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(lambda request: Room(), "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
