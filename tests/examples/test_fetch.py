"""`examples/03_fetch_async.py` and `examples/04_fetch_gen.py` on every backend, also with nobody there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pollux.testing.descriptors import refusing_address
from tests.architecture.test_rooms import ROOT
from tests.examples.programs import output
from tests.reactor.loops import BACKENDS, usable


@pytest.mark.parametrize("backend", BACKENDS)
def test_nested_callbacks(backend: str) -> None:
    assert output(backend, "03_fetch_async.py") == ["200 first: b'This is one.'", "second: b'This is two.'"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_generators(backend: str) -> None:
    assert output(backend, "04_fetch_gen.py") == [
        "200 Callback and Wait: b'This is one.', b'This is two.'",
        "200 Task: b'This is one.', b'This is two.'",
        "200 await: b'This is one.', b'This is two.'",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_callback_raises_is_an_error_page(backend: str) -> None:
    with refusing_address() as (host, port):
        url = f"http://{host}:{port}/"
        command = [sys.executable, "-W", "error", str(ROOT / "examples" / "03_fetch_async.py"), url, url]
        environment = os.environ | {"POLLUX_BACKEND": usable(backend).name}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("500 ")
    assert "ConnectionRefusedError" in done.stderr
