"""Runs an example in a process of its own, on a poller that is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.architecture.test_rooms import ROOT
from tests.reactor.loops import run_script, usable


def output(backend: str, example: str, *arguments: str) -> list[str]:
    """Return the lines that `examples/<example>` prints; any warning is an error, and so is a word on stderr.

    Not in development mode: asyncio would then report callbacks that take 0.1 s, which on a busy machine any does.
    """
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / example), *arguments]
    environment = os.environ | {"POLLUX_BACKEND": usable(backend).name}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def documented(backend: str, page: str) -> list[str]:
    """Return the lines that the first Python block of `docs/<page>` prints."""
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    choose = f"import os\nos.environ['POLLUX_BACKEND'] = {backend!r}\n"
    return run_script(backend, choose + found[1]).splitlines()
