"""`examples/0b_tcpserver.py` on every backend, in one process and in two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.architecture.test_rooms import ROOT
from tests.reactor.loops import BACKENDS, usable


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_line_server(backend: str, processes: str) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "0b_tcpserver.py"), "0", processes]
    environment = os.environ | {"POLLUX_BACKEND": usable(backend).name}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = ("127.0.0.1", int(server.stdout.readline().removeprefix("listening on port ")))
            with connect(address) as client, client.makefile("rwb", buffering=0) as lines:
                greeting = lines.readline().decode()
                assert greeting.startswith("hello from process " if processes == "2" else "hello, 127.0.0.1")
                for line in (b"one\n", b"two\n"):
                    lines.write(line)
                    assert lines.readline() == b"you said: " + line
                with connect(address) as other:  # two at once
                    other.recv(1000)
                    lines.write(b"three\nquit\n")
                    assert lines.read() == b"you said: three\nbye\n"
            with connect(address) as talkative:
                talkative.recv(1000)
                talkative.sendall(b"x" * 3000)
                try:
                    assert talkative.recv(1) == b""
                except ConnectionResetError:
                    pass  # the rest of it was not read
        finally:
            server.send_signal(signal.SIGTERM)
        out, errors = server.communicate(timeout=20)
    assert server.returncode == (0 if processes == "1" else 128 + signal.SIGTERM)
    assert sorted(line for line in out.splitlines() if "hung up" not in line)[-1].startswith("a client is gone: ")
    assert [line for line in errors.splitlines() if "Unsatisfiable" not in line] == []


def connect(address: tuple[str, int]) -> socket.socket:
    """Connect as soon as somebody listens: with two processes nobody does before they are there."""
    while True:
        try:
            return socket.create_connection(address, 20)
        except ConnectionRefusedError:
            pass
