"""One Python event loop, any poller: asyncio's loop and Tornado's IOLoop in one, over pollers that are plugins.

Public names are exported once, from here. Importing this opens nothing, starts nothing and sets no policy.
"""

from typing import TYPE_CHECKING

from pollux.backend import Backend
from pollux.errors import BackendError, ConfigError, FdLimitError, MissingExtraError, PluginError, PolluxError
from pollux.ioloop import IOLoop
from pollux.periodic import PeriodicCallback
from pollux.poller import ERROR, READ, WRITE, Poller
from pollux.runner import Loop, new_event_loop, run

if TYPE_CHECKING:
    from pollux.hookspec import hookimpl

__version__ = "0.1.0"

__all__ = [
    "ERROR",
    "READ",
    "WRITE",
    "Backend",
    "BackendError",
    "ConfigError",
    "FdLimitError",
    "IOLoop",
    "Loop",
    "MissingExtraError",
    "PeriodicCallback",
    "PluginError",
    "Poller",
    "PolluxError",
    "hookimpl",
    "new_event_loop",
    "run",
]


def __getattr__(name: str) -> object:
    """Import pluggy only for those who write plugins: `import pollux` must stay cheap."""
    if name == "hookimpl":
        from pollux.hookspec import hookimpl

        return hookimpl
    raise AttributeError(f"module 'pollux' has no attribute {name!r}")
