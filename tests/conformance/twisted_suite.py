"""Runs Twisted's own tests of reactors (`twisted.internet.test`, those built with `ReactorBuilder`) on one reactor.

    python tests/conformance/twisted_suite.py REACTOR MODULE... [-TEST...]
    python tests/conformance/twisted_suite.py REACTOR TEST...

REACTOR is a class by its full name, MODULE the part of a module's name behind `test_`, TEST a name as printed; with a
minus, it is left out. Prints the figures on one line, and on the next a JSON object, as `foreign_suites.py` does. Names
are without the reactor's.
"""

from __future__ import annotations

import importlib
import json
import sys
import unittest
from collections.abc import Iterator
from typing import Any

from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.reporter import TestResult

MODULES = [
    "core",
    "fdset",
    "newtls",
    "process",
    "socket",
    "stdio",
    "tcp",
    "threads",
    "time",
    "tls",
    "udp",
    "unix",
]  # all that use ReactorBuilder


class Result(TestResult):
    """Keeps the names of the tests that passed, too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.passed: list[str] = []

    def addSuccess(self, test: Any) -> None:  # noqa: N802  # unittest's name
        self.passed.append(test.id())


def tests(suffix: str, modules: list[str]) -> Iterator[unittest.TestCase]:
    """Yield the tests that modules have made for the reactor."""
    for name in modules:
        module = importlib.import_module(f"twisted.internet.test.test_{name}")
        for kind_name, kind in sorted(vars(module).items()):
            if kind_name.endswith(suffix) and isinstance(kind, type) and issubclass(kind, unittest.TestCase):
                for method in sorted(dir(kind)):
                    if method.startswith("test"):
                        yield kind(method)


def main(reactor: str, *names: str) -> None:
    """Run and report."""
    ReactorBuilder._reactors = [reactor]
    suffix = f"_{reactor.rpartition('.')[2]}Tests"
    without = {name[1:] for name in names if name.startswith("-")}
    only = {name for name in names if "." in name} - {f"-{name}" for name in without}
    modules = sorted({name.split(".")[3].removeprefix("test_") for name in only}) or [n for n in names if "." not in n]
    result = Result()
    for test in tests(suffix, modules):
        name = test.id().replace(suffix, "")
        if name not in without and (not only or name in only):
            test.run(result)

    def named(found: list[Any]) -> dict[str, str]:
        return {test.id().replace(suffix, ""): str(reason)[-2000:] for test, reason in found}

    report: dict[str, Any] = {
        "passed": [name.replace(suffix, "") for name in result.passed],
        "failed": named(result.failures + result.errors),
        "skipped": named(result.skips),
    }
    print(", ".join(f"{len(report[key])} {key}" for key in report))
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
