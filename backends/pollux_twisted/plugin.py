"""The entry point of the backend `twisted`. It does not import Twisted: that happens when the backend is checked, and
the reactor is imported when a loop is made.
"""

from pollux.backend import Backend
from pollux.hookspec import hookimpl
from pollux.poller import Poller


def _check() -> str | None:
    import importlib.util

    # Not `twisted` alone: without Twisted, the folder of our plugin for it may be found under that name.
    if importlib.util.find_spec("twisted") is None or importlib.util.find_spec("twisted.internet") is None:
        return "Twisted is not installed: pip install 'pollux[twisted]'"
    from pollux_twisted.driver import why_not

    return why_not()


def _create() -> Poller:
    from pollux_twisted.io_twisted import TwistedPoller

    return TwistedPoller()


@hookimpl
def pollux_backends() -> tuple[Backend, ...]:
    """Return the backend. Never chosen by itself: a program that has no use for Twisted has none for this."""
    return (Backend("twisted", "Twisted's global reactor, whichever is installed", _create, 0, _check),)
