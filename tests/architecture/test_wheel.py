"""The wheel as a user gets it: what is in it, and that its smoke tests pass away from the source tree.

No network: the wheel is built by the hatchling that is installed here, and the scratch environment sees pytest and
the other dependencies through a `.pth` file. That file only lengthens `sys.path`; the `.pth` files of the environment
it names are not read, so an editable install of Pollux there stays out of sight.
"""

import ast
import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.architecture.test_rooms import PACKAGES, ROOT, SOURCES

SMOKE = re.compile(r"(\d+) passed")


def _do(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("POLLUX_", "PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _pip(*arguments: str | Path, cwd: Path) -> None:
    _do(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy, so that a build leaves nothing in the source tree."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("reactor", "backends", "web", "contrib", "tests", "benchmarks", "examples", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    _pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", place / "out", source, cwd=place)
    (built,) = (place / "out").glob("*.whl")
    return built


def test_top_level_packages_are_ours_each_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    (information,) = {name for name in top if name.endswith(".dist-info")}
    # `twisted` holds one file: Twisted finds the plugins of others in folders of its own name.
    assert top - {information} == {*PACKAGES, "twisted"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert f"{information}/licenses/LICENSE" in names


def test_every_module_is_in_it_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    written = {
        f"{package}/{source.relative_to(folder)}"
        for package, folder in PACKAGES.items()
        for source in SOURCES
        if source.is_relative_to(folder)
    }
    assert packed == written | {"twisted/plugins/pollux_reactor.py"}  # and no __init__.py, which would hide Twisted


def test_entry_points_and_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (information,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(f"{information}/entry_points.txt").decode())
        metadata = email.message_from_bytes(archive.read(f"{information}/METADATA"))
    assert {name: dict(entry_points[name]) for name in entry_points.sections()} == {
        "console_scripts": {"pollux": "pollux.cli:main"},
        "pollux": {
            "pollux_backends": "pollux_backends.plugin",
            "pollux_twisted": "pollux_twisted.plugin",
            "pollux_web": "pollux_web.plugin",
        },
        "pollux.asgi": {"websocket": "pollux_websocket.asgi:serve"},
        "pytest11": {"pollux": "pollux.testing.pytest_plugin"},
    }
    assert metadata["Name"] == "pollux"
    assert metadata["Requires-Python"] == ">=3.11"
    unconditional = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [re.split(r"[^\w-]", line)[0] for line in unconditional] == ["pluggy"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own; return that environment's python."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place / "env", with_pip=False, symlinks=True)
    python = place / "env" / "bin" / "python"
    _pip("--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages") and os.path.isdir(path)]
    (packages / "running_environment.pth").write_text("\n".join(here))
    return python


def test_installed_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Else the next test would prove nothing."""
    modules = ", ".join(PACKAGES)
    out = _do(installed, "-c", f"import {modules}\nfor m in ({modules}): print(m.__file__)", cwd=tmp_path)
    lines = out.splitlines()
    assert len(lines) == len(PACKAGES)
    for line in lines:
        assert Path(line).is_relative_to(installed.parents[1]), f"{line} is not the wheel's"


def _marks_smoke(file: Path) -> bool:
    """Whether a test file has smoke tests of its own, or runs a suite that has."""
    names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    imported = {
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "pollux.testing"
        for alias in node.names
    }
    return "smoke" in names or bool(imported & {"LoopSuite", "PollerSuite"})


@pytest.mark.timeout(300)  # a suite of its own
def test_smoke_tests_pass_on_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """From a copy of the tests elsewhere, with pyproject.toml for pytest's settings."""
    for source in sorted((ROOT / "tests").rglob("*.py")):
        # Test files without smoke tests may need what is not installed there; helpers are needed by those that have.
        if source.name.startswith("test_") and not _marks_smoke(source):
            continue
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = (installed, "-m", "pytest", "-q", "-m", "smoke", "-p", "no:xdist", "-p", "no:hypothesispytest")
    out = _do(*command, "tests", cwd=tmp_path)
    passed = SMOKE.search(out)
    assert passed is not None
    assert int(passed[1]) >= 40, out
