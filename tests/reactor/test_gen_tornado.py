"""Tornado's own tests of `gen` and `concurrent`, aimed at ours: its modules get ours under their names."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.test_rooms import ROOT
from tests.reactor.loops import usable

SCRIPT = """
import asyncio, json, logging, sys, unittest

import pollux.concurrent, pollux.gen
from tests.conformance.foreign_suites import put_in_place

put_in_place(sys.argv[1])

import tornado
import tornado.log
import tornado.platform.asyncio  # wants private names of Tornado's gen

tornado.log.app_log = pollux.log.app_log
tornado.gen = sys.modules["tornado.gen"] = pollux.gen
tornado.concurrent = sys.modules["tornado.concurrent"] = pollux.concurrent

# Tornado's test kit makes a loop current by telling asyncio.
policy = asyncio.get_event_loop_policy()
pollux.IOLoop.current = staticmethod(lambda instance=True: asyncio._get_running_loop() or policy.get_event_loop())

logging.getLogger("tornado.access").disabled = True
suite = unittest.defaultTestLoader.loadTestsFromNames(["tornado.test.gen_test", "tornado.test.concurrent_test"])
result = unittest.TestResult()
suite.run(result)
print(json.dumps([result.testsRun, {test.id(): error for test, error in result.failures + result.errors}]))
"""

DIFFERENT = {
    "test_asyncio_future_debug_info": "in debug mode the Future names our file as the place where it was made",
    "test_timeout_concurrent_future": "it takes a time of Tornado's loop, whose clock is not that of the loop beneath",
}


@pytest.mark.parametrize("backend", ["epoll", "poll"])
def test_tornados_tests_pass_on_ours(backend: str) -> None:
    usable(backend)
    command = [sys.executable, "-c", SCRIPT, backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run, failed = json.loads(done.stdout.splitlines()[-1])
    assert run > 80
    assert {name.rpartition(".")[2] for name in failed} == DIFFERENT.keys(), "\n".join(failed.values())
