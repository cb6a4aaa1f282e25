"""`python -m benchmarks ws --broadcast`: the servers send everything to everybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.test_rooms import ROOT

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason=f"no /proc/PID/schedstat on {sys.platform}"
)


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "ws", *arguments], cwd=ROOT, env=environment, capture_output=True,
        text=True, check=False, timeout=50,
    )  # fmt: skip


def test_broadcast_is_measured(tmp_path: Path) -> None:
    done = benchmarks(
        *("--broadcast", "20", "--case", "64,1m", "--peers", "pollux,tornado", "--reference", "tornado"),
        *("--rounds", "1", "--seconds", "0.05", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"ws-broadcast-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    (table,) = data["tables"]
    assert table["title"] == "64 B to 20", "1 MiB is left out"
    assert [series["name"] for series in table["series"]] == ["pollux", "tornado"]
    for series in table["series"]:
        assert len(series["values"]) == 1
        assert series["values"][0] > 0
        assert series["notes"].keys() == {"each", "KiB", "version"}
    assert "soft limit of descriptors" in done.stdout


@pytest.mark.parametrize(
    ("count", "words"), [("0", "--broadcast must be at least 1"), ("99999999", "raise the hard limit of")]
)
def test_impossible_numbers_are_named(count: str, words: str) -> None:
    done = benchmarks("--broadcast", count, "--peers", "pollux")
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
