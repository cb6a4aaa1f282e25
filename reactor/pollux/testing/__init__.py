"""The conformance suites: what a backend must pass, for its author to run with one line.

    from pollux.testing import LoopSuite, PollerSuite

    class TestMyPoller(PollerSuite):
        backend = "mine"       # its name in the registry

    class TestMyLoop(LoopSuite):
        backend = "mine"

a loop on virtual time, `VirtualLoop`, with its `VirtualClock` and `VirtualClockError`; and Tornado's names for tests by
unittest, `AsyncTestCase` and its kin (with a server: `pollux_web.testing`).

Needs pytest; `import pollux` does not import this package. Names are imported when they are asked for: pytest imports
this package at each start, for the plugin in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pollux.errors import MissingExtraError

try:
    import pytest
except ImportError as error:
    raise MissingExtraError("pollux.testing needs pytest: pip install 'pollux[test]'") from error

# Before the suites are imported: a failing assert then shows its values, as in a test module.
pytest.register_assert_rewrite(
    "pollux.testing.descriptors",
    "pollux.testing.loop_callbacks",
    "pollux.testing.loop_current",
    "pollux.testing.loop_debug",
    "pollux.testing.loop_fixtures",
    "pollux.testing.loop_futures",
    "pollux.testing.loop_handlers",
    "pollux.testing.loop_handles",
    "pollux.testing.loop_hangups",
    "pollux.testing.loop_life",
    "pollux.testing.loop_network",
    "pollux.testing.loop_periodic",
    "pollux.testing.loop_system",
    "pollux.testing.loop_tasks",
    "pollux.testing.loop_timeouts",
    "pollux.testing.poller_readiness",
    "pollux.testing.poller_registration",
    "pollux.testing.poller_suite",
    "pollux.testing.poller_waiting",
)

if TYPE_CHECKING:
    from pollux.testing.cases import (
        AsyncTestCase,
        ExpectLog,
        bind_unused_port,
        gen_test,
        get_async_test_timeout,
        main,
        setup_with_context_manager,
    )
    from pollux.testing.loop_suite import LoopSuite
    from pollux.testing.poller_suite import PollerSuite
    from pollux.testing.virtual_clock import VirtualClock, VirtualClockError, VirtualLoop

__all__ = [
    "AsyncTestCase",
    "ExpectLog",
    "LoopSuite",
    "PollerSuite",
    "VirtualClock",
    "VirtualClockError",
    "VirtualLoop",
    "bind_unused_port",
    "gen_test",
    "get_async_test_timeout",
    "main",
    "setup_with_context_manager",
]

_CASES = (
    "AsyncTestCase", "ExpectLog", "bind_unused_port", "gen_test", "get_async_test_timeout", "main",
    "setup_with_context_manager",
)  # fmt: skip


def __getattr__(name: str) -> object:
    for module, names in (
        ("cases", _CASES),
        ("loop_suite", ("LoopSuite",)),
        ("poller_suite", ("PollerSuite",)),
        ("virtual_clock", ("VirtualClock", "VirtualClockError", "VirtualLoop")),
    ):
        if name in names:
            return getattr(import_module(f"pollux.testing.{module}"), name)
    raise AttributeError(f"module 'pollux.testing' has no attribute {name!r}")
