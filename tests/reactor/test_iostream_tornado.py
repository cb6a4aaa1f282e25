"""Tornado's own tests of its streams, and of what it builds on them, aimed at ours.

Its modules get `pollux.iostream` under the name of theirs; its HTTP server and client, TCP server and client, WebSocket
and processes then run on our streams.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.test_rooms import ROOT
from tests.reactor.loops import usable

SCRIPT = """
import asyncio, json, logging, sys, time, unittest

import pollux.iostream, pollux.log
from tests.conformance.foreign_suites import put_in_place

put_in_place(sys.argv[1])

import tornado.log

tornado.log.app_log, tornado.log.gen_log = pollux.log.app_log, pollux.log.gen_log

import tornado.iostream

pollux.iostream._StreamBuffer = tornado.iostream._StreamBuffer  # private, and tested for itself
tornado.iostream = sys.modules["tornado.iostream"] = pollux.iostream

import tornado.ioloop

tornado.ioloop.IOLoop.time = lambda self: time.monotonic()  # it is compared with the time of the stream's loop, ours

# Tornado's test kit makes a loop current by telling asyncio.
policy = asyncio.get_event_loop_policy()
pollux.IOLoop.current = staticmethod(lambda instance=True: asyncio._get_running_loop() or policy.get_event_loop())

logging.getLogger("tornado.access").disabled = True
suite = unittest.defaultTestLoader.loadTestsFromNames([f"tornado.test.{name}" for name in sys.argv[2:]])
result = unittest.TestResult()
suite.run(result)
print(json.dumps([result.testsRun, {test.id(): error for test, error in result.failures + result.errors}]))
"""

STREAMS = ["iostream_test"]
ON_STREAMS = [
    "http1connection_test",
    "httpserver_test",
    "process_test",
    "simple_httpclient_test",
    "tcpclient_test",
    "tcpserver_test",
    "websocket_test",
]

DIFFERENT = {
    "test_async_read_error_logging": "it replaces a method of the instance; ours reads by another",
    "test_read_into_resizable_after_close": "ours fills the buffer when all is here, not bit by bit",
    "test_read_until_close_with_buffer_overflow": "it wants a full buffer logged twice, by two messages",
    "test_read_until_close_with_error": "it replaces a private method",
    "test_regular_body": "it wants the pieces of a partial read cut as Tornado's buffer happens to cut them",
}


@pytest.mark.parametrize(
    ("backend", "modules", "least"), [("epoll", STREAMS, 170), ("poll", STREAMS, 170), ("epoll", ON_STREAMS, 340)]
)
@pytest.mark.timeout(300)  # 500 tests in a process of their own
def test_tornados_tests_pass_on_ours(backend: str, modules: list[str], least: int) -> None:
    usable(backend)
    command = [sys.executable, "-c", SCRIPT, backend, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run, failed = json.loads(done.stdout.splitlines()[-1])
    assert run >= least
    assert {name.rpartition(".")[2] for name in failed} <= DIFFERENT.keys(), "\n".join(failed.values())
