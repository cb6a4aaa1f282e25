"""Echo by IOStream and TCPServer, of ours or of Tornado: the programs differ only in their imports.

python iostream_echo.py PORT line|block pollux|tornado [BACKEND]
"""

import asyncio
import sys
from typing import Any

if sys.argv[3] == "tornado":
    from tornado.iostream import StreamClosedError
    from tornado.tcpserver import TCPServer

    new_loop = asyncio.new_event_loop
else:
    import pollux
    from pollux.iostream import StreamClosedError  # type: ignore[assignment]
    from pollux.tcpserver import TCPServer  # type: ignore[assignment]

    def new_loop() -> asyncio.AbstractEventLoop:
        """Make our loop."""
        return pollux.new_event_loop(backend=sys.argv[4] if len(sys.argv) > 4 else None)


class Echo(TCPServer):
    """Sends back each line, or each 16 KiB."""

    async def handle_stream(self, stream: Any, address: Any) -> None:
        """Serve one connection."""
        stream.set_nodelay(True)
        try:
            if sys.argv[2] == "line":
                while True:
                    await stream.write(await stream.read_until(b"\n"))
            while True:
                await stream.write(await stream.read_bytes(16384))
        except StreamClosedError:
            pass


async def main() -> None:
    """Serve until killed."""
    Echo().listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
