"""The rules of the rooms: who imports whom, what each exports, how long a file may be."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "pollux": ROOT / "reactor" / "pollux",
    "pollux_backends": ROOT / "backends" / "pollux_backends",
    "pollux_http": ROOT / "web" / "pollux_http",
    "pollux_web": ROOT / "web" / "pollux_web",
    "pollux_websocket": ROOT / "web" / "pollux_websocket",
    "pollux_twisted": ROOT / "backends" / "pollux_twisted",
    "pollux_database": ROOT / "contrib" / "pollux_database",
    "pollux_mongo": ROOT / "contrib" / "pollux_mongo",
    "pollux_txmysql": ROOT / "contrib" / "pollux_txmysql",
}
SOURCES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))


def test_imports_keep_to_the_rooms(tmp_path: Path) -> None:
    """The contracts stand in pyproject.toml."""
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed: pip install 'pollux[test]'")
    done = subprocess.run([lint, "--cache-dir", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (PACKAGES[package] / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_exports(package: str) -> None:
    """Sorted as Ruff sorts, each there, each once; and nothing public that is not exported, save modules."""
    module = importlib.import_module(package)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for name in exported:
        assert getattr(module, name) is not None or name == "NONE"
    own = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", "").partition(".")[0] == package
    }
    assert own <= set(exported), "imported into the package, not exported"


def test_exports_of_pollux() -> None:
    """The names of the reactor. One that is added here is added to the documentation."""
    import pollux

    assert set(pollux.__all__) >= {
        "BackendError", "Backend", "ConfigError", "ERROR", "FdLimitError", "IOLoop", "Loop", "MissingExtraError",
        "PeriodicCallback", "PluginError", "Poller", "PolluxError", "READ", "WRITE", "hookimpl", "new_event_loop",
        "run",
    }  # fmt: skip


def test_public_name_is_exported_by_one_package() -> None:
    """Streams and servers come from the reactor, not from a room that uses them.

    The clients are as separate from each other as what they are named after: each has its Connection.
    """
    seen: dict[str, str] = {}
    for package, folder in PACKAGES.items():
        if folder.parent.name == "contrib":
            continue
        for name in getattr(importlib.import_module(package), "__all__", []):
            assert name not in seen, f"{name} is exported by {seen.get(name)} and by {package}"
            seen[name] = package


@pytest.mark.parametrize("source", SOURCES, ids=lambda file: os.path.relpath(file, ROOT))
def test_long_file_says_why(source: Path) -> None:
    """500 lines, unless the module's docstring gives the reason under the words "Longer than 500 lines"."""
    text = source.read_text()
    if len(text.splitlines()) > 500:
        assert "Longer than 500 lines" in text.split('"""')[1], f"{source} has {len(text.splitlines())} lines"
