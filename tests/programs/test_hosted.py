"""Starlette, FastAPI, Django and Flask as they are released, served by `pollux serve`, each on every backend.

The sites are in `hosted/`. What each does is what its users do: forms with files, bodies and responses in parts, work
behind the response, errors.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

SITES = Path(__file__).with_name("hosted")
PARTS = b"".join(b"%07d\n" % number * 128 for number in range(100))
BIG = 5 << 20  # bytes: more than any buffer on the way


@contextmanager
def hosting(backend: str, target: str, *options: str) -> Iterator[tuple[httpx.Client, list[str]]]:
    """Serve a site; yield a client for it, and what is said from its end on."""
    command = [sys.executable, "-m", "pollux", "serve", target, "--port", "0", "--backend", backend, *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=SITES, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"}, text=True,
        stderr=subprocess.STDOUT, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"on (http://\S+)", line):
                    break
            else:
                pytest.fail("".join(said))
            with httpx.Client(base_url=found[1], timeout=40, trust_env=False) as client:
                yield client, said
            process.send_signal(signal.SIGTERM)
            said.append(process.communicate(timeout=40)[0])
            assert process.returncode == 0, "".join(said)
        finally:
            process.kill()


def check_form(client: httpx.Client, path: str = "/upload") -> None:
    """Send a form with a large file."""
    files = {"file": ("naïve name.bin", bytes(range(256)) * (BIG // 256), "application/octet-stream")}
    answer = client.post(path, files=files, data={"text": "grüß"})
    assert (answer.status_code, answer.json()) == (200, {"name": "naïve name.bin", "size": BIG, "text": "grüß"})


def check_count(client: httpx.Client, chunked: bool = True) -> None:
    """Send a body with a length, and one in chunks."""

    def parts() -> Iterator[bytes]:
        for _ in range(BIG // 65536):
            yield bytes(65536)

    assert client.post("/count", content=bytes(BIG)).text == str(BIG)
    if chunked:
        assert client.post("/count", content=parts()).text == str(BIG // 65536 * 65536)
    assert client.post("/count", content=b"").text == "0"


def test_starlette(backend: str) -> None:
    with hosting(backend, "starlette_site:app") as (client, said):
        answer = client.get("/", params={"name": "you"})
        assert (answer.text, answer.headers["x-marked"]) == ("hello you", "yes")
        check_form(client)
        check_count(client)
        streamed = client.get("/stream")
        assert (streamed.content, streamed.headers["content-encoding"]) == (PARTS, "gzip")
        assert client.get("/stream", headers={"Accept-Encoding": ""}).content == PARTS
        client.get("/happenings")
        assert client.get("/background").text == "early"
        assert "worked" in client.get("/happenings").json()
        assert client.get("/file").content == (SITES / "starlette_site.py").read_bytes()
        assert client.get("/static/flask_site.py").content == (SITES / "flask_site.py").read_bytes()
        assert client.head("/file").headers["content-length"] == str((SITES / "starlette_site.py").stat().st_size)
        assert client.get("/fail").status_code == 500
        assert client.get("/nowhere").status_code == 404
    assert "lifespan ended" in "".join(said)
    assert "".join(said).count("Traceback") == 1, "of /fail, and of nothing else"


def test_starlette_learns_of_a_client_that_goes_away_in_the_response(backend: str) -> None:
    """Without middleware of the kind that runs the application in another task: it does not pass this on."""
    with hosting(backend, "starlette_site:plain") as (client, said):
        with client.stream("GET", "/stream?endless") as endless:
            assert next(endless.iter_raw(1000)) == PARTS[:1000]
        assert client.get("/happenings").json() == ["stream ended"]
    assert "Traceback" not in "".join(said)


def test_starlette_learns_of_a_client_that_goes_away_in_its_body(backend: str) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)
            if len(sent) == 3:
                raise KeyboardInterrupt
            sent.append(1)

    sent: list[int] = []
    with hosting(backend, "starlette_site:app") as (client, _):
        with pytest.raises(KeyboardInterrupt):
            client.post("/count", content=endless())
        assert "disconnect" in client.get("/happenings").json()


def test_fastapi(backend: str) -> None:
    with hosting(backend, "fastapi_site:app") as (client, said):
        assert client.get("/", params={"name": "you"}).json() == {"hello": "you", "main": False}
        item: dict[str, Any] = {"name": "a", "price": 1.5}
        assert client.post("/item", json=item).json() == item
        wrong = client.post("/item", json={"name": "a"})
        assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["body", "price"])
        check_form(client)
        assert client.get("/background").json() == "early"
        assert client.get("/done").json() is True
        assert client.get("/openapi.json").json()["paths"]
    assert "Traceback" not in "".join(said)


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_django(backend: str, interface: str) -> None:
    with hosting(backend, f"django_site:{interface}") as (client, said):
        host = f"{client.base_url.host}:{client.base_url.port}"
        assert client.get("/", params={"name": "you"}).text == f"hello you http {host}"
        assert client.get("/later").text == "later"
        check_form(client)
        check_count(client, interface == "asgi")  # over WSGI Django goes by Content-Length alone
        for path in ("/stream", "/plain-stream"):
            assert client.get(path).content == PARTS
        assert client.get("/fail").status_code == 500
        assert client.get("/nowhere").status_code == 404
        head = client.head("/", params={"name": "you"})
        assert (head.status_code, head.content) == (200, b"")
    assert "Exception in the application" not in "".join(said)


def test_flask(backend: str) -> None:
    with hosting(backend, "flask_site:app", "--wsgi-threads", "3") as (client, said):
        assert [client.get("/", params={"name": "you"}).text for _ in range(2)] == ["hello you 1", "hello you 2"]
        check_form(client)
        check_count(client)
        assert client.get("/stream").content == PARTS
        assert client.get("/file").content == (SITES / "flask_site.py").read_bytes()
        assert (
            client.get("/file", headers={"Range": "bytes=1-4"}).content == (SITES / "flask_site.py").read_bytes()[1:5]
        )
        assert client.get("/fail").status_code == 500
        assert client.get("/nowhere").status_code == 404
    assert "Exception in the application" not in "".join(said)


@pytest.mark.parametrize("target", ["starlette_site:app", "django_site:wsgi"])
def test_behind_a_proxy_under_a_path(target: str) -> None:
    with hosting("auto", target, "--root-path", "/mounted", "--proxy-headers", "--access-log") as (client, said):
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        path = "/" if "starlette" in target else "/mounted/"  # a proxy strips the path for ASGI's root_path
        answer = client.get(path, params={"name": "you"}, headers=headers)
        assert answer.status_code == 200
        if "django" in target:
            assert " https " in answer.text
    assert re.search(r"200 GET \S+ \(203\.0\.113\.7\) [\d.]+ms", "".join(said))


def test_json_of_a_large_body_is_what_it_was() -> None:
    """Framing errors show in the last byte."""
    with hosting("auto", "fastapi_site:app") as (client, _):
        item = {"name": "x" * 300_000, "price": 2.0}
        assert json.loads(client.post("/item", json=item).content) == item
