"""`python -m benchmarks mysql`, run as its users run it."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.mysql.command import CLIENTS
from tests.services import program

from .test_command import benchmarks


def test_every_client_that_is_installed(tmp_path: Path) -> None:
    program("mariadb-install-db", "mariadb-server")
    done = benchmarks("mysql", "--rounds", "1", "--queries", "30", "--output", str(tmp_path), "--backend", "poll")
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"mysql-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    installed = [name for name, client in CLIENTS.items() if client.missing() is None]
    for table in data["tables"]:
        assert [series["name"] for series in table["series"]] == installed
        assert all(series["values"][0] > 0 for series in table["series"])
    assert len(data["tables"]) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--queries", "1"], 1, "--queries at least 30"),
        (["--peers", "nobody"], 2, "unknown client 'nobody'"),
        (["--case", "nonsense"], 2, "choose from one, rows"),
    ],
)
def test_bad_options(arguments: list[str], status: int, words: str) -> None:
    done = benchmarks("mysql", *arguments)
    assert done.returncode == status
    assert words in done.stderr
