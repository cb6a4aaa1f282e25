"""A program that starts itself again when one of its modules has changed: on Tornado and on us."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.test_serve import environment

BOTH = pytest.mark.parametrize("package", ["pollux", "tornado"])
NAMES = {
    "pollux": {"ioloop": "pollux.ioloop", "web": "pollux_web", "autoreload": "pollux_web.autoreload"},
    "tornado": {"ioloop": "tornado.ioloop", "web": "tornado.web", "autoreload": "tornado.autoreload"},
}

APPLICATION = """
import os
from {ioloop} import IOLoop
from {web} import Application
import {autoreload} as autoreload
import module

async def main():
    application = Application(debug=True, word="x")
    application.listen(0, "127.0.0.1")
    autoreload.add_reload_hook(lambda: print("hook"))  # flushed by the one who starts again
    print(module.VERSION, os.getpid(), application.settings["autoreload"], flush=True)

loop = IOLoop.current()
loop.add_callback(main)
loop.start()
"""
SCRIPT = "import sys, module\nprint(module.VERSION, sys.argv[1:], __name__, flush=True)\n"
WAITING = """
import {autoreload} as autoreload
autoreload.watch("data.txt")
print(open("data.txt").read(), flush=True)
autoreload.wait()
"""


def write(path: Path, text: str) -> None:
    """Replace a file at once: whoever reads it sees the old or the new."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@contextlib.contextmanager
def running(folder: Path, package: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python in a folder."""
    command = [sys.executable, *arguments]
    settings = environment(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=".")
    if package == "tornado":
        del settings["PYTHONWARNINGS"]  # those of its own are not our affair
    with subprocess.Popen(
        command, cwd=folder, env=settings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def warned(process: subprocess.Popen[str], words: str) -> None:
    """Read what is logged up to a line with these words."""
    assert process.stderr is not None
    said = []
    for each in process.stderr:
        said.append(each)
        if re.search(words, each):
            return
    pytest.fail("".join(said))


@BOTH
def test_debug_mode_starts_again_when_a_module_has_changed(tmp_path: Path, package: str) -> None:
    (tmp_path / "module.py").write_text("VERSION = 'one'\n")
    (tmp_path / "program.py").write_text(APPLICATION.format(**NAMES[package]))
    with running(tmp_path, package, "program.py") as process:
        first = line(process)
        assert first == f"one {process.pid} True"
        change_until_seen(process, tmp_path / "module.py", "VERSION = 'two, longer'\n")
        assert [line(process), line(process)] == ["hook", f"two, longer {process.pid} True"]


@BOTH
@pytest.mark.parametrize("how", [["program.py"], ["-m", "program"]], ids=["file", "module"])
def test_the_command_waits_for_what_cannot_be_imported(tmp_path: Path, package: str, how: list[str]) -> None:
    (tmp_path / "module.py").write_text("VERSION = 'one'\n")
    (tmp_path / "program.py").write_text(SCRIPT + "1 / 0\n")
    with running(tmp_path, package, "-m", NAMES[package]["autoreload"], "--until-success", *how, "a", "b") as process:
        assert line(process) == "one ['a', 'b'] __main__"
        if package == "tornado":
            change_until_seen(process, tmp_path / "program.py", SCRIPT)
        else:
            warned(process, "ZeroDivisionError")
            write(tmp_path / "module.py", "VERSION = = 'two'\n")
            warned(process, "SyntaxError")
            write(tmp_path / "module.py", "VERSION = 'three'\n")
            write(tmp_path / "program.py", SCRIPT)
        assert line(process) in ("one ['a', 'b'] __main__", "three ['a', 'b'] __main__")
        process.communicate(timeout=30)
        assert process.returncode == 0


def change_until_seen(process: subprocess.Popen[str], path: Path, text: str) -> None:
    """Change a file again and again until the program says something: nobody knows when Tornado looks first."""
    assert process.stdout is not None
    more = ""
    while not select.select([process.stdout], [], [], 1)[0]:
        more += "\n"
        write(path, text + more)


@BOTH
def test_wait_watches_other_files_too(tmp_path: Path, package: str) -> None:
    (tmp_path / "data.txt").write_text("one")
    (tmp_path / "program.py").write_text(WAITING.format(**NAMES[package]))
    with running(tmp_path, package, "program.py") as process:
        assert line(process) == "one"
        change_until_seen(process, tmp_path / "data.txt", "two")
        assert line(process) == "two"


@pytest.mark.parametrize(
    ("end", "words", "code"),
    [("", "", 0), ("raise SystemExit", "", 0), ("raise SystemExit(3)", "has ended: 3", None)],
)
def test_how_a_program_ends(tmp_path: Path, end: str, words: str, code: int | None) -> None:
    (tmp_path / "module.py").write_text("VERSION = 'one'\n")
    (tmp_path / "program.py").write_text(SCRIPT + end)
    with running(tmp_path, "pollux", "-m", "pollux_web.autoreload", "--until-success", "program.py") as process:
        assert line(process) == "one [] __main__"
        if code is None:
            warned(process, words)
            assert process.poll() is None, "it waits for a change"
        else:
            assert process.communicate(timeout=30) == ("", "")
            assert process.returncode == code


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--unknown", "x"], ["--until-success"]], ids=str)
def test_mistakes_in_the_command(tmp_path: Path, arguments: list[str]) -> None:
    with running(tmp_path, "pollux", "-m", "pollux_web.autoreload", *arguments) as process:
        assert "usage: " in process.communicate(timeout=30)[1]
        assert process.returncode == 2


def test_a_hook_that_fails_is_logged_and_the_others_are_called(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("VERSION = 'one'\n")
    hook = "    autoreload.add_reload_hook(lambda: 1 / 0)\n"
    text = APPLICATION.format(**NAMES["pollux"]).replace("    autoreload.add", hook + "    autoreload.add")
    (tmp_path / "program.py").write_text(text)
    with running(tmp_path, "pollux", "program.py") as process:
        assert line(process).startswith("one")
        write(tmp_path / "module.py", "VERSION = 'two, longer'\n")
        assert [line(process), line(process)[:3]] == ["hook", "two"]
        warned(process, "ZeroDivisionError")


@pytest.mark.parametrize("supervised", [True, False])
def test_workers_leave_it_to_their_supervisor(tmp_path: Path, supervised: bool) -> None:
    text = """
from pollux_web import Application, autoreload
app = Application(debug=True)
print("loops", len(autoreload._loops), flush=True)
"""
    (tmp_path / "app.py").write_text(text)
    options = ["--reload"] if supervised else []
    with running(tmp_path, "pollux", "-m", "pollux", "serve", "app.py", "--port", "0", *options) as process:
        assert line(process) == ("loops 0" if supervised else "loops 1")
        if not supervised:
            warned(process, "Serving")
            write(tmp_path / "app.py", text.replace('"loops', '"the loops'))
            assert line(process) == "the loops 1"
        process.terminate()
        process.communicate(timeout=30)


def test_no_loop_is_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        """
import asyncio
from pollux import IOLoop
from pollux_web import Application
Application(debug=True)
print(IOLoop.current(instance=False))
async def main():
    Application(debug=True)  # on asyncio's own loop: for another server, say
    print("made")
asyncio.run(main())
"""
    )
    with running(tmp_path, "pollux", "program.py") as process:
        assert process.communicate(timeout=30) == ("None\nmade\n", "")
