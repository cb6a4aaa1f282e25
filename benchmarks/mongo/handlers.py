"""A server whose loop is watched while a long result streams: prints its port, and the lag when stdin is closed.

    python handlers.py CLIENT PORT

`/page` is a short page; `/all` streams all of `long`. When stdin ends, it prints how often the loop was busy for
how long since the first `/all`: pairs (less than so many seconds, how often) from `loop.statistics()`, as JSON.
"""

import asyncio
import json
import sys
from typing import Any

from benchmarks.mongo.finds import bare, ours
from pollux import IOLoop
from pollux.netutil import bind_sockets
from pollux_http import HTTPServer
from pollux_web import Application, RequestHandler


class PageHandler(RequestHandler):
    """A short page, so that what is measured is the stream's doing and not theirs."""

    def get(self) -> None:
        self.write("Hello, world")


class AllHandler(RequestHandler):
    """A long result, as fast as the client takes it."""

    async def get(self) -> None:
        self.settings.setdefault("before", dict(IOLoop.current().statistics().lag))
        count = 0
        async for document in self.settings["database"].long.find():
            self.write(document["text"])
            count += 1
            if count % 16 == 0:
                await self.flush()


async def main(name: str, port: int) -> None:
    """Serve until stdin ends."""
    loop = IOLoop.current()
    async with (ours if name == "pollux" else bare)(port) as database:
        settings: dict[str, Any] = {"database": database, "compress_response": False}
        application = Application([(r"/page", PageHandler), (r"/all", AllHandler)], **settings)
        server = HTTPServer(application)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        print(sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        before = application.settings["before"]
        lag = [(seconds, count - before.get(seconds, 0)) for seconds, count in loop.statistics().lag]
        print(json.dumps(lag))
        server.stop()
        await asyncio.wait_for(server.close_all_connections(), 10)


if __name__ == "__main__":
    from pollux import run

    run(main(sys.argv[1], int(sys.argv[2])))
