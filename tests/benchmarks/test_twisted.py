"""`python -m benchmarks twisted`: every reactor echoes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.twisted.peers import PEERS

from .test_command import benchmarks


def test_every_reactor_echoes(tmp_path: Path) -> None:
    done = benchmarks(
        *("twisted", "--rounds", "1", "--seconds", "0.05", "--connections", "2", "--python"),
        *("--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"twisted-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    assert [[series["name"] for series in table["series"]] for table in data["tables"]] == [list(PEERS)] * 2
