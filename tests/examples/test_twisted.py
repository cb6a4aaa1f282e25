"""`examples/09_twisted.py`: what Twisted serves, what Pollux serves beside it, what passes from one to the other."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pollux
from pollux_websocket import websocket_connect
from tests.architecture.test_rooms import ROOT


def test_twisted_and_pollux_in_one_program() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "09_twisted.py"), "0", "0", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            pollux.run(visit(*map(int, re.findall(r"\d+", server.stdout.readline()))))
        finally:
            server.send_signal(signal.SIGTERM)
        _, complaints = server.communicate(timeout=30)
        assert (server.returncode, complaints) == (0, "")


async def visit(web: int, lines: int, ours: int) -> None:
    """Talk to all three."""
    page = await pollux.IOLoop.current().run_in_executor(None, get, f"http://127.0.0.1:{ours}/")
    assert b"new WebSocket" in page
    listener = await websocket_connect(f"ws://127.0.0.1:{ours}/lines")
    with socket.create_connection(("127.0.0.1", lines)) as speaker:
        speaker.sendall(b"hello\n")
        assert await listener.read_message() == "hello"
        assert speaker.recv(100) == b"said: hello\n"
        assert (
            await pollux.IOLoop.current().run_in_executor(None, get, f"http://127.0.0.1:{web}/") == b"1 in the chat\n"
        )
    listener.close()
    assert await listener.read_message() is None


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        body: bytes = answer.read()
        return body
