"""Programs for Twisted, as their documentation has them, on our reactor: Klein's server and treq's client."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reactor.loops import usable

PROGRAMS = Path(__file__).with_name("programs")
RUN = """
import runpy, sys
import pollux_twisted
pollux_twisted.install(sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(backend: str, program: str, argument: object) -> list[str]:
    return [sys.executable, "-u", "-c", RUN, usable(backend).name, str(PROGRAMS / program), str(argument)]


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else gets: it stays bound here, and as it does not listen, Twisted may share it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("backend", ["epoll", "poll", "select"])
def test_klein_and_treq(backend: str, port: int) -> None:
    with subprocess.Popen(command(backend, "klein_start.py", port), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            log = ""
            for line in server.stdout:
                log += line
                if "starting on" in line:
                    break
            client = command(backend, "treq_start.py", f"http://127.0.0.1:{port}/")
            done = subprocess.run(client, capture_output=True, text=True, timeout=40, check=False)
            assert (done.returncode, done.stderr) == (0, ""), log
            assert done.stdout.splitlines() == [
                *("200 Hello, world!", "200 Hi bob!", "{'msg': 'Hello!'}", "1000000", "PolluxReactor")
            ]  # fmt: skip
        finally:
            server.terminate()
        rest = server.communicate(timeout=30)[0]
    assert server.returncode == 0
    assert '"GET /user/bob HTTP/1.1" 200' in rest
