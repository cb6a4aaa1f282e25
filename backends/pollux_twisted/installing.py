"""Making a `PolluxReactor` Twisted's global reactor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twisted.internet.error import ReactorAlreadyInstalledError
from twisted.internet.main import installReactor

from pollux_twisted import deferreds
from pollux_twisted.reactor import PolluxReactor

if TYPE_CHECKING:
    from pollux.backend import Backend


def install(backend: str | Backend | None = None) -> PolluxReactor:
    """See `pollux_twisted.install`."""
    if "twisted.internet.reactor" in sys.modules:  # asked before a loop is made
        present = sys.modules["twisted.internet.reactor"]
        raise ReactorAlreadyInstalledError(
            f"{present!r} is installed already: call pollux_twisted.install() before anything imports "
            "twisted.internet.reactor"
        )
    reactor = PolluxReactor(backend)
    installReactor(reactor)
    reactor.loop.make_current()
    deferreds.teach()
    return reactor
