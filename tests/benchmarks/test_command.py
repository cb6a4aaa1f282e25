"""The command line, run as its users run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.build import BuildError, compiled, compiler
from benchmarks.http.peers import PEERS
from benchmarks.loop.cases import CASES as LOOP_CASES
from benchmarks.peer import Peer

from .conftest import ROOT


def benchmarks(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize("subject", ["http", "tcp", "loop", "startup"])
def test_help_names_every_option(subject: str) -> None:
    done = benchmarks(subject, "--help")
    assert done.returncode == 0
    for option in ("--rounds", "--output", "--backend"):
        assert option in done.stdout
    assert subject in benchmarks("--help").stdout


def test_http_writes_table_and_numbers(tmp_path: Path) -> None:
    names = "python-floor,c-floor" if compiler() else "python-floor"
    done = benchmarks(
        *("http", "--case", "hello,json", "--peers", names, "--reference", "python-floor"),
        *("--rounds", "2", "--seconds", "0.05", "--connections", "4", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    stem = f"http-py{sys.version_info[0]}.{sys.version_info[1]}"
    data = json.loads((tmp_path / f"{stem}.json").read_text())
    assert len(data["tables"]) == 2
    for table in data["tables"]:
        assert [series["name"] for series in table["series"]] == names.split(",")
        assert all(len(series["values"]) == 2 and min(series["values"]) > 0 for series in table["series"])
    assert (tmp_path / f"{stem}.md").read_text() in done.stdout
    assert "| python-floor |" in done.stdout


@pytest.mark.parametrize("python", [[], ["--python"]], ids=["c", "python"])
def test_a_mebibyte_either_way_on_every_kind_of_server(tmp_path: Path, python: list[str]) -> None:
    if not python and not compiler():
        pytest.skip("no C compiler")
    peers = ["pollux", "pollux-asgi", "pollux-starlette", "tornado"]
    done = benchmarks(
        *("http", "--case", "large,upload", "--peers", ",".join([*peers, "python-floor"]), "--reference", "tornado"),
        *("--rounds", "1", "--seconds", "0.05", "--connections", "2", "--output", str(tmp_path), *python),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"http-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    names = [[series["name"] for series in table["series"]] for table in data["tables"]]
    assert names == [peers] * 2, "the floor knows no such bodies"


def test_latency_is_measured(tmp_path: Path) -> None:
    done = benchmarks(
        *("http", "--latency", "--case", "hello", "--peers", "pollux,python-floor", "--reference", "python-floor"),
        *("--rounds", "2", "--seconds", "0.1", "--connections", "4", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"http-latency-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    (table,) = data["tables"]
    assert table["unit"] == "us, 99th percentile"
    for series in table["series"]:
        assert len(series["values"]) == 2
        assert series["notes"].keys() == {"p50", "greatest", "requests/s"}
        assert min(series["values"]) > 0


@pytest.mark.parametrize("python", [[], ["--python"]], ids=["c", "python"])
def test_every_tcp_case_on_every_kind_of_server(tmp_path: Path, python: list[str]) -> None:
    if not python and not compiler():
        pytest.skip("no C compiler")
    peers = ["pollux", "asyncio", "tornado", "python-floor"]
    done = benchmarks(
        *("tcp", "--peers", ",".join(peers), "--reference", "asyncio", *python),
        *("--rounds", "1", "--seconds", "0.05", "--connections", "2", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / f"tcp-py{sys.version_info[0]}.{sys.version_info[1]}.json").read_text())
    names = [[series["name"] for series in table["series"]] for table in data["tables"]]
    assert names == [[peer for peer in peers if peer != "tornado"]] * 2 + [peers] * 2  # which has no Protocol


def test_idle_connections_are_measured(tmp_path: Path) -> None:
    done = benchmarks(
        *("http", "--idle", "50", "--peers", "python-floor", "--python", "--rounds", "1", "--seconds", "0.05"),
        *("--connections", "2", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "Memory per idle connection, 50 held" in done.stdout
    assert "load from the Python generator" in done.stdout


@pytest.mark.parametrize("case", LOOP_CASES)
def test_each_loop_case_runs_its_operations(case: str) -> None:
    script = ROOT / "benchmarks/loop/cases.py"
    done = subprocess.run(
        [sys.executable, str(script), "asyncio", case, "2000"], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


def test_a_missing_peer_is_left_out_with_a_word() -> None:
    peer = Peer("swift", lambda site: [], ("swift-server", "uvloop"), ("no_such_module_here",))
    assert peer.missing() == "no_such_module_here is not installed (pip install swift-server uvloop)"


def test_an_installed_peer_is_not_missing() -> None:
    assert PEERS["python-floor"].missing() is None


def test_without_a_compiler_the_floor_is_left_out(tmp_path: Path) -> None:
    done = benchmarks(
        *("http", "--case", "path", "--peers", "python-floor,c-floor", "--rounds", "1", "--seconds", "0.05"),
        *("--connections", "2", "--output", str(tmp_path)),
        environment={"PATH": "", "CC": "no-such-compiler"},
    )
    assert done.returncode == 0, done.stderr
    assert "- c-floor left out: no C compiler (set CC, or install cc)" in done.stdout
    assert "load from the Python generator" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["http", "--case", "nonsense"], 2, "unknown case 'nonsense': choose from hello, json, path"),
        (["loop", "--peers", "nonsense"], 2, "unknown loop 'nonsense': choose from pollux, asyncio, uvloop, rloop"),
        (["tcp", "--case", "nonsense"], 2, "unknown case 'nonsense': choose from protocol, protocol-16k, line, block"),
        (["http", "--rounds", "0"], 1, "--rounds and --connections must be at least 1"),
        (["http", "--idle", "999999999"], 1, "raise the hard limit"),
        (["startup", "--rounds", "0"], 1, "--rounds must be at least 1, not 0"),
    ],
)
def test_bad_options_are_named(arguments: list[str], status: int, words: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_a_c_file_is_compiled_once_and_its_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.build.BUILD", tmp_path / "build")
    source = tmp_path / "it.c"
    source.write_text("int main(void) { return 7; }")
    program = compiled(source)
    assert program is not None
    assert subprocess.run([program], check=False).returncode == 7
    changed = program.stat().st_mtime_ns
    assert compiled(source) == program
    assert program.stat().st_mtime_ns == changed
    source.write_text("int main(void) { return seven; }")
    with pytest.raises(BuildError, match="seven"):
        compiled(source)
    assert [path.name for path in (tmp_path / "build").iterdir()] == [program.name]
