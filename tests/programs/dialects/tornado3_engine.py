"""Asking several servers at once, as programs of Tornado 3 are written: `gen.engine` and its yield points."""
# mypy: ignore-errors
# Such programs have no annotations.

import datetime
import functools
import socket

from pollux import gen
from pollux.ioloop import IOLoop
from pollux.iostream import IOStream
from pollux.stack_context import ExceptionStackContext
from pollux.tcpserver import TCPServer


class Upper(TCPServer):
    """Answers a line in capitals, with its length in front of it."""

    @gen.engine
    def handle_stream(self, stream, address):
        line = yield gen.Task(stream.read_until, b"\n")
        yield gen.Task(stream.write, b"%d\n" % len(line))
        yield gen.Task(stream.write, line.upper())
        stream.close()


@gen.engine
def ask(address, text, callback):
    stream = IOStream(socket.socket())
    yield gen.Task(stream.connect, address)
    stream.write(text + b"\n", callback=(yield gen.Callback("written")))
    stream.read_until(b"\n", callback=(yield gen.Callback("head")))
    yield gen.Wait("written")
    head = yield gen.Wait("head")
    answer = yield gen.Task(stream.read_bytes, int(head))
    stream.close()
    callback(answer.strip())


@gen.engine
def fail(callback):
    yield gen.Task(IOLoop.instance().add_timeout, datetime.timedelta(milliseconds=1))
    raise KeyError("later")


@gen.coroutine
def both(address):
    answers = yield {"first": gen.Task(ask, address, b"five"), "second": gen.Task(ask, address, b"six")}
    raise gen.Return(sorted(answers.items()))


@gen.engine
def conversation(address, done):
    print((yield gen.Task(ask, address, b"one")))
    print((yield [gen.Task(ask, address, text) for text in (b"two", b"three")]))
    ask(address, b"four", callback=(yield gen.Callback("four")))
    IOLoop.instance().add_callback(functools.partial((yield gen.Callback("arguments")), 1, key=2))
    answer, arguments = yield gen.WaitAll(["four", "arguments"])
    print(answer, arguments.args, arguments.kwargs)
    print((yield both(address)))
    try:
        yield gen.Task(fail)
    except KeyError as error:
        print("caught", error)
    try:
        yield gen.Wait("nobody")
    except gen.UnknownKeyError as error:
        print("unknown:", "nobody" in str(error))
    done()
    leak()


@gen.engine
def leak():
    yield gen.Callback("forgotten")


def main():
    loop = IOLoop.instance()
    server = Upper()
    server.listen(0, "127.0.0.1")
    address = next(iter(server.sockets)).getsockname()

    def handle(kind, error, traceback):
        print(kind.__name__, "forgotten" in str(error))
        loop.add_callback(loop.stop)
        return True

    with ExceptionStackContext(handle):
        conversation(address, lambda: print("done"))
    loop.start()
    server.stop()
    loop.close()


main()
