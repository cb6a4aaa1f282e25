"""Both load generators, and the check of the first answer, against small real servers of every kind."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from benchmarks.build import compiler
from benchmarks.http.cases import CASES
from benchmarks.load.generator import GeneratorError, generator, program
from benchmarks.tcp.cases import CASES as TCP_CASES
from benchmarks.tcp.cases import LINE
from benchmarks.ws.cases import CASES as WS_CASES
from benchmarks.ws.cases import OPENING

HELLO = CASES["hello"]
RIGHT = HELLO.answer()


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with the parts that `answer` yields for its number; closes after an empty part."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[int], list[bytes]], handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.answer = answer
        self.numbers = count()
        self.requests: list[bytes] = []


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    server: Server

    def handle(self) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                try:
                    got = self.request.recv(4096)
                except ConnectionResetError:
                    return
                if not got:
                    return
                data += got
            head, _, data = data.partition(b"\r\n\r\n")
            self.server.requests.append(head)
            for part in self.server.answer(next(self.server.numbers)):
                if not part:
                    return
                self.request.sendall(part)


@contextmanager
def serving(
    answer: Callable[[int], list[bytes]], handler: type[socketserver.BaseRequestHandler] | None = None
) -> Iterator[Server]:
    with Server(answer, handler or Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["c", "python"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """The command of each generator."""
    if request.param == "c" and compiler() is None:
        pytest.skip("no C compiler")
    return program(python=request.param == "python")


@pytest.fixture
def load(command: list[str], core: int) -> Callable[..., Any]:
    """Makes a generator against a server."""

    def make(server: Server, connections: int = 4) -> Any:
        port = server.server_address[1]
        return generator(command, port, connections, HELLO.request(port), core)

    return make


def test_counts_exactly_what_was_answered(load: Callable[..., Any]) -> None:
    with serving(lambda number: [RIGHT]) as server:
        with load(server) as g:
            first, second = g.run(0.02), g.run(0.02)
        assert first.requests >= 4
        assert first.requests + second.requests == len(server.requests)
        assert first.seconds > 0
        port = server.server_address[1]
        assert set(server.requests) == {HELLO.request(port).removesuffix(b"\r\n\r\n")}


def test_requests_at_a_given_rate(load: Callable[..., Any]) -> None:
    """As many as were asked for, none before it is due: while one waits, twenty others come 2.5 ms apart."""
    held = threading.Event()

    def answer(number: int) -> list[bytes]:
        if number == 10:
            held.wait()
        elif number == 30:
            held.set()
        return [RIGHT]

    with serving(answer) as server, load(server, 2) as g:
        paced = g.pace(400, 0.1)
        assert paced.requests == len(server.requests) == 40
        assert 0 < paced.p50 <= paced.p99 <= paced.worst
        assert paced.worst >= 40_000  # microseconds
        assert g.run(0.01).requests >= 2, "nothing is left over"
    with serving(lambda number: [OTHER if number else RIGHT]) as server, load(server, 1) as g:
        with pytest.raises(GeneratorError, match="of 10 answers were not 200 or differed"):
            g.pace(1000, 0.01)
    with serving(lambda number: [RIGHT]) as server, load(server, 1) as g:
        with pytest.raises(GeneratorError, match="cannot make 0 requests"):
            g.pace(1, 0.01)


def test_an_answer_may_come_byte_by_byte(load: Callable[..., Any]) -> None:
    with serving(lambda number: [bytes([byte]) for byte in RIGHT]) as server:
        with load(server, 1) as g:
            assert g.run(0.01).requests == len(server.requests)


def test_header_names_in_any_case(load: Callable[..., Any]) -> None:
    answer = RIGHT.replace(b"Content-Length", b"content-LENGTH")
    with serving(lambda number: [answer]) as server:
        with load(server) as g:
            assert g.run(0.01).requests == len(server.requests)


ERROR = b"HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\nHello, world"
OTHER = RIGHT.replace(b"world", b"earth")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([ERROR], "answers were not 200 or differed"),
        ([OTHER], "answers were not 200 or differed"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "no Content-Length"),
        ([RIGHT + b"more"], "4 bytes follow"),
        ([b""], "closed a keep-alive connection"),
    ],
    ids=["error", "other body", "no length", "too much", "close"],
)
def test_a_server_that_goes_wrong_is_not_measured(load: Callable[..., Any], parts: list[bytes], words: str) -> None:
    with serving(lambda number: [RIGHT] if number == 0 else parts) as server:
        with load(server, 1) as g, pytest.raises(GeneratorError, match=words):
            g.run(0.05)


class EchoHandler(socketserver.BaseRequestHandler):
    """Sends back what comes, or what the server's `answer` makes of it: byte by byte."""

    server: Server

    def handle(self) -> None:
        while data := self.request.recv(4096):
            for byte in self.server.answer(len(data)) or [bytes([byte]) for byte in data]:
                self.request.sendall(byte)


@pytest.mark.parametrize("case", TCP_CASES.values(), ids=TCP_CASES)
def test_an_echo_is_the_message_itself(command: list[str], core: int, case: Any) -> None:
    with serving(lambda length: [], EchoHandler) as server:
        port = server.server_address[1]
        assert case.fault(port) is None
        with generator(command, port, 2, case.message, core, echo=True) as g:
            assert g.run(0.01).requests >= 2


class UpgradingHandler(EchoHandler):
    """Answers an Upgrade, then sends back each message of WebSocket without its mask."""

    def handle(self) -> None:
        while b"\r\n\r\n" not in (head := self.request.recv(4096)):
            pass
        assert head == OPENING
        self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        expected = WS_CASES["64"].request(0)
        while data := self.request.recv(len(expected), socket.MSG_WAITALL):
            assert data == expected
            self.request.sendall(WS_CASES["64"].answer())


def test_a_connection_begins_with_an_opening(command: list[str], core: int) -> None:
    case: Any = WS_CASES["64"]
    with serving(lambda length: [], UpgradingHandler) as server:
        port = server.server_address[1]
        assert case.fault(port) is None
        request, answer = case.request(port), case.answer()
        with generator(command, port, 2, request, core, answer=answer, opening=case.opening) as g:
            assert g.run(0.01).requests >= 2
        with generator(command, port, 1, request, core, answer=answer[:-1] + b"!", opening=case.opening) as g:
            with pytest.raises(GeneratorError, match="1 of 1 answers were not as expected"):
                g.run(0)


@pytest.mark.parametrize(
    ("parts", "words"),
    [([b"Y" * 63 + b"!"], "1 of 1 answers were not the request"), ([LINE, b"more"], "4 bytes follow")],
    ids=["other", "too much"],
)
def test_a_wrong_echo_is_not_measured(command: list[str], core: int, parts: list[bytes], words: str) -> None:
    with serving(lambda length: [b"".join(parts)], EchoHandler) as server:
        port = server.server_address[1]
        with generator(command, port, 1, LINE, core, echo=True) as g, pytest.raises(GeneratorError, match=words):
            g.run(0)


def test_a_wrong_echo_is_named() -> None:
    with serving(lambda length: [b"Z" * length], EchoHandler) as server:
        fault = TCP_CASES["line"].fault(server.server_address[1])
    assert fault is not None
    assert "64 bytes came back for 64: b'ZZZ" in fault


def test_idle_connections_are_held_and_their_end_is_seen(load: Callable[..., Any]) -> None:
    with serving(lambda number: [RIGHT]) as server:
        with load(server, 1) as g:
            g.hold(20)
            assert len(server.requests) == 20
            assert g.alive() == 20
            g.run(0.01)
            assert g.alive() == 20
    closing = threading.Event()
    with serving(lambda number: [RIGHT, b""] if closing.is_set() else [RIGHT]) as server:
        with load(server, 1) as g:
            g.hold(3)
            closing.set()
            g.hold(2)
            # The close follows the answer at once, but the kernel may not have delivered it yet.
            while g.alive() != 3:
                pass


def test_nobody_there(command: list[str], core: int) -> None:
    with serving(lambda number: []) as server:
        port = server.server_address[1]
    with generator(command, port, 1, b"", core) as g, pytest.raises(GeneratorError, match=r"[Cc]onnect"):
        g.run(0.01)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_exemplary_answer_is_right(case: Any) -> None:
    with serving(lambda number: [case.answer()]) as server:
        assert case.fault(server.server_address[1]) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ERROR, "answered 500, not 200"),
        (OTHER, "answered with b'Hello, earth', expected something like b'Hello, world'"),
        (RIGHT.replace(b"text/html", b"text/plain"), "answered as 'text/plain', expected 'text/html'"),
        (b"nonsense\r\n\r\n", "BadStatusLine"),
    ],
)
def test_a_wrong_answer_is_named(answer: bytes, words: str) -> None:
    with serving(lambda number: [answer, b""]) as server:
        fault = HELLO.fault(server.server_address[1])
    assert fault is not None
    assert words in fault
