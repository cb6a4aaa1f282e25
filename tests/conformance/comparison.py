"""Compares what a foreign test suite says of our loop with what it says of asyncio's.

Each run is a process of its own. asyncio's loop is asked only about the tests that ours leaves open; and a test that
failed is run once more, on its own, because these suites measure time and the machine may be busy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.architecture.test_rooms import ROOT

RUNNER = Path(__file__).with_name("foreign_suites.py")
AIM = Path(__file__).with_name("aim")
PATIENCE = 150  # seconds; the longest needs 20 on an idle core


class Outcome(NamedTuple):
    """What the tests of a few modules did on one loop."""

    passed: list[str]
    failed: dict[str, str]
    skipped: dict[str, str]
    status: int  # of the process; Tornado's is also 1 if anything was logged or written to stderr
    stderr: str


def run(loop: str, names: list[str], cwd: Path, aimed: bool = False, patient: bool = False) -> Outcome:
    """Run modules or single tests on `loop`, which is `asyncio` or a backend.

    :param aimed: with our modules in the place of Tornado's, too: see `aim/sitecustomize.py`.
    :param patient: give Tornado's tests 20 seconds each in the place of 5: a busy machine may be the reason.
    :raises RuntimeError: there was no result.
    """
    command = [sys.executable, str(RUNNER), loop, *names]
    env = {**os.environ}
    if aimed:
        env |= {"PYTHONPATH": os.pathsep.join(map(str, (AIM, ROOT))), "POLLUX_BACKEND": loop}
    if patient:
        env["ASYNC_TEST_TIMEOUT"] = "20"
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE)
    try:
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"{command} ended with {done.returncode} and no result:\n{done.stderr[-4000:]}") from None
    return Outcome(**report, status=done.returncode, stderr=done.stderr)


def names_of(tests: dict[str, str]) -> list[str]:
    """Return what to ask a loader for: the id of a subtest has its parameters behind the name."""
    return sorted({name.partition(" ")[0] for name in tests})


def worse_than_asyncio(backend: str, modules: list[str], cwd: Path) -> dict[str, str]:
    """Return what passes on asyncio's loop and not on ours, with the reasons."""
    ours = run(backend, modules, cwd)
    if not ours.passed:
        return {"all": f"no test passed: {ours}"}
    failed, status, stderr = ours.failed, ours.status, ours.stderr
    if status:
        again = run(backend, names_of(failed) or modules, cwd)
        failed, status, stderr = again.failed, again.status, again.stderr
    left_open = failed | ours.skipped
    if not left_open and not status:
        return {}
    theirs = run("asyncio", names_of(left_open) or modules, cwd)
    worse = {name: reason for name, reason in left_open.items() if name in theirs.passed}
    if status and not theirs.status and not failed:
        worse["log and stderr"] = stderr[-4000:]
    return worse
