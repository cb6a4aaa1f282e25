"""Echo by picows on uvloop. python picows_echo.py PORT"""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

import asyncio
import sys
from typing import Any

import uvloop
from picows import WSListener, WSMsgType, ws_create_server


class Echo(WSListener):
    """Sends back each frame."""

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        """Send it back, or end."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
