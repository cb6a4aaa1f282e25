"""The command `pollux`, in this process and as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pollux import config, registry
from pollux.cli import main


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POLLUX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_backends_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLUX_BACKEND", "select")
    assert main(["backends", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["chosen"], told["origin"]) == ("select", "environment POLLUX_BACKEND")
    assert told["disabled_plugins"] == []
    assert [row["name"] for row in told["backends"]] == [backend.name for backend in registry.backends()]
    for row, backend in zip(told["backends"], registry.backends(), strict=True):
        assert row["summary"] == backend.summary
        assert row["priority"] == backend.priority
        assert row["reason"] == registry.unusable(backend)
        assert row["available"] is (row["reason"] is None)
        assert row["chosen"] is (row["name"] == "select")
        assert row["plugin"]
        assert row["distribution"]


def test_backends_as_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pollux]\nbackend = 'select'\n")
    assert main(["backends"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[3:].split()[0]: line for line in lines[1 : 1 + len(registry.backends())]}
    for backend in registry.backends():
        reason = registry.unusable(backend)
        assert rows[backend.name].startswith("*" if backend.name == "select" else " ")
        assert backend.summary in rows[backend.name]
        assert reason is None or f"(not usable: {reason})" in rows[backend.name]
    assert lines[-1] == f"backend chosen: select, by {tmp_path}/pyproject.toml:2"


def test_config_tells_the_same_in_both_forms(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pollux.toml").write_text("backend = 'select'\nport = 1\naccess_log = true\n")
    monkeypatch.setenv("POLLUX_HOST", "::1")
    assert main(["config", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(tmp_path / "pollux.toml")
    assert (told["chosen"], told["origin"]) == ("select", f"{tmp_path}/pollux.toml:1")
    assert list(told["settings"]) == list(config.options())
    assert told["settings"]["port"] == {"value": 1, "origin": f"{tmp_path}/pollux.toml:2"}
    assert told["settings"]["host"] == {"value": "::1", "origin": "environment POLLUX_HOST"}
    assert told["settings"]["uds"] == {"value": None, "origin": "default"}
    assert main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line.split()[1:3] for line in lines[1 : 1 + len(config.options())]}
    assert cells["port"] == ["1", f"{tmp_path}/pollux.toml:2"]
    assert cells["access_log"] == ["true", f"{tmp_path}/pollux.toml:3"]
    assert cells["uds"] == ["-", "default"]
    assert lines[-2:] == [
        f"backend chosen: select, by {tmp_path}/pollux.toml:1",
        f"config file: {tmp_path}/pollux.toml",
    ]


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["backends", "--help"], ["config", "-h"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert out.startswith("usage: pollux")
        assert "examples:\n" in out


@pytest.mark.parametrize(
    ("argv", "first"),
    [
        ([], "pollux: expected a command: backends, config"),
        (["beckends"], "pollux: there is no command 'beckends'; did you mean 'backends'?"),
        (["backends", "--jsn"], "pollux: unrecognized arguments: --jsn"),
        (["--nonsense"], "pollux: unrecognized arguments: --nonsense"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(
    argv: list[str], first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(first)
    assert "--help'" in err.splitlines()[1]


@pytest.mark.parametrize("command", ["backends", "config"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_wrong_choice_lists_the_candidates(
    command: str, form: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLLUX_BACKEND", "selekt")
    assert main([command, *form]) == 2
    out, err = capsys.readouterr()
    first, *candidates = err.splitlines()
    assert out == ""
    assert first == ("pollux: there is no backend 'selekt' (from environment POLLUX_BACKEND); did you mean 'select'?")
    assert [line.split()[0] for line in candidates] == [backend.name for backend in registry.backends()]


def test_a_malformed_file_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "pollux.toml").write_text("port = 1\nport = 2\n")
    assert main(["backends"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pollux: {tmp_path}/pollux.toml:2: not valid TOML: ")
    assert err.count("\n") == 1


@pytest.mark.smoke
def test_python_m_pollux_is_the_command(tmp_path: Path) -> None:
    for argv in (["--version"], ["-V"]):
        done = subprocess.run(
            [sys.executable, "-m", "pollux", *argv], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("pollux ")
        assert done.stderr == ""
    failed = subprocess.run(
        [sys.executable, "-m", "pollux", "backends"],
        env={**os.environ, "POLLUX_BACKEND": "none-such"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("pollux: there is no backend 'none-such'")
    assert "Traceback" not in failed.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    # Buffered, as users run it: the pipe is found broken not by `print` but when the buffer is written.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pollux", "backends"],
            cwd=tmp_path,
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
