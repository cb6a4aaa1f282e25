"""uvicorn as its users start it, with `--loop pollux:new_event_loop`, serving the raw ASGI app of docs/programs.md."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.programs.conftest import documented


@pytest.fixture
def server(backend: str, tmp_path: Path) -> Iterator[str]:
    """`host:port` of a uvicorn that runs the documented command, but for the port."""
    section = documented("uvicorn")
    (command,) = re.findall(r"```sh\n(.*?)\n```", section)
    (app,) = re.findall(r"```python\n# app.py\n(.*?)```", section, re.DOTALL)
    (tmp_path / "app.py").write_text(app)
    arguments = [sys.executable, "-W", "error", "-m", *command.split(), "--port", "0"]
    environment = os.environ | {"POLLUX_BACKEND": backend, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said: list[str] = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"running on http://(\S+)", line):
                    yield address[1]
                    break
            else:
                pytest.fail(f"uvicorn ended before it served:\n{''.join(said)}")
        finally:
            process.send_signal(signal.SIGINT)
            said.append(process.communicate()[1])
    text = "".join(said)
    assert "Application startup complete" in text
    assert "Application shutdown complete" in text, "SIGINT ends it gracefully"
    assert "Traceback" not in text


def test_http(server: str, backend: str) -> None:
    """Fifty requests at once over ten connections, with bodies up to 200 kB."""

    async def main() -> None:
        async with httpx.AsyncClient(base_url=f"http://{server}", limits=httpx.Limits(max_connections=10)) as client:
            sizes = [number * 4_000 for number in range(50)]
            answers = await asyncio.gather(*(client.post("/", content=b"x" * size) for size in sizes))
            assert [answer.text for answer in answers] == [
                f"{size} bytes on <IOLoop {backend} running>" for size in sizes
            ]

    asyncio.run(main())


def test_websocket(server: str) -> None:
    with connect(f"ws://{server}/") as socket:
        for text in ("hello", "x" * 100_000):
            socket.send(text)
            assert socket.recv() == text
