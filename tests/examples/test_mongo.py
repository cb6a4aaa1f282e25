"""`examples/08_mongo.py` on every backend: on the server that it brings along, and told of one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.architecture.test_rooms import ROOT
from tests.mongo.servers import MongoServer, installed
from tests.reactor.loops import BACKENDS, usable

EXAMPLE = str(ROOT / "examples" / "08_mongo.py")


@contextmanager
def serving(backend: str, *uri: str) -> Iterator[int]:
    """Run the example; yield its port. It must end as it is asked to, and without a word."""
    command = [sys.executable, "-W", "error", EXAMPLE, "0", *uri]
    environment = os.environ | {"POLLUX_BACKEND": usable(backend).name}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on port "), process.communicate()
            yield int(line.rpartition(" ")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)
    unexpected = [line for line in said[1].splitlines() if "HTTP 400: Bad Request" not in line]
    assert (process.returncode, said[0], unexpected) == (0, "", [])


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.getheader("Content-Type") == "application/json" else None


def use(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/changes", open_timeout=30) as changes:
        status, note = ask(port, "POST", "/notes", '{"text": "buy milk"}')
        assert (status, note["text"]) == (201, "buy milk")
        note_id = note["_id"]["$oid"]
        told = json.loads(changes.recv(timeout=30))
        assert told == {"what": "insert", "id": note["_id"], "note": note}
        assert ask(port, "GET", f"/notes/{note_id}") == (200, note)
        assert ask(port, "GET", "/notes") == (200, {"notes": [note]})
        assert ask(port, "DELETE", f"/notes/{note_id}") == (204, None)
        assert json.loads(changes.recv(timeout=30))["what"] == "delete"
        assert ask(port, "DELETE", f"/notes/{note_id}")[0] == 404
        assert ask(port, "GET", "/notes/nonsense")[0] == 404
        for body in ("", "{", "[]", '{"text": 5}'):
            assert ask(port, "POST", "/notes", body)[0] == 400
        assert ask(port, "GET", "/notes") == (200, {"notes": []})


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with MongoServer(tmp_path_factory.mktemp("mongo")) as server:
        yield f"mongodb://127.0.0.1:{server.port}/notes"


@pytest.mark.parametrize("backend", BACKENDS)
def test_notes(backend: str, uri: str) -> None:
    with serving(backend, uri) as port:
        use(port)


def test_server_of_its_own() -> None:
    installed("secantusd-py")
    with serving("epoll" if "epoll" in BACKENDS and sys.platform == "linux" else "select") as port:
        use(port)


def test_no_server_at_hand(tmp_path: Path) -> None:
    """It says what to install."""
    nowhere = f"import runpy, sysconfig; sysconfig.get_path = lambda name: {str(tmp_path)!r}"
    script = f"{nowhere}; runpy.run_path({EXAMPLE!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install secantusdb" in done.stderr
