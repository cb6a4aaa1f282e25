"""The floor of any echo in Python: a bare epoll loop, recv and send; no loop, no framing, no write buffer.

python epoll_echo.py PORT CASE
"""

import select
import socket
import sys


def main() -> None:
    """Serve until killed."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    poller = select.epoll()
    poller.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poller.poll():
            connection = connections.get(fd)
            if connection is None:
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setblocking(False)
                connections[connection.fileno()] = connection
                poller.register(connection.fileno(), select.EPOLLIN)
                continue
            try:
                data = connection.recv(65536)
            except OSError:
                data = b""
            if data:
                connection.send(data)
            else:
                del connections[fd]
                connection.close()


main()
