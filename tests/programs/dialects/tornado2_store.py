"""A store of values and a client of it, as programs of Tornado 2 are written: a callback for every step, no Future."""
# mypy: ignore-errors
# Such programs have no annotations.

import contextlib
import functools
import socket

from pollux.ioloop import IOLoop
from pollux.iostream import IOStream
from pollux.netutil import bind_sockets
from pollux.periodic import PeriodicCallback
from pollux.stack_context import NullContext, StackContext, wrap
from pollux.tcpserver import TCPServer

serving = None  # the number of the connection whose callback runs


@contextlib.contextmanager
def connection_context(number, stream):
    global serving
    before, serving = serving, number
    try:
        yield
    except ValueError as error:
        print("connection", number, "failed:", error)
        stream.close()
    finally:
        serving = before


class Connection:
    """Commands are lines: `set NAME SIZE` with the value behind it, `get NAME`, `all`."""

    def __init__(self, stream, values, on_close):
        self.stream = stream
        self.values = values
        self.stream.set_close_callback(on_close)
        self.next_command()

    def next_command(self):
        self.stream.read_until(b"\r\n", self.on_command)

    def on_command(self, line):
        words = line.decode("ascii").split()
        if words[0] == "set":
            self.stream.read_bytes(int(words[2]), functools.partial(self.on_value, words[1]))
        elif words[0] == "get":
            value = self.values[words[1]]
            self.stream.write(b"value %d\r\n" % len(value))
            self.stream.write(value, self.next_command)
        elif words[0] == "all":
            self.stream.write(b"".join(self.values[name] for name in sorted(self.values)), self.stream.close)
        else:
            raise ValueError("no such command: " + words[0])

    def on_value(self, name, value):
        print("connection", serving, "sets", name)
        self.values[name] = value
        self.stream.write(b"stored\r\n", self.next_command)


class Store(TCPServer):
    def __init__(self):
        TCPServer.__init__(self)
        self.values = {}
        self.connections = 0
        self.closed = []

    def handle_stream(self, stream, address):
        self.connections += 1
        with StackContext(functools.partial(connection_context, self.connections, stream)):
            Connection(stream, self.values, lambda: self.closed.append(serving))


class Client:
    """Each step names the next."""

    def __init__(self, address, done):
        self.done = wrap(done)
        self.stream = IOStream(socket.socket(), io_loop=IOLoop.instance())
        self.stream.connect(address, self.on_connect)

    def on_connect(self):
        self.stream.write(b"set greeting 5\r\nhelloset size 6\r\n")
        self.stream.read_until_regex(b"\r\n", self.on_stored)
        IOLoop.instance().add_callback(functools.partial(self.stream.write, b"100000"))

    def on_stored(self, line):
        self.stream.read_until(b"\r\n", self.on_both_stored)

    def on_both_stored(self, line):
        self.stream.write(b"get greeting\r\n")
        self.stream.read_until(b"\r\n", self.on_head)

    def on_head(self, line):
        self.stream.read_bytes(int(line.split()[1]), self.on_value)

    def on_value(self, value):
        print("client got", value)
        self.pieces = []
        self.stream.write(b"all\r\n")
        self.stream.read_until_close(self.on_all, self.pieces.append)

    def on_all(self, rest):
        print("client got all", b"".join(self.pieces) + rest)
        self.done()


def main():
    loop = IOLoop.instance()
    store = Store()
    (listener,) = bind_sockets(0, "127.0.0.1")
    store.add_socket(listener)
    address = listener.getsockname()

    def talk_nonsense():
        with NullContext():
            stream = IOStream(socket.socket())
            stream.set_close_callback(loop.stop)
            stream.connect(address, lambda: stream.write(b"nonsense\r\n"))

    beats = PeriodicCallback(lambda: print("beat") or beats.stop() or Client(address, talk_nonsense), 1)
    beats.start()
    loop.start()
    store.stop()
    print("closed:", store.closed)
    loop.close()


main()
