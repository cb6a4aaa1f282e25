"""`python -m benchmarks ws --broadcast`: every server that is installed sends everything to everybody."""

from __future__ import annotations

import importlib.util
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
        *("--broadcast", "20", "--rounds", "2", "--seconds", "0.05", "--reference", "tornado"),
        *("--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"ws-broadcast-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    with_uvloop = [name for name in ("picows", "aiohttp", "websockets") if importlib.util.find_spec(name)]
    names = {"pollux", "tornado", *(with_uvloop if importlib.util.find_spec("uvloop") else [])}
    assert [table["title"] for table in data["tables"]] == ["64 B to 20", "16 KiB to 20"], "1 MiB is left out"
    for table in data["tables"]:
        assert {series["name"] for series in table["series"]} == names
        assert all(len(series["values"]) == 2 and min(series["values"]) > 0 for series in table["series"])
        assert table["series"][0]["notes"].keys() == {"each", "KiB", "version"}
    assert "soft limit of descriptors" in done.stdout


@pytest.mark.parametrize(
    ("count", "words"), [("0", "--broadcast must be at least 1"), ("99999999", "raise the hard limit of")]
)
def test_impossible_numbers_are_named(count: str, words: str) -> None:
    done = benchmarks("--broadcast", count, "--peers", "pollux")
    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
