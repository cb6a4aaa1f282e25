"""Asynchronous with callbacks, before there was `await`: a page is shown piece by piece, as it comes.

python examples/0a_async_callback.py                     from a slow server of its own
python examples/0a_async_callback.py example.org 80      from the web

Each step names the next one. Exceptions of all steps end in one place, as they are all scheduled inside the
`ExceptionStackContext`.
"""

import socket
import sys
from types import TracebackType

from pollux import IOLoop
from pollux.iostream import IOStream
from pollux.stack_context import ExceptionStackContext
from pollux.tcpserver import TCPServer


class SlowServer(TCPServer):
    """Answers every request with the same page, one line in each tenth of a second."""

    lines = (b"One loop,\n", b"any poller,\n", b"no thread.\n")

    def handle_stream(self, stream: IOStream, address: object) -> None:
        def answer(request: bytes) -> None:
            stream.write(b"HTTP/1.0 200 OK\r\n\r\n")
            IOLoop.current().call_later(0.1, send, 0)

        def send(number: int) -> None:
            if number == len(self.lines):
                stream.close()
            else:
                stream.write(self.lines[number])
                IOLoop.current().call_later(0.1, send, number + 1)

        stream.read_until(b"\r\n\r\n", callback=answer)


class Page:
    """A request, its steps in the order they are called."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.stream = IOStream(socket.socket())
        self.stream.set_close_callback(self.closed)
        self.stream.connect((host, port), callback=self.connected)

    def connected(self) -> None:
        self.stream.write(f"GET / HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
        self.stream.read_until(b"\r\n\r\n", callback=self.got_head)

    def got_head(self, head: bytes) -> None:
        print("head:", head.decode("latin-1").splitlines()[0])
        self.stream.read_until_close(callback=self.got_all, streaming_callback=self.got_piece)

    def got_piece(self, piece: bytes) -> None:
        print("piece:", piece)

    def got_all(self, rest: bytes) -> None:
        if self.stream.error is None:
            print("that was all")

    def closed(self) -> None:
        if self.stream.error is not None:  # also if it could not connect: then no step was called
            print("failed:", self.stream.error)
        IOLoop.current().stop()


def failed(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> bool:
    print("failed:", error)
    IOLoop.current().stop()
    return True


def main() -> None:
    loop = IOLoop.current()
    server = SlowServer()
    if len(sys.argv) == 3:
        host, port = sys.argv[1], int(sys.argv[2])
    else:
        server.listen(0, "127.0.0.1")
        host, port = next(iter(server.sockets)).getsockname()
    with ExceptionStackContext(failed):
        Page(host, port)
    loop.start()
    server.stop()
    loop.close()


if __name__ == "__main__":
    main()
