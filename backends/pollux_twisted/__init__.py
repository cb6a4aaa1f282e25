"""Twisted both ways: its reactor on our pollers (`install`), our loop on its reactor (the backend `twisted`, `attach`),
and Deferreds that are awaited where Futures are, and the other way round.

Importing this package does not import Twisted; calling anything does.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from pollux.errors import MissingExtraError

if TYPE_CHECKING:
    import asyncio

    from twisted.internet.defer import Deferred

    from pollux.backend import Backend
    from pollux.ioloop import IOLoop
    from pollux_twisted.reactor import PolluxReactor

__all__ = ["as_future", "attach", "ensure_deferred", "install"]

_T = TypeVar("_T")


def _need_twisted() -> None:
    try:
        import twisted.internet.interfaces  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pollux_twisted needs Twisted: pip install 'pollux[twisted]'") from error


def install(backend: str | Backend | None = None) -> PolluxReactor:
    """Make a Twisted reactor that runs on a Pollux loop Twisted's global one: `twisted.internet.reactor`.

    Call it before anything imports `twisted.internet.reactor`. The reactor's loop becomes the current one, so that
    Pollux's and asyncio's code finds it; Deferreds can be awaited and yielded in its coroutines.

    :param backend: the poller, see `pollux.IOLoop`; None for what the environment, the config file or `auto` says.
    :returns: the reactor; its `loop` is the `pollux.IOLoop`.
    :raises twisted.internet.error.ReactorAlreadyInstalledError: there is a global reactor already.
    :raises pollux.errors.BackendError: the backend is unknown or not usable here.
    :raises pollux.errors.MissingExtraError: Twisted is not installed.
    """
    _need_twisted()
    from pollux_twisted.installing import install

    return install(backend)


def attach(reactor: Any = None) -> IOLoop:
    """Return the Pollux loop inside a Twisted reactor; it is made at the first call.

    For programs that have a reactor and keep it: the loop lives inside as a guest and is the thread's current one. It
    ends when the reactor shuts down: then its tasks are cancelled and awaited before the reactor disconnects. Call it
    in the reactor's thread, before or while it runs.

    :param reactor: None for the global one. A `PolluxReactor` has a loop already, which is returned.
    :raises RuntimeError: the reactor was stopped.
    :raises pollux.errors.MissingExtraError: Twisted is not installed.
    """
    _need_twisted()
    from pollux_twisted.guest_twisted import attach

    return attach(reactor)


def ensure_deferred(awaitable: Awaitable[_T], loop: IOLoop | None = None) -> Deferred[_T]:
    """Return a Deferred for whatever a Pollux coroutine can wait for: a coroutine (which is started), a Future, a list.

    In the coroutine, Futures and Deferreds can be awaited. Cancelling the Deferred cancels the coroutine or Future; a
    failure has the traceback of the exception. A Future that is cancelled fails with Twisted's `CancelledError`.

    :param loop: None for the current one.
    :raises pollux.gen.BadYieldError: it cannot be waited for.
    :raises pollux.errors.MissingExtraError: Twisted is not installed.
    """
    _need_twisted()
    from pollux_twisted.deferreds import ensure_deferred

    return ensure_deferred(awaitable, loop)


def as_future(deferred: Deferred[_T], loop: IOLoop | None = None) -> asyncio.Future[_T]:
    """Return a Future of a Deferred's result. It takes the result: later callbacks of the Deferred get None.

    Cancelling the Future cancels the Deferred; an exception has the traceback of the failure.

    :param loop: None for the current one.
    :raises pollux.errors.MissingExtraError: Twisted is not installed.
    """
    _need_twisted()
    from pollux_twisted.deferreds import as_future

    return as_future(deferred, loop)
