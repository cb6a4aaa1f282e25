"""Tornado's names for tests: the same tests on Tornado and on us, by unittest and by pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = (Path(__file__).parent / "dialects" / "tornado_tests.py").read_text()
NAMES = {
    "pollux": {"FROM_WEB_TESTING": "pollux_web.testing", "FROM_WEB": "pollux_web", "FROM": "pollux"},
    "tornado": {"FROM_WEB_TESTING": "tornado.testing", "FROM_WEB": "tornado.web", "FROM": "tornado"},
}


RUN = """
import json, sys, unittest
result = unittest.TestResult()
unittest.defaultTestLoader.loadTestsFromName(sys.argv[1]).run(result)
told = {name: sorted(test.id().partition(".")[2] for test, *_ in getattr(result, name))
        for name in ("failures", "errors", "skipped", "expectedFailures", "unexpectedSuccesses")}
print(json.dumps({"ran": result.testsRun, **told}))
"""


def ran(package: str, folder: Path, *command: str, backend: str = "auto") -> subprocess.CompletedProcess[str]:
    """Write the tests, and run a command."""
    text = PROGRAM
    for name, module in NAMES[package].items():
        text = re.sub(rf"\b{name}\b", module, text)
    (folder / f"{package}_tests.py").write_text(text)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False, timeout=50,
        env={**os.environ, "ASYNC_TEST_TIMEOUT": "30", "POLLUX_BACKEND": backend, "PYTHONPATH": "."},
    )  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = ran("tornado", tmp_path_factory.mktemp("tornado"), "-c", RUN, "tornado_tests")
    return json.loads(done.stdout)


def test_by_unittest(backend: str, tmp_path: Path, theirs: Any) -> None:
    done = ran("pollux", tmp_path, "-c", RUN, "pollux_tests", backend=backend)
    ours = json.loads(done.stdout)
    for told in (ours, theirs):  # what ExpectLog misses is a failure here, an error there
        told["failures"] = sorted(told["failures"] + told.pop("errors", []))
    assert ours == theirs
    assert ours["ran"] == PROGRAM.count("def test_") + 3, "the site is tested twice"
    assert {name.partition(".")[2][:10] for name in ours["failures"]} == {"test_fails"}
    assert "ResourceWarning" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "Ran 21 tests"), (["--verbose", "Logging.test_expected"], "ok\n"), (["--quiet", "Logging"], "Ran 2 tests")],
    ids=str,
)
def test_main(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = ran("pollux", tmp_path, "pollux_tests.py", "--logging=none", *arguments)
    assert words in done.stderr
    assert done.returncode == ("test_expected" not in str(arguments))


FAILURES = '''
from unittest import TestCase
from pollux.testing import AsyncTestCase, ExpectLog, gen_test, setup_with_context_manager
import contextlib, logging

class Failing(AsyncTestCase):
    def test_callback(self):
        """Ends at once with what the callback has raised, not when the time is over."""
        self.io_loop.add_callback(lambda: 1 / 0)
        self.wait(timeout=1000)

    def test_callback_after_the_test(self):
        self.io_loop.add_callback(lambda: 1 / 0)
        self.io_loop.add_callback(self.stop)
        with self.assertRaises(ZeroDivisionError):
            self.wait()

    def test_task(self):
        async def fail():
            raise KeyError("task")
        async def main():
            tasks.append(self.io_loop.create_task(fail()))
        tasks = []
        self.io_loop.run_sync(main)

    def test_level(self):
        with ExpectLog("own", "said", level=logging.INFO):
            logging.getLogger("own").error("said")

class Entering(TestCase):
    def setUp(self):
        self.value = setup_with_context_manager(self, contextlib.nullcontext(7))

    def test_value(self):
        assert self.value == 7
'''


def test_what_a_callback_raises_is_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(FAILURES)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--color=no", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    summary = dict(re.findall(r"^(?:FAILED|PASSED) test_it.py::\w+::(\w+)(?: - (.*))?$", done.stdout, re.MULTILINE))
    assert summary.keys() == {"test_callback", "test_callback_after_the_test", "test_task", "test_level", "test_value"}
    assert summary["test_callback"].startswith("ZeroDivisionError")
    assert summary["test_callback_after_the_test"] == ""
    assert summary["test_level"].startswith("AssertionError: nothing was logged")
    assert summary["test_value"] == ""


def test_where_the_names_are() -> None:
    import pollux.testing
    import pollux_web.testing

    assert issubclass(pollux_web.testing.AsyncHTTPTestCase, pollux.testing.AsyncTestCase)
    case = pollux_web.testing.AsyncHTTPTestCase
    with pytest.raises(NotImplementedError, match=r"override AsyncHTTPTestCase\.get_app\(\)"):
        case("get_app").get_app()
