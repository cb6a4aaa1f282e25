"""CPython's own tests of its event loop, on ours. Python ships them in the package `test`, distributors often without.

Left out are the modules that put mocks into asyncio's loop (base_events, selector_events) or need no loop (futures),
and two long ones that take any loop (ssl, tasks).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.conformance.comparison import worse_than_asyncio
from tests.reactor.loops import BACKENDS, usable

# By what they take: the longest stand alone.
GROUPS = [
    ["events"],
    ["subprocess"],
    ["sslproto", "unix_events"],
    ["taskgroups", "timeouts", "waitfor"],
    ["sock_lowlevel", "sendfile", "server", "buffered_proto", "streams"],
    ["runners", "locks", "queues", "threads", "futures2", "context", "pep492"],
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("group", GROUPS, ids=",".join)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_passes_on_asyncio_passes_here(backend: str, group: list[str], tmp_path: Path) -> None:
    usable(backend)
    modules = [f"test.test_asyncio.test_{name}" for name in group]
    try:
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError:
        missing = modules
    if missing:
        pytest.skip(f"this Python comes without {', '.join(missing)}")
    assert worse_than_asyncio(backend, modules, tmp_path) == {}
