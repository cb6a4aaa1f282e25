"""The lifespan protocol of ASGI 2.0: one long call of the application, told when the server starts and stops.

https://asgi.readthedocs.io/en/stable/specs/lifespan.html: an application that raises instead of answering the startup
event does not know the protocol, and is served all the same; one that answers `lifespan.startup.failed` must not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pollux.errors import PolluxError
from pollux.log import app_log

Message = dict[str, Any]

VERSIONS = {"version": "3.0", "spec_version": "2.0"}
MODES = ("auto", "on", "off")


class LifespanError(PolluxError):
    """The application could not start. Carries its own message."""


class Lifespan:
    """Runs the application's lifespan.

    :param mode: "auto" serves an application that does not know the protocol, "on" refuses it, "off" asks nothing.
    :ivar state: what the application has put into `scope["state"]`; each request gets a copy.
    """

    def __init__(self, application: Callable[..., Awaitable[None]], mode: str = "auto") -> None:
        if mode not in MODES:
            raise ValueError(f"lifespan is one of {', '.join(MODES)}, got {mode!r}")
        self.state: dict[str, Any] = {}
        self._application = application
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._known = False  # the application answers these events

    async def startup(self) -> None:
        """Start the application.

        :raises LifespanError: it says that it cannot start, or in mode "on" does not know the protocol.
        """
        if self._mode == "off":
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tell("lifespan.startup")
        if self._failure is not None:
            await asyncio.wait([self._task], timeout=1.0)  # it ends by itself as a rule
            self._task.cancel()
            raise LifespanError(f"the application failed to start{': ' * bool(self._failure)}{self._failure}")

    async def shutdown(self) -> None:
        """Let the application clean up. What it raises is logged."""
        if self._task is None or self._task.done():
            return
        if self._known:
            self._answered.clear()
            await self._tell("lifespan.shutdown")
            if self._failure is not None:
                app_log.error("the application failed to shut down: %s", self._failure or "it did not say why")
        self._task.cancel()

    async def _tell(self, kind: str) -> None:
        self._events.put_nowait({"type": kind})
        await self._answered.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(VERSIONS), "state": self.state}
        try:
            await self._application(scope, self._events.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._known:
                app_log.error("Exception in the lifespan of the application", exc_info=True)
                if not self._answered.is_set():
                    self._failure = f"{type(error).__name__}: {error}"
            elif self._mode == "on":
                self._failure = f"{type(error).__name__}: {error}"
            else:
                app_log.debug("the application does not know the lifespan protocol", exc_info=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._answered.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._answered.is_set() or not kind.startswith("lifespan."):
            raise RuntimeError(f"unexpected ASGI message {kind!r} in the lifespan")
        self._known = True
        if kind.endswith(".failed"):
            self._failure = str(message.get("message", ""))
        elif kind not in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
            raise RuntimeError(f"unexpected ASGI message {kind!r} in the lifespan")
        self._answered.set()
