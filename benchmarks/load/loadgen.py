"""`loadgen.c` in Python, for machines without a C compiler: same arguments, same commands, same checks.

python loadgen.py HOST PORT CONNECTIONS REQUEST_FILE http
python loadgen.py HOST PORT CONNECTIONS REQUEST_FILE echo ANSWER_FILE OPENING_FILE
"""

import resource
import select
import socket
import sys
import time
from pathlib import Path

DRAIN_SECONDS = 10.0


class Load:
    """A closed loop over `connections` keep-alive connections, one request in flight on each."""

    def __init__(
        self, address: tuple[str, int], connections: int, request: bytes, answer: bytes | None, opening: bytes
    ) -> None:
        self._address = address
        self._request = request
        self._answer = answer
        self._opening = opening
        self._busy = {s.fileno(): s for s in (self._connect() for _ in range(connections))}
        self._partial: dict[int, bytes] = {}
        self._idle: list[socket.socket] = []
        self._poll = select.epoll()
        for fd in self._busy:
            self._poll.register(fd, select.EPOLLIN)
        self._body: bytes | None = None

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=DRAIN_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._opening:
            connection.sendall(self._opening)
            head = b""
            while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows the head is an answer
                byte = connection.recv(1)
                if not byte:
                    sys.exit("loadgen: the opening was not answered")
                head += byte
            if not head.startswith(b"HTTP/1.1 101"):
                sys.exit(f"loadgen: the opening was answered {head[:40]!r}")
        return connection

    def _receive(self, connection: socket.socket) -> bool | None:
        """Read what is there: None while the answer is incomplete, else whether it is right."""
        fd = connection.fileno()
        got = connection.recv(65536)
        if not got:
            sys.exit("loadgen: the server closed a keep-alive connection")
        data = self._partial.pop(fd, b"") + got
        answer = self._answer
        if answer is not None:
            if len(data) < len(answer):
                self._partial[fd] = data
                return None
            if len(data) > len(answer):
                sys.exit(f"loadgen: {len(data) - len(answer)} bytes follow an answer nobody else asked for")
            return data == answer
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            self._partial[fd] = data
            return None
        before, name, after = head.lower().partition(b"\r\ncontent-length:")
        if not name:
            sys.exit(f"loadgen: an answer has no Content-Length: {head!r}")
        length = int(after.partition(b"\r")[0])
        if len(body) < length:
            self._partial[fd] = data
            return None
        if len(body) > length:
            sys.exit(f"loadgen: {len(body) - length} bytes follow an answer nobody else asked for")
        if self._body is None:
            self._body = body
        return before.startswith(b"http/1.1 200") and body == self._body

    def run(self, seconds: float) -> tuple[int, int, int]:
        """Return the number of answers, the nanoseconds they took, and how many were bad."""
        start = now = time.monotonic_ns()
        end = start + int(seconds * 1e9)
        requests = bad = 0
        for connection in self._busy.values():
            connection.sendall(self._request)
        in_flight = len(self._busy)
        while in_flight:
            events = self._poll.poll(DRAIN_SECONDS)
            if not events:
                sys.exit(f"loadgen: no answer for {DRAIN_SECONDS:.0f} s with {in_flight} requests in flight")
            now = time.monotonic_ns()
            for fd, _ in events:
                right = self._receive(self._busy[fd])
                if right is None:
                    continue
                requests += 1
                bad += not right
                if now < end:
                    self._busy[fd].sendall(self._request)
                else:
                    in_flight -= 1
        return requests, now - start, bad

    def pace(self, rate: float, seconds: float) -> tuple[int, int, int, int, int, int]:
        """Return as `run`, then the median, the 99th percentile and the greatest of nanoseconds from when a request was
        due to when its answer was there."""
        total, interval = int(rate * seconds), 1e9 / rate
        if total < 1:
            sys.exit(f"loadgen: cannot make {total} requests")
        free, due = list(self._busy), dict.fromkeys(self._busy, 0)
        taken: list[int] = []
        sent = bad = 0
        start = last = now = time.monotonic_ns()
        while len(taken) < total:
            while free and sent < total and start + int(interval * sent) <= now:
                fd = free.pop()
                due[fd] = start + int(interval * sent)
                sent += 1
                self._busy[fd].sendall(self._request)
            events = self._poll.poll(0)
            now = time.monotonic_ns()
            if events:
                last = now
            elif now - last > DRAIN_SECONDS * 1e9:
                sys.exit(f"loadgen: no answer for {DRAIN_SECONDS:.0f} s at {rate:g} requests/s")
            for fd, _ in events:
                right = self._receive(self._busy[fd])
                if right is not None:
                    bad += not right
                    taken.append(time.monotonic_ns() - due[fd])
                    free.append(fd)
        now = time.monotonic_ns()
        taken.sort()
        return total, now - start, bad, taken[total // 2], taken[total * 99 // 100], taken[-1]

    def hold(self, more: int) -> int:
        """Open `more` connections, make a request on each and keep them; return how many there are now."""
        for _ in range(more):
            connection = self._connect()
            connection.sendall(self._request)
            while (right := self._receive(connection)) is None:
                pass
            if not right:
                sys.exit(f"loadgen: a wrong answer on idle connection {len(self._idle)}")
            self._idle.append(connection)
        return len(self._idle)

    def alive(self) -> int:
        """Count the idle connections with nothing to report: anything there would be their end."""
        watch = select.poll()
        for connection in self._idle:
            watch.register(connection, select.POLLIN)
        return len(self._idle) - len(watch.poll(0))


def main() -> None:
    """Obey the lines on stdin."""
    host, port, connections, request_file, _, *files = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    request = Path(request_file).read_bytes()
    answer, opening = [Path(file).read_bytes() for file in files] or (None, b"")
    try:
        load = Load((host, int(port)), int(connections), request, answer, opening)
        for line in sys.stdin:
            word, _, argument = line.strip().partition(" ")
            if word == "run":
                print("ran", *load.run(float(argument)), flush=True)
            elif word == "pace":
                rate, seconds = argument.split()
                print("paced", *load.pace(float(rate), float(seconds)), flush=True)
            elif word == "hold":
                print("held", load.hold(int(argument)), flush=True)
            elif word == "alive":
                print("alive", load.alive(), flush=True)
            else:
                sys.exit(f"loadgen: unknown command: {line}")
    except OSError as error:
        sys.exit(f"loadgen: {error}")


if __name__ == "__main__":
    main()
