"""Runs test suites that were written for asyncio's own loop: on asyncio's, or with ours put in its place.

    python tests/conformance/foreign_suites.py LOOP test.test_asyncio.test_streams
    python tests/conformance/foreign_suites.py LOOP tornado.test.iostream_test

LOOP is `asyncio` or a Pollux backend. Prints the figures on one line, and on the next a JSON object: the names of the
tests that passed, and of those that failed or were skipped, with the reasons. Several modules may be named; all of one
kind.

Such suites get a loop in two ways: from `asyncio.new_event_loop`, which asks the policy, or from
`asyncio.SelectorEventLoop`, perhaps with a selector. Both give a Pollux loop here, whatever the selector.
"""

from __future__ import annotations

import asyncio
import gc
import json
import selectors
import sys
import unittest

import pollux


def put_in_place(backend: str) -> None:
    """Have asyncio make Pollux loops on `backend` from now on."""

    class Loop(pollux.IOLoop):
        def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
            if selector is not None:
                selector.close()  # only asyncio needs it
            super().__init__(backend, make_current=False)

    asyncio.DefaultEventLoopPolicy._loop_factory = Loop  # type: ignore[attr-defined]
    for name in ("SelectorEventLoop", "EventLoop"):  # the latter since Python 3.13
        for module in (asyncio, asyncio.unix_events):
            if hasattr(module, name):
                setattr(module, name, Loop)

    loop = asyncio.new_event_loop()
    loop.close()
    if not isinstance(loop, Loop):
        raise RuntimeError(f"this Python gets its loops in another way: asyncio.new_event_loop() made {loop!r}")
    # CPython's tests collect garbage three times each: what the loops have imported (Twisted!) was nine tenths of it.
    gc.collect()
    gc.freeze()


class Result(unittest.TestResult):
    """Keeps the names of the tests that passed, too."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802  # unittest's name
        self.passed.append(test.id())


class Runner(unittest.TextTestRunner):
    """Prints JSON instead of dots."""

    def run(self, test: unittest.TestSuite | unittest.TestCase) -> Result:  # type: ignore[override]
        result = Result()
        test.run(result)
        report: dict[str, list[str] | dict[str, str]] = {
            "passed": result.passed,
            "failed": {test.id(): error for test, error in result.failures + result.errors},
            "skipped": {test.id(): reason for test, reason in result.skipped},
        }
        print(", ".join(f"{len(report[key])} {key}" for key in ("passed", "failed", "skipped")))
        print(json.dumps(report), flush=True)
        return result


def main() -> None:
    loop = sys.argv.pop(1)
    if loop != "asyncio":
        put_in_place(loop)
    if all(name.startswith("tornado.") for name in sys.argv[1:]):
        # Its own way to run, which takes a warning for an error; and it fails if anything was logged, or written
        # to stderr.
        import tornado.test.runtests

        tornado.test.runtests.test_runner_factory = lambda stderr: Runner
        tornado.test.runtests.main()  # type: ignore[no-untyped-call]
    else:
        unittest.main(module=None, testRunner=Runner)


if __name__ == "__main__":
    main()
