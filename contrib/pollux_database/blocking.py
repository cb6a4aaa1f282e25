"""The warning that a synchronous statement has held up a running event loop.

A loop serves nobody while a callback waits. This package is synchronous on purpose, and a statement of a millisecond
harms nobody; the one that takes long is found by measuring each of them, which costs two looks at the clock. A Python
warning rather than a line in the log: tests turn it into an error (`-W error::pollux_database.BlockingWarning`), and
nobody has to set up logging to see it.
"""

from __future__ import annotations

import asyncio
import sys
import warnings

# Which lines have been told of: a line that blocks does so again, and once is enough. Not left to the registry of the
# `warnings` module, which forgets whenever any library changes a filter.
_told: set[tuple[str, int]] = set()


class BlockingWarning(RuntimeWarning):
    """A statement has blocked the running event loop for longer than the connection's `blocking_threshold`."""


def tell_if_blocking(seconds: float, threshold: float, statement: str) -> None:
    """Warn, once for each line of code outside this package, if this thread runs an event loop."""
    if seconds <= threshold:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    frame = sys._getframe(1)
    while frame.f_back is not None and not _is_callers(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    if (file, line) in _told:
        return
    _told.add((file, line))
    shown = statement if len(statement) <= 80 else f"{statement[:80]}..."
    message = (
        f"a statement blocked the event loop for {seconds:.3g} s, more than {threshold:.3g} s: {shown!r}. While it "
        f"runs nothing else does: use pollux_database.AsyncConnection (this line is told of once)"
    )
    warnings.warn_explicit(message, BlockingWarning, file, line)


def _is_callers(module: str) -> bool:
    return module.partition(".")[0] not in ("pollux_database", "contextlib")
