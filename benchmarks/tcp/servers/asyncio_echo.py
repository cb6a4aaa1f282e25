"""Echo by asyncio's interfaces, on any loop: a Protocol, or a coroutine for each connection over streams.

python asyncio_echo.py PORT CASE LOOP [BACKEND]
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
from typing import Any


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport (uvloop's is no `asyncio.Transport`)."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each line."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def blocks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each 16 KiB."""
    try:
        while True:
            writer.write(await reader.readexactly(16384))
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main(port: int, case: str) -> None:
    """Serve until killed."""
    if case == "line":
        server = await asyncio.start_server(lines, "127.0.0.1", port, backlog=4096)
    elif case == "block":
        server = await asyncio.start_server(blocks, "127.0.0.1", port, backlog=4096)
    else:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()
    server.close()  # never: it must be held until then, for uvloop closes one that nobody holds


def new_loop() -> Any:
    """Make the loop that was asked for."""
    name = sys.argv[3]
    if name == "asyncio":
        return asyncio.new_event_loop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if name == "rloop":
        import rloop

        return rloop.new_event_loop()
    import pollux

    return pollux.new_event_loop(backend=sys.argv[4] if len(sys.argv) > 4 else None)


with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main(int(sys.argv[1]), sys.argv[2]))
