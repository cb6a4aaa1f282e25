"""Tornado's own tests, with our loop in the place of asyncio's beneath it.

All modules that run a loop; the others (templates, escaping, options, ...) would be the same on any.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.comparison import worse_than_asyncio
from tests.reactor.loops import usable

# By what they take: the longest stand alone.
GROUPS = [
    ["iostream"],
    ["simple_httpclient"],
    ["httpclient", "httpserver", "http1connection"],
    ["autoreload", "process", "tcpserver", "tcpclient", "netutil"],
    ["web", "websocket", "wsgi", "auth", "routing"],
    ["asyncio", "ioloop", "gen", "concurrent", "locks", "queues", "testing", "circlerefs", "twisted"],
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("group", GROUPS, ids=",".join)
@pytest.mark.parametrize("backend", ["epoll", "poll"])
def test_what_passes_on_asyncio_passes_here(backend: str, group: list[str], tmp_path: Path) -> None:
    usable(backend)
    assert worse_than_asyncio(backend, [f"tornado.test.{name}_test" for name in group], tmp_path) == {}
