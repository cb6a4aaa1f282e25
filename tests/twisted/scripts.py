"""Scripts in processes of their own: a process has one Twisted reactor, and one chance to choose it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run(script: str, *arguments: str, stderr: str = "", **environment: str) -> list[str]:
    """Run a script, in which any warning is an error; return the lines it prints.

    :param stderr: what has to stand in its stderr; by default nothing may.
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments]
    env = {name: value for name, value in os.environ.items() if name != "POLLUX_BACKEND"} | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == stderr if not stderr else stderr in done.stderr, done.stderr
    return done.stdout.splitlines()
