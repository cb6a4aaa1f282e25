"""One Python event loop, any poller: asyncio's loop and Tornado's IOLoop in one, over pollers that are plugins.

Public names are exported once, from here. Importing this opens nothing, starts nothing and sets no policy.
Nor does it import what nobody asked for: pytest imports this package at each start, for the plugin in it, and a plugin
author needs no loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pollux.backend import Backend
    from pollux.errors import BackendError, ConfigError, FdLimitError, MissingExtraError, PluginError, PolluxError
    from pollux.hookspec import hookimpl
    from pollux.ioloop import IOLoop
    from pollux.periodic import PeriodicCallback
    from pollux.poller import ERROR, READ, WRITE, Poller
    from pollux.runner import Loop, new_event_loop, run

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

_HOME = {
    "backend": ("Backend",),
    "errors": ("BackendError", "ConfigError", "FdLimitError", "MissingExtraError", "PluginError", "PolluxError"),
    "hookspec": ("hookimpl",),
    "ioloop": ("IOLoop",),
    "periodic": ("PeriodicCallback",),
    "poller": ("ERROR", "READ", "WRITE", "Poller"),
    "runner": ("Loop", "new_event_loop", "run"),
}


def __getattr__(name: str) -> object:
    """Import the module that a public name lives in, when the name is asked for first (PEP 562)."""
    for module, names in _HOME.items():
        if name in names:
            home = import_module(f"pollux.{module}")
            globals().update({each: getattr(home, each) for each in names})
            return globals()[name]
    raise AttributeError(f"module 'pollux' has no attribute {name!r}")
