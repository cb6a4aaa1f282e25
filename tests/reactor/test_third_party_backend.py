"""The example distribution as its author would use it: built, installed elsewhere, chosen by config, proven by tests.

No network: the wheel is built by the hatchling that is installed here, and the scratch environment sees pollux, pytest
and the rest through a `.pth` file, whose lines become entries of `sys.path`.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
import venv
from importlib import metadata
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_backend"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the example, install it into an environment of its own; return that environment's python."""
    if not EXAMPLE.is_dir():
        pytest.skip("the examples are not installed with the wheel: run from the source tree")
    place = tmp_path_factory.mktemp("third_party")
    source = place / "source"
    # A copy of its own, so that a build leaves nothing in the source tree.
    for file in sorted(EXAMPLE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            target = source / file.relative_to(EXAMPLE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    wheels = place / "wheels"
    _do(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")

    venv.create(place / "env", with_pip=False, symlinks=True)
    python = place / "env" / "bin" / "python"
    _do(*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    here = [path for path in sys.path if os.path.isdir(path)]
    (packages / "running_environment.pth").write_text("\n".join(here))
    return python


def _do(*command: str, cwd: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("POLLUX_", "PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_is_chosen_by_the_config_file(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "pollux.toml").write_text("# which poller\nbackend = 'fairpoll'\n")
    told = json.loads(_do(str(scratch), "-m", "pollux", "backends", "--json", cwd=tmp_path))
    assert (told["chosen"], told["origin"]) == ("fairpoll", f"{tmp_path}/pollux.toml:2")
    (row,) = [row for row in told["backends"] if row["chosen"]]
    assert (row["plugin"], row["distribution"]) == ("fairpoll", "pollux-fairpoll 1.0.0")


def test_it_is_not_chosen_unasked(scratch: Path, tmp_path: Path) -> None:
    told = json.loads(_do(str(scratch), "-m", "pollux", "backends", "--json", cwd=tmp_path))
    assert told["chosen"] != "fairpoll"
    assert [row["available"] for row in told["backends"] if row["name"] == "fairpoll"] == [True]


def test_it_passes_its_own_tests_there(scratch: Path, tmp_path: Path) -> None:
    tests = tmp_path / "test_fairpoll.py"
    tests.write_bytes((EXAMPLE / "tests" / "test_fairpoll.py").read_bytes())
    plugins = ["cacheprovider", "xdist", "asyncio", "anyio"]  # of the environment, and with warnings of their own
    options = ["-q", *(f"-pno:{name}" for name in plugins), "-W", "error", "--rootdir", str(tmp_path)]
    out = _do(str(scratch), "-m", "pytest", *options, str(tests), cwd=tmp_path)
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None
    assert int(passed[1]) > 10, "the suite was not collected"


def test_it_is_less_than_60_lines_of_code() -> None:
    count = 0
    for file in (EXAMPLE / "src").rglob("*.py"):
        text = file.read_text()
        documentation: set[int] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
                code.update(range(token.start[0], token.end[0] + 1))
        count += len(code - documentation)
    assert 20 < count < 60


def test_its_metadata_asks_for_pollux_only(scratch: Path) -> None:
    (packages,) = scratch.parents[1].glob("lib/python*/site-packages")
    (found,) = metadata.distributions(name="pollux-fairpoll", path=[str(packages)])
    assert found.requires == ["pollux"]
