"""A line server: each line is answered, and "quit" ends the connection.

python examples/0b_tcpserver.py                  then, elsewhere: nc 127.0.0.1 8888
python examples/0b_tcpserver.py 8888 4           four processes that share the port
POLLUX_BACKEND=poll python examples/0b_tcpserver.py
"""

import signal
import sys
from typing import Any

from pollux import IOLoop
from pollux.iostream import IOStream, StreamClosedError
from pollux.process import task_id
from pollux.tcpserver import TCPServer

LONGEST_LINE = 1024  # bytes: who sends more without a line's end is cut off


class LineServer(TCPServer):
    """One coroutine for each client."""

    async def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Talk with one client until one of the two has enough."""
        greeting = "hello" if task_id() is None else f"hello from process {task_id()}"
        try:
            await stream.write(f"{greeting}, {address[0]}\n".encode())
            while (line := await stream.read_until(b"\n", max_bytes=LONGEST_LINE)).strip() != b"quit":
                await stream.write(b"you said: " + line)
            await stream.write(b"bye\n")
            stream.close()
        except StreamClosedError as error:
            print("a client is gone:", error.real_error or "it hung up", flush=True)


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    port = int(sys.argv[1]) if sys.argv[1:] else 8888
    processes = int(sys.argv[2]) if sys.argv[2:] else 1
    server = LineServer()
    server.bind(port, "127.0.0.1", reuse_port=processes != 1)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    server.start(processes)
    loop = IOLoop.current()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, loop.stop)
    loop.start()
    server.stop()


if __name__ == "__main__":
    main()
