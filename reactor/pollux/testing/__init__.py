"""The conformance suites: what a backend must pass, for its author to run with one line.

    from pollux.testing import LoopSuite, PollerSuite

    class TestMyPoller(PollerSuite):
        backend = "mine"       # its name in the registry

    class TestMyLoop(LoopSuite):
        backend = "mine"

Needs pytest; `import pollux` does not import this package.
"""

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

from pollux.testing.loop_suite import LoopSuite  # noqa: E402
from pollux.testing.poller_suite import PollerSuite  # noqa: E402

__all__ = ["LoopSuite", "PollerSuite"]
