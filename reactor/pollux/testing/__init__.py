"""The conformance suites: what a backend must pass, for its author to run with one line.

    from pollux.testing import PollerSuite

    class TestMyPoller(PollerSuite):
        backend = "mine"       # its name in the registry

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
    "pollux.testing.poller_readiness",
    "pollux.testing.poller_registration",
    "pollux.testing.poller_suite",
    "pollux.testing.poller_waiting",
)

from pollux.testing.poller_suite import PollerSuite  # noqa: E402

__all__ = ["PollerSuite"]
