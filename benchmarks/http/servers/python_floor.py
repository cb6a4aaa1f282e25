"""The floor of any Python HTTP server: a bare epoll loop, recv, httptools, send; no router, no loop, no timeouts.

python python_floor.py PORT ANSWER_FILE
"""

import select
import socket
import sys
from pathlib import Path

from httptools import HttpRequestParser


class Connection:
    """One connection: httptools calls `on_message_complete` from `feed_data`."""

    __slots__ = ("answer", "feed", "recv", "send", "sock")

    def __init__(self, sock: socket.socket, answer: bytes) -> None:
        self.sock = sock
        self.recv, self.send = sock.recv, sock.send
        self.answer = answer
        self.feed = HttpRequestParser(self).feed_data

    def on_url(self, url: bytes) -> None:
        """Take the request target, as any server must."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, as any server must."""

    def on_message_complete(self) -> None:
        """Answer."""
        self.send(self.answer)


def main() -> None:
    """Serve until killed."""
    answer = Path(sys.argv[2]).read_bytes()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    poller = select.epoll()
    poller.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, Connection] = {}
    while True:
        for fd, _ in poller.poll():
            connection = connections.get(fd)
            if connection is None:
                sock = listener.accept()[0]
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = Connection(sock, answer)
                poller.register(sock.fileno(), select.EPOLLIN)
                continue
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if data:
                connection.feed(data)
            else:
                del connections[fd]
                connection.sock.close()


main()
