"""Settings: who wins, what is accepted, and what the user is told when a file, a variable or an argument is wrong."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pollux import config, registry
from pollux.backend import Backend
from pollux.config import Choice, Setting, choose_backend, setting
from pollux.errors import BackendError, ConfigError
from pollux.poller import Poller


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory and without anybody's POLLUX_ variables."""
    for name in [name for name in os.environ if name.startswith("POLLUX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _never() -> Poller:
    raise RuntimeError("choosing a backend must not create it")


def _usable_names() -> list[str]:
    return [backend.name for backend in registry.backends() if registry.unusable(backend) is None]


# Who wins


def test_a_default_holds_where_nobody_says_anything() -> None:
    assert setting("port") == Setting(8888, "default")
    assert setting("uds") == Setting(None, "default")


def test_argument_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pollux.toml").write_text("# mine\nport = 3\n")
    assert setting("port") == Setting(3, f"{tmp_path}/pollux.toml:2")
    monkeypatch.setenv("POLLUX_PORT", "2")
    assert setting("port") == Setting(2, "environment POLLUX_PORT")
    assert setting("port", 1) == Setting(1, "argument")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLUX_PORT", "")
    assert setting("port").origin == "default"


def test_a_falsy_argument_is_still_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLUX_PORT", "2")
    monkeypatch.setenv("POLLUX_ACCESS_LOG", "on")
    assert setting("port", 0) == Setting(0, "argument")
    assert setting("access_log", False) == Setting(False, "argument")


def test_the_nearest_file_upward_holds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pollux.toml").write_text("port = 1\nhost = '::1'\n")
    monkeypatch.chdir(below)
    assert setting("port").value == 1
    (tmp_path / "a" / "pollux.toml").write_text("port = 2\n")
    assert setting("port").value == 2
    assert setting("host").origin == "default", "files are not merged"


def test_pollux_toml_wins_over_pyproject_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pollux]\nport = 1\n")
    assert setting("port") == Setting(1, f"{tmp_path}/pyproject.toml:2")
    (tmp_path / "pollux.toml").write_text("port = 2\n")
    assert setting("port") == Setting(2, f"{tmp_path}/pollux.toml:1")


@pytest.mark.parametrize("text", ["", "[project]\nname = 'pollux-user'\n", "[tool]\nx = 1\n", "[[[ not ours"])
def test_a_pyproject_without_our_table_is_passed_over(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text(text)
    (tmp_path / "pollux.toml").write_text("port = 1\n")
    monkeypatch.chdir(below)
    assert setting("port").value == 1


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "pollux.toml"
    file.write_text("port = 1\n")
    assert setting("port").value == 1
    file.write_text("\nport = 22\n")
    assert setting("port") == Setting(22, f"{file}:2")
    file.unlink()
    assert setting("port").origin == "default"


def test_directories_and_pipes_of_that_name_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pollux.toml").mkdir()
    os.mkfifo(tmp_path / "pyproject.toml")
    assert config.config_file() is None


def test_a_removed_current_directory_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert setting("port").origin == "default"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tool.pollux]\nport = 7\n", 2),
        ("tool.pollux.port = 7", 1),
        ("[tool]\n\n  pollux.port = 7", 3),
        ("[tool]\npollux = { host = 'x', port = 7 }\n", 2),
        ('[tool."pollux"]\r\n\r\n"port"=7\r\n', 3),
        ('[x]\na = """\n[tool.pollux]\nport = 7\n"""\n[tool.pollux]\n# port = 1\nport = 7\n', 8),
        ("[x]\nport = 7\nl = [\n 'tool.pollux.port = 7',\n]\n[tool.pollux]\nport = 7\n[y]\nport = 1\n", 7),
    ],
)
def test_the_origin_is_the_line_whatever_the_toml_looks_like(text: str, line: int, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_bytes(text.encode())
    assert setting("port") == Setting(7, f"{file}:{line}")


# What is accepted


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", " 80 ", 80),
        ("port", "0", 0),
        ("access_log", "Yes", True),
        ("access_log", "0", False),
        ("log_level", "DEBUG", "debug"),
        ("uds", "/run/a b.sock", "/run/a b.sock"),
    ],
)
def test_the_environment_is_text(name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"POLLUX_{name.upper()}", text)
    assert setting(name) == Setting(value, f"environment POLLUX_{name.upper()}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "http"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "8_0"),
        ("port", "٨٠"),  # Unicode digits: int() takes them, a port does not
        ("access_log", "maybe"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_variable_names_itself_and_what_was_expected(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"POLLUX_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        setting(name)
    told = str(caught.value).replace(repr(text), text)  # a number that is out of range is shown as a number
    assert told == f"environment {variable}: {name} is {text}, expected {config.options()[name].expected}"


def test_a_wrong_argument_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^argument: port is 70000, expected a port number from 0 to 65535"):
        setting("port", 70000)


def test_an_unknown_setting_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="there is no setting 'prot'; expected one of backend, log_level, host, port"):
        setting("prot")


# Malformed files: one error, with file and line


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"port = 1\nhost = \n", 2, "not valid TOML: Invalid value"),
        (b"port = 1\n\nhost = 'x", 3, "not valid TOML: "),
        (b"port = 1\nport = 2\n", 2, "not valid TOML: Cannot overwrite a value"),
        (b"# \xe9t\xe9\n", 1, "not UTF-8, as TOML must be: byte 0xe9"),
        (b"# a\nport = '80'\n", 2, "port is '80', expected a port number from 0 to 65535"),
        (b"port = true\n", 1, "port is True, expected a port number from 0 to 65535"),
        (b"access_log = 1\n", 1, "access_log is 1, expected true or false"),
        (b"host = [\n'a',\n]\n", 1, "host is ['a'], expected a host name or address"),
        (b"\n\nlog_level = 'loud'\n", 3, "log_level is 'loud', expected one of critical, error"),
        (
            b"# a\nbakend = 'poll'\n",
            2,
            "unknown setting 'bakend'; did you mean 'backend'?\n  known: backend, log_level, host",
        ),
        (b"access-log = true\n", 1, "unknown setting 'access-log'; did you mean 'access_log'?"),
        (b"port = 1\n[serve]\nhost = 'x'\n", 2, "unknown setting 'serve'\n  known: "),
        (b"[tool.pollux]\nport = 1\n", 1, "unknown setting 'tool'; in pollux.toml the settings stand at the top"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(text: bytes, line: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "pollux.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}:{line}: {message}')}"):
        setting("uds")  # a setting that is fine: the file as a whole is not


def test_nesting_without_end_is_told_too(tmp_path: Path) -> None:
    file = tmp_path / "pollux.toml"
    file.write_text(f"host = {'[' * 100_000}")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}.*: not valid TOML"):
        setting("host")


def test_tool_pollux_must_be_a_table(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool]\npollux = 3\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{file}:2: tool.pollux is 3, expected a table')}$"):
        setting("host")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux's /proc")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    # A regular file whose first page cannot be read, by anybody: permissions would not stop root.
    file = tmp_path / "pollux.toml"
    file.symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}: cannot be read: Input/output error$"):
        setting("port")


# The choice of the backend


def test_auto_takes_the_best_usable_backend() -> None:
    best = next(b for b in registry.backends() if b.priority > 0 and registry.unusable(b) is None)
    assert choose_backend() == Choice(best, "auto")
    assert choose_backend("auto") == Choice(best, "auto (argument)")


@pytest.mark.parametrize("name", _usable_names())
def test_each_usable_backend_is_chosen_by_each_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(other for other in _usable_names() if other != name)
    (tmp_path / "pollux.toml").write_text(f"backend = '{name}'\n")
    choice = choose_backend()
    assert (choice.backend.name, choice.origin) == (name, f"{tmp_path}/pollux.toml:1")
    monkeypatch.setenv("POLLUX_BACKEND", other)
    choice = choose_backend()
    assert (choice.backend.name, choice.origin) == (other, "environment POLLUX_BACKEND")
    choice = choose_backend(name)
    assert (choice.backend.name, choice.origin) == (name, "argument")


def test_auto_in_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pollux.toml").write_text("backend = 'select'\n")
    monkeypatch.setenv("POLLUX_BACKEND", "auto")
    assert choose_backend().origin == "auto (environment POLLUX_BACKEND)"
    assert choose_backend().backend == next(b for b in registry.backends() if registry.unusable(b) is None)


def test_a_backend_of_ones_own_needs_no_registry() -> None:
    mine = Backend("mine", "made here", _never)
    assert choose_backend(mine) == Choice(mine, "argument")


def test_a_backend_of_ones_own_must_be_usable() -> None:
    mine = Backend("mine", "made here", _never, check=lambda: "no licence")
    with pytest.raises(BackendError, match=r"backend 'mine' \(from argument\) is not usable here: no licence"):
        choose_backend(mine)


def _divide() -> str:
    return str(1 // 0)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lambda: None, None),
        (lambda: "needs\n  Linux ", "needs Linux"),
        (_divide, "check raised ZeroDivisionError: integer division or modulo by zero"),
        (lambda: "", "check returned '', expected None or the reason as a str"),
        (lambda: False, "check returned False, expected None or the reason as a str"),
    ],
)
def test_a_check_that_fails_is_a_reason(check: Callable[[], str | None], reason: str | None) -> None:
    assert registry.unusable(Backend("mine", "made here", _never, check=check)) == reason


def test_an_unknown_name_lists_every_candidate_and_why(tmp_path: Path) -> None:
    file = tmp_path / "pollux.toml"
    file.write_text("\nbackend = 'SELCT'\n")
    with pytest.raises(BackendError) as caught:
        choose_backend()
    first, *candidates = str(caught.value).splitlines()
    assert first == f"there is no backend 'SELCT' (from {file}:2); did you mean 'select'?"
    assert len(candidates) == len(registry.backends())
    for line, backend in zip(candidates, registry.backends(), strict=True):
        name, verdict = line.strip().split(maxsplit=1)
        reason = registry.unusable(backend)
        assert name == backend.name
        assert verdict.startswith("usable" if reason is None else f"not usable: {reason}")


def test_an_unusable_backend_says_why_and_lists_the_others() -> None:
    absent = [backend for backend in registry.backends() if registry.unusable(backend) is not None]
    if not absent:
        pytest.skip("every registered backend is usable on this system")
    reason = re.escape(str(registry.unusable(absent[0])))
    with pytest.raises(
        BackendError, match=rf"backend '{absent[0].name}' \(from argument\) is not usable here: {reason}\n"
    ):
        choose_backend(absent[0].name)


@pytest.mark.parametrize("wrong", [3, b"poll", Backend])
def test_neither_name_nor_backend(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^backend: expected the name of a backend or a pollux\.Backend, got"):
        choose_backend(wrong)  # type: ignore[arg-type]


def test_the_docs_list_each_setting() -> None:
    docs = Path(__file__).parents[2] / "docs" / "configuration.md"
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([^`]*)` \|", docs.read_text(), re.MULTILINE)
    written = {"None": "-", "False": "false", "True": "true", "": "-"}
    assert rows == [
        (option.name, option.kind.__name__, written.get(str(option.default), str(option.default)))
        for option in config.options().values()
    ]


def test_a_float_setting_takes_an_int(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pollux.toml").write_text("timeout_graceful_shutdown = 5\n")
    found = setting("timeout_graceful_shutdown").value
    assert (found, type(found)) == (5.0, float)
    monkeypatch.setenv("POLLUX_TIMEOUT_GRACEFUL_SHUTDOWN", "2.5")
    assert setting("timeout_graceful_shutdown").value == 2.5
    for wrong in ("-1", "1e3", "soon", "nan"):
        monkeypatch.setenv("POLLUX_TIMEOUT_GRACEFUL_SHUTDOWN", wrong)
        with pytest.raises(ConfigError, match="expected a number of seconds, 0 or more"):
            setting("timeout_graceful_shutdown")
