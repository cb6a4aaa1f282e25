"""Servers start, fail aloud, and leave nobody behind."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import processes
from benchmarks.server import ServerError, free_port, running

from .conftest import ROOT

# A server with a worker in a process group of its own, as some have: killing the group would not reach it.
FAMILY = """
import os, signal, socket, sys
ready, told = os.pipe()
if os.fork() == 0:
    os.setpgid(0, 0)
    os.write(told, b"x")
    signal.pause()
os.read(ready, 1)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""
# What `python -m benchmarks` does while it measures, stopped in the middle.
MEASURING = """
import signal, sys
from benchmarks.server import free_port, interruptible, running
port = free_port()
interruptible()
try:
    with running("it", [sys.executable, "-c", sys.argv[1], str(port)], port, int(sys.argv[2])) as session:
        print(session, flush=True)
        signal.pause()
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_the_whole_family_ends(core: int) -> None:
    port = free_port()
    with running("it", [sys.executable, "-c", FAMILY, str(port)], port, core) as session:
        assert len(processes(session)) == 2
    assert processes(session) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_orphan(core: int, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MEASURING, FAMILY, str(core)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        session = int(process.stdout.readline())
        assert len(processes(session)) == 2
        process.send_signal(number)
        assert process.wait() == 130
    assert processes(session) == []


def test_a_server_that_dies_is_quoted(core: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing as an answer')"]
    with (
        pytest.raises(ServerError, match=r"(?s)it ended with status 1 before it listened.*no such thing as an answer"),
        running("it", command, free_port(), core, tmp_path),
    ):
        pytest.fail("it never listened")  # pragma: no cover


def test_a_server_that_dies_meanwhile_is_an_error(core: int) -> None:
    port = free_port()
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept(); s.accept()"
    with pytest.raises(ServerError, match="died while it was measured"):
        with running("it", [sys.executable, "-c", code, str(port)], port, core) as session:
            socket.create_connection(("127.0.0.1", port)).close()  # its second: `running` made the first
            while processes(session):
                pass
