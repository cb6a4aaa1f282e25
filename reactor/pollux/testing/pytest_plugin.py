"""The pytest plugin: a loop on the poller of one's choice, and virtual time, as fixtures.

pytest loads it through the entry point `pollux` of the group `pytest11` in every run of an environment where Pollux is
installed, so it imports nothing but pytest until a fixture is asked for. `-p no:pollux` leaves it out. All its names
begin with `pollux`, its options with `--pollux`, so that it stands beside pytest-asyncio and anyio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pollux.ioloop import IOLoop
    from pollux.testing.virtual_clock import VirtualClock

OPTION = "pollux_backend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the poller, as an option and as a setting of the ini file."""
    words = "pollers for the fixture pollux_backend: NAME[,NAME...], or `all` (those not usable here are skipped)"
    parser.getgroup("pollux").addoption("--pollux-backend", metavar="NAME[,NAME]|all", help=words)
    parser.addini(OPTION, f"{words}; --pollux-backend overrides it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once on each backend that was asked for."""
    if OPTION in metafunc.fixturenames:
        asked = metafunc.config.getoption(OPTION) or metafunc.config.getini(OPTION)
        marks = metafunc.definition.iter_markers("parametrize")
        by_test = any(OPTION in _names(mark.args[0] if mark.args else mark.kwargs["argnames"]) for mark in marks)
        if asked and not by_test:
            metafunc.parametrize(OPTION, _backends(asked), indirect=True)


def _names(argnames: str | list[str] | tuple[str, ...]) -> list[str]:
    return [name.strip() for name in argnames.split(",")] if isinstance(argnames, str) else list(argnames)


def _backends(asked: str) -> list[object]:
    """Check the names; of `all`, mark those that are not usable here."""
    from pollux import registry
    from pollux.config import choose_backend
    from pollux.errors import PolluxError

    try:
        if asked.strip() != "all":
            return [choose_backend(name.strip()).backend.name for name in asked.split(",")]
        reasons = {backend.name: registry.unusable(backend) for backend in registry.backends()}
    except PolluxError as error:
        raise pytest.UsageError(f"--pollux-backend (or {OPTION} in the ini file) is {asked!r}: {error}") from error
    return [
        pytest.param(name, marks=pytest.mark.skip(reason=f"{name}: {reason}") if reason else ())
        for name, reason in reasons.items()
    ]


@pytest.fixture
def pollux_backend(request: pytest.FixtureRequest) -> str:
    """The name of the poller: each of `--pollux-backend` in turn, else what Pollux's configuration chooses.

    A test that wants others says so: `@pytest.mark.parametrize("pollux_backend", [...], indirect=True)`.
    """
    from pollux.config import choose_backend

    return choose_backend(getattr(request, "param", None)).backend.name


@pytest.fixture
def pollux_clock() -> VirtualClock:
    """A virtual clock. The `pollux_loop` of a test that asks for it runs on this clock."""
    from pollux.testing.virtual_clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def pollux_loop(request: pytest.FixtureRequest, pollux_backend: str) -> Iterator[IOLoop]:
    """A new `pollux.IOLoop` on `pollux_backend`, current for Tornado's names. Closed after the test, which fails if it
    left behind tasks that are not done, or descriptors that are still watched.
    """
    from pollux.testing.leftovers import Leftovers

    if "pollux_clock" in request.fixturenames:
        from pollux.testing.virtual_clock import VirtualLoop

        loop: IOLoop = VirtualLoop(pollux_backend, clock=request.getfixturevalue("pollux_clock"))
        loop.make_current()
    else:
        from pollux.ioloop import IOLoop

        loop = IOLoop(pollux_backend, make_current=True)
    leftovers = Leftovers(loop)
    yield loop
    if complaint := leftovers.close():
        pytest.fail(complaint, pytrace=False)
