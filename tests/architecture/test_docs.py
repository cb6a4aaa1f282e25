"""What the documentation says, held to what is there: commands, map, names, links, examples."""

import fnmatch
import http.client
import importlib
import inspect
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.architecture.test_rooms import PACKAGES, ROOT, SOURCES

RUN = (
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[all]' && "
    ".venv/bin/pollux serve examples/01_getting_started.py --port 8888"
)
TEST = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest -n auto"

TRUE = shutil.which("true") or "/bin/true"

README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FOLDERS = sorted({source.parent for source in SOURCES})

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _where(path: Path) -> str:
    return os.path.relpath(path, ROOT)


def _blocks(text: str, language: str) -> list[str]:
    return [textwrap.dedent(body) for _, kind, body in _FENCE.findall(text) if kind == language]


def _anchors(page: Path) -> set[str]:
    """The names by which GitHub lets one link to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Commands


@pytest.mark.parametrize("command", [RUN, TEST], ids=["run", "test"])
def test_readme_has_the_command_once(command: str) -> None:
    assert README.splitlines().count(command) == 1


def test_ci_runs_the_readmes_test_command(tmp_path: Path) -> None:
    """The real script in a tree of its own, on programs that only say that they were called, and how."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / "README.md").write_text(README)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "git", "gcc", "mariadbd", "redis-server", "chromium"):
        (programs / name).symlink_to(TRUE)
    script = f"""#!/bin/sh
    echo "$POLLUX_REQUIRE_SERVICES python3 $*" >>{tmp_path}/calls
    case "$*" in -m*) mkdir -p .venv/bin; for name in pip pytest; do
        printf '#!/bin/sh\\necho "$POLLUX_REQUIRE_SERVICES $0 $*" >>{tmp_path}/calls\\n' >.venv/bin/$name
        chmod +x .venv/bin/$name
    done; esac
    """
    (programs / "python3").write_text(script)
    (programs / "python3").chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    subprocess.run(["bash", tmp_path / ".ci" / "run"], cwd="/", env=environment, check=True, capture_output=True)
    calls = [line.removeprefix("1 ") for line in (tmp_path / "calls").read_text().splitlines() if line[0] == "1"]
    assert calls == [part.replace("'", "") for part in TEST.split(" && ")]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_ci_refuses_a_readme_without_the_command(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / "README.md").write_text(README.replace(TEST, f"{TEST}\n{TEST} --again"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "git", "gcc", "mariadbd", "redis-server", "chromium", "python3"):
        (programs / name).symlink_to(TRUE)
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "expected one line with the test command" in done.stderr


# The map


def _mapped(folder: Path) -> list[str]:
    """The names, and patterns of names, in the first column of the README's table for a folder."""
    sections = re.split(r"^### ", README, flags=re.MULTILINE)
    (section,) = [text for text in sections if text.startswith(f"`{_where(folder)}/`")]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("folder", FOLDERS, ids=_where)
def test_map_names_every_file_and_no_other(folder: Path) -> None:
    files = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"}
    names = _mapped(folder)
    assert not {file for file in files if not any(fnmatch.fnmatchcase(file, name) for name in names)}
    assert not {name for name in names if not fnmatch.filter(files, name)}, "no such file"


def test_map_names_every_folder_at_the_top() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git work tree: what belongs to the project cannot be told from what is left over")
    tracked = {name.partition("/")[0] for name in done.stdout.splitlines() if "/" in name}
    assert {"reactor", "tests"} <= tracked
    assert not {folder for folder in tracked if f"`{folder}/" not in README}


# Names

PUBLIC = [(package, name) for package in PACKAGES for name in getattr(importlib.import_module(package), "__all__", [])]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_public_name_is_documented(package: str, name: str) -> None:
    """In words where it is defined, and by name in a page. A constant has its words beside it, not in itself."""
    thing = getattr(importlib.import_module(package), name)
    if inspect.isroutine(thing) or inspect.isclass(thing):
        assert thing.__doc__
        assert thing.__doc__.strip()
    code = [
        code
        for page in (ROOT / "docs").glob("*.md")
        for code in [*_CODE.findall(page.read_text()), *_blocks(page.read_text(), "python")]
    ]
    assert any(re.search(rf"\b{name}\b", text) for text in code), f"no page of docs/ mentions {package}.{name}"


# Links


@pytest.mark.parametrize("page", PAGES, ids=_where)
def test_relative_links_resolve(page: Path) -> None:
    text = _CODE.sub("", _FENCE.sub("", page.read_text()))
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{_where(page)} links to {link}, which is not there"
        if anchor:
            assert anchor in _anchors(target), f"{_where(page)} links to {link}: no such heading"


def test_readme_links_every_page() -> None:
    linked = set(_LINK.findall(README))
    assert {_where(page) for page in (ROOT / "docs").glob("*.md")} <= linked


# Examples


@pytest.mark.parametrize("page", PAGES, ids=_where)
def test_python_blocks_compile(page: Path) -> None:
    for number, block in enumerate(_blocks(page.read_text(), "python"), 1):
        compile(block, f"{_where(page)}, Python block {number}", "exec", dont_inherit=True)


def _example(marker: str) -> str:
    (found,) = [block for block in _blocks(README, "python") if marker in block]
    return found


def test_readme_example_in_asyncios_dialect() -> None:
    command = [sys.executable, "-W", "error", "-c", _example("pollux.run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == r"b'Hello, world\n' <IOLoop poll running>" + "\n"


def test_readme_example_in_tornados_dialect() -> None:
    """On a port that nobody else gets: it stays bound here, and as it does not listen, SO_REUSEADDR lets the example
    share it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("", 0))
        port = held.getsockname()[1]
        program = _example("application.listen").replace("8888", str(port))
        with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().strip()
                assert url.startswith(f"http://127.0.0.1:{port}/")
                client = http.client.HTTPConnection("127.0.0.1", port)
                client.request("GET", url.partition(str(port))[2])
                answer = client.getresponse()
                assert (answer.status, answer.read()) == (200, b'{"hello": "world"}')
                client.close()
            finally:
                server.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("page", ["loop.md"])
def test_examples_that_end_run(page: str) -> None:
    """Those of the loop's page, each from its beginning to its end."""
    blocks = _blocks((ROOT / "docs" / page).read_text(), "python")
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block
