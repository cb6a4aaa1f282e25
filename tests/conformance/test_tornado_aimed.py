"""Tornado's own tests, aimed at our modules: see `aim/sitecustomize.py` for how.

What fails has to stand in `DIFFERENT`, with its reason, and has to fail in that way; all else that passes on Tornado's
modules passes on ours.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance.comparison import names_of, run
from tests.reactor.loops import BACKENDS, usable


class Difference(NamedTuple):
    """Tests that are not meant to pass on ours."""

    tests: str  # pattern of fnmatch, behind "tornado.test."
    says: str  # found in what the failing test prints
    why: str

    def explains(self, test: str, error: str = "") -> bool:
        return fnmatchcase(test, f"tornado.test.{self.tests}") and self.says in error


ABSENT = "'NoneType' object"  # what a test of a private name says
CUT = "a partial read gives what is there, and ours does not read on beyond a chunk to have more there"
SWEPT = "it counts who is in line after a timeout: Tornado's queue forgets them with the next call, ours at once"

DIFFERENT = [
    Difference("iostream_test.TestStreamBuffer.*", ABSENT, "private"),
    Difference("iostream_test.*.test_read_until_close_with_error", "_try_inline_read", "it replaces a private method"),
    Difference(
        "iostream_test.*.test_async_read_error_logging",
        "not done after 5 seconds",
        "it replaces a method of an object; ours asks its class, when that is made",
    ),
    Difference(
        "iostream_test.*.test_read_into_resizable_after_close",
        r"b'\x00' != b'b'",
        "ours fills the buffer when all is here, not bit by bit",
    ),
    Difference(
        "iostream_test.*.test_read_until_close_with_buffer_overflow",
        "did not get expected log message",
        "it wants a full buffer logged twice, by two messages",
    ),
    Difference("tcpclient_test.ConnectorTest.*", ABSENT, "private"),
    Difference("tcpclient_test.TestConnectorSplit.*", ABSENT, "private"),
    Difference("tcpclient_test.TestFormatAddr.*", ABSENT, "private"),
    Difference(
        "tcpclient_test.*.test_connect_timeout_during_tcp_connect",
        "",
        "it says anew a private method, so as to never connect; and ours names addresses in the order of trying them",
    ),
    Difference(
        "gen_test.*.test_asyncio_future_debug_info",
        "created at",
        "in debug mode the Future names our file as the place where it was made",
    ),
    Difference("queues_test.QueueGetTest.test_get_clears_timed_out_*", "AssertionError", SWEPT),
    Difference("queues_test.QueuePutTest.test_put_clears_timed_out_*", "AssertionError", SWEPT),
    Difference("netutil_test.ThreadedResolverTest.test_localhost", "_threadpool", "private"),
    Difference(
        "process_test.ProcessTest.test_multi_process",
        "did not get expected log message",
        "workers come and go as they should; ours says so in other words",
    ),
    Difference("ioloop_test.TestPeriodicCallbackMath.*", "_update_next", "private"),
    Difference("ioloop_test.TestIOLoopConfiguration.*", "", "`configure` takes a poller, not a class of loops"),
    Difference("ioloop_test.*.test_explicit_asyncio_loop", "asyncio_loop", "ours is an asyncio loop and needs none"),
    Difference("ioloop_test.*.test_sync_result", "BadYieldError not raised", "`run_sync` gives what the function gave"),
    Difference("httpserver_test.*.test_regular_body", "[12, 16, 16, 6]", CUT),
    Difference("web_test.*FlowControlTest.test_flow_control_compressed_body", "data_received", CUT),
]

MODULES = ["iostream", "tcpserver", "tcpclient", "gen", "concurrent", "locks", "queues", "netutil", "process"]
# What Tornado builds on them; long, so once: what pollers have to do with it, the others have shown.
ABOVE = ["ioloop", "testing", "http1connection", "httpserver", "simple_httpclient", "websocket", "web"]
CASES = [(backend, module) for backend in BACKENDS for module in MODULES] + [("epoll", module) for module in ABOVE]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("backend", "module"), CASES)
def test_tornados_tests_pass_on_our_modules(backend: str, module: str, tmp_path: Path) -> None:
    usable(backend)
    ours = run(backend, [f"tornado.test.{module}_test"], tmp_path, aimed=True)
    assert ours.passed
    expected = [difference for difference in DIFFERENT if difference.tests.startswith(f"{module}_test.")]
    for difference in expected:
        assert not [test for test in ours.passed if difference.explains(test)], "passes now: no difference any more"
        assert [test for test in ours.failed if difference.explains(test, ours.failed[test])], difference

    worse = {
        test: error
        for test, error in (ours.failed | ours.skipped).items()
        if not any(difference.explains(test, error) for difference in expected)
        and not test.startswith("setUpClass ")  # a class that only others inherit from
    }
    if worse:  # these tests measure time
        again = run(backend, names_of(worse), tmp_path, aimed=True, patient=True)
        worse = {test: error for test, error in (again.failed | again.skipped).items() if test in worse}
    if worse:
        theirs = run("asyncio", names_of(worse), tmp_path)
        worse = {test: error for test, error in worse.items() if test in theirs.passed}
    assert worse == {}
