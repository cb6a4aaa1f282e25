"""Programs in the dialects that Tornado has dropped, each in a process of its own on every backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("dialects")

PRINT = {
    "tornado2_store.py": """\
beat
connection 1 sets greeting
connection 1 sets size
client got b'hello'
client got all b'hello100000'
connection 2 failed: no such command: nonsense
closed: [1, 2]
""",
    "tornado3_engine.py": """\
b'ONE'
[b'TWO', b'THREE']
b'FOUR' (1,) {'key': 2}
[('first', b'FIVE'), ('second', b'SIX')]
caught 'later'
unknown: True
done
LeakedCallbackError True
""",
}


@pytest.mark.parametrize("program", PRINT)
def test_program(program: str, backend: str) -> None:
    environment = os.environ | {"POLLUX_BACKEND": backend}
    command = [sys.executable, "-W", "error", str(PROGRAMS / program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == (PRINT[program], "")
    assert done.returncode == 0
