"""`Watchdog`: catches a callback that blocks the loop in the act, from another thread.

The loop does nothing for it: it says anyway whether it sleeps, and when its last poll returned. The watchdog looks at
both twice in each threshold. A loop that is awake each time, and has not polled for the threshold, is blocked, and the
stack of its thread is logged: it shows the line that blocks. Cheap enough for production: one wake-up of a thread twice
in each threshold.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pollux.log import gen_log

if TYPE_CHECKING:
    from pollux.ioloop import IOLoop


class Watchdog:
    """Log the stack of the running callback when a loop has been busy with it for too long.

    .. code-block:: python

        with Watchdog(loop, threshold=0.5):
            loop.start()

    :param loop: the loop; it need not be running yet.
    :param threshold: seconds, more than 0; a callback is reported once, between this and one and a half times this
        after it began, and once more, with how long it took, when it is over.
    :ivar blocked: how many times the loop was found blocked.
    :raises ValueError: `threshold` is not above 0.
    """

    def __init__(self, loop: IOLoop, threshold: float = 1.0) -> None:
        if not threshold > 0:
            raise ValueError(f"Watchdog needs a threshold of more than 0 seconds, got {threshold!r}")
        self.loop = loop
        self.threshold = threshold
        self.blocked = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start watching, in a daemon thread. On one that watches already, nothing happens."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="pollux-watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait for the thread to end."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _watch(self) -> None:
        seen: float | None = None  # when the last poll had returned, at the last look; None: the loop was not busy
        since = 0.0
        reported = False
        while not self._stop.wait(self.threshold / 2):
            thread, polled = self.loop.busy_since()
            if thread is not None and polled == seen:
                if not reported and time.monotonic() - since >= self.threshold:
                    reported = True
                    self.blocked += 1
                    self._report(thread)
                continue
            now = time.monotonic()
            if reported:
                gen_log.warning("%r is running again: it was blocked for about %.1f seconds", self.loop, now - since)
                reported = False
            seen = None if thread is None else polled
            since = now

    def _report(self, thread: int) -> None:
        frame = sys._current_frames().get(thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "  (its thread has ended)\n"
        gen_log.warning("%r has been blocked for %.1f seconds; it is here:\n%s", self.loop, self.threshold, stack)
