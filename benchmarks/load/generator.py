"""The load generator as a child process that obeys lines: `loadgen.c` says which.

Where there is no C compiler `loadgen.py` stands in. It costs more than the fastest servers do, which then wait for it,
and a server that waits polls more often than one at work: the table says so.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import compiled

HERE = Path(__file__).parent


class GeneratorError(Exception):
    """The generator gave up: it could not connect, or an answer was wrong. Carries its own words."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one closed-loop run did: answers received, and seconds from the first request to the last answer."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Paced:
    """What one run at a given rate did: answers received, seconds, and microseconds from when a request was due to when
    its answer was there: median, 99th percentile, greatest.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    worst: float


class Generator:
    """A started generator with its connections open."""

    def __init__(self, process: subprocess.Popen[str], words: Path, wrong: str) -> None:
        self._process = process
        self._words = words
        self._wrong = wrong

    def _ask(self, command: str) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: its own words say why
        answer = self._process.stdout.readline().split()
        if not answer:
            self._process.wait()
            raise GeneratorError(self._words.read_text().strip() or f"the load generator died on {command!r}")
        return [int(word) for word in answer[1:]]

    def run(self, seconds: float) -> Run:
        """Send for `seconds`; return when the last answer is in.

        :raises GeneratorError: a connection failed or an answer was wrong.
        """
        requests, nanoseconds, bad = self._ask(f"run {seconds:f}")
        if bad:
            raise GeneratorError(f"{bad} of {requests} answers {self._wrong}")
        return Run(requests, nanoseconds / 1e9)

    def pace(self, rate: float, seconds: float) -> Paced:
        """Send `rate` requests a second, evenly, whether or not those before are answered.

        :raises GeneratorError: a connection failed or an answer was wrong.
        """
        requests, nanoseconds, bad, *taken = self._ask(f"pace {rate:f} {seconds:f}")
        if bad:
            raise GeneratorError(f"{bad} of {requests} answers {self._wrong}")
        return Paced(requests, nanoseconds / 1e9, *(each / 1e3 for each in taken))

    def hold(self, connections: int) -> None:
        """Open that many more connections, make one request on each, and leave them idle."""
        self._ask(f"hold {connections}")

    def alive(self) -> int:
        """Return how many idle connections the server has not closed."""
        return self._ask("alive")[0]


def program(python: bool = False) -> list[str]:
    """Return the generator's command: the compiled one unless there is no compiler or `python` is wanted."""
    binary = None if python else compiled(HERE / "loadgen.c")
    return [sys.executable, str(HERE / "loadgen.py")] if binary is None else [str(binary)]


@contextmanager
def generator(
    command: list[str],
    port: int,
    connections: int,
    request: bytes,
    core: int,
    *,
    echo: bool = False,
    answer: bytes | None = None,
    opening: bytes = b"",
) -> Iterator[Generator]:
    """Start the generator `command` (see `program`) pinned to a core, against 127.0.0.1:`port`.

    A right answer is `answer`; with `echo` the request itself; else a response of HTTP/1.1 with status 200 and the body
    of the first one.

    :param opening: with `answer`: sent first on each connection, and answered with status 101.
    """
    mode, wrong = "http", "were not 200 or differed from the first"
    if echo:
        answer = request
    if answer is not None:
        mode, wrong = "echo", "were not the request" if answer is request else "were not as expected"
    with tempfile.TemporaryDirectory() as scratch:
        head, words = Path(scratch) / "request", Path(scratch) / "stderr"
        head.write_bytes(request)
        files = []
        if answer is not None:
            files = [Path(scratch) / "answer", Path(scratch) / "opening"]
            files[0].write_bytes(answer)
            files[1].write_bytes(opening)
        with words.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "127.0.0.1", str(port), str(connections), str(head), mode, *map(str, files)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        try:
            yield Generator(process, words, wrong)
        finally:
            process.kill()
            process.communicate()
