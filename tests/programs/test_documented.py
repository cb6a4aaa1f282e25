"""The snippets of docs/programs.md, as they stand there, each in a process of its own on every backend."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.programs.conftest import RedisUrls, documented

PYTHON_THEN_TEXT = re.compile(r"```python\n(.*?)```\n+```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    "heading", ["aiohttp", "httpx", "anyio", "websockets", "redis-py", "Subprocesses", "TLS"], ids=str.lower
)
def test_prints_what_the_page_says(heading: str, backend: str, request: pytest.FixtureRequest) -> None:
    ((script, printed),) = PYTHON_THEN_TEXT.findall(documented(heading))
    environment = os.environ | {"POLLUX_BACKEND": backend}
    if heading == "redis-py":
        urls: RedisUrls = request.getfixturevalue("redis_urls")
        environment["REDIS_URL"] = urls.tcp + f"/{10 + len(backend)}"  # a database that no other backend uses
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoll" in printed
    assert done.stdout == printed.replace("epoll", backend)
