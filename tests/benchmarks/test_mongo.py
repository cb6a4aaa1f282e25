"""`python -m benchmarks mongo`, run as its users run it."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.mongo.command import CLIENTS, STREAMING
from tests.mongo.servers import installed

from .test_command import benchmarks

SHORT = ("--rounds", "1", "--finds", "16", "--documents", "2000", "--seconds", "0.2", "--backend", "poll")


def test_every_client_that_is_installed(tmp_path: Path) -> None:
    installed("secantusd-rs")
    done = benchmarks("mongo", *SHORT, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"mongo-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    clients = [name for name, client in CLIENTS.items() if client.missing() is None]
    tables = data["tables"]
    assert [[series["name"] for series in table["series"]] for table in tables] == [clients] * 3 + [list(STREAMING)]
    for table in (tables[0], tables[1], tables[3]):
        assert all(series["values"][0] > 0 for series in table["series"])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--finds", "1"], 1, "--finds 16"),
        (["--peers", "nobody"], 2, "unknown client 'nobody'"),
        (["--case", "nonsense"], 2, "choose from one, sixteen, memory, lag"),
    ],
)
def test_bad_options(arguments: list[str], status: int, words: str) -> None:
    done = benchmarks("mongo", *arguments)
    assert done.returncode == status
    assert words in done.stderr
