"""`IOLoop`: the heart with Tornado's names. It is an asyncio event loop and Tornado's IOLoop at once.

The names and meanings are Tornado 6's (docs: tornado.ioloop). Where the two dialects share a name (`call_later`,
`call_at`, `time`, `stop`, `close`, `run_in_executor`) one method serves both. They differ in one habit: a raising
callback given to `add_callback`, `add_timeout`, `add_handler` or `add_future` ends in `handle_callback_exception`,
one given to an asyncio name ends in asyncio's exception handler. Either way it is logged and the loop lives.

What is scheduled by Tornado's names runs inside the stack contexts of where it was scheduled (`pollux.stack_context`);
so do `call_later` and `call_at`, unless they are given asyncio's `context`. `call_soon`, and with it the steps of
tasks, only carries them along.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from pollux import stack_context
from pollux.forking import ForkedPoller
from pollux.heart import Heart, told_to_asyncio
from pollux.log import app_log
from pollux.poller import ERROR, READ, WRITE
from pollux.stack_context import NullContext, wrap

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from pollux.backend import Backend
    from pollux.periodic import PeriodicCallback as PeriodicCallback

T = TypeVar("T")

_entered = stack_context.entered.get
FAR_AHEAD = 1e9  # seconds, 31 years: nobody means that by a deadline, and the loop's clock starts with the machine
_slot = threading.local()  # .loop: the current loop of a thread that is not running one


class IOLoop(Heart):
    """One event loop over any poller.

    :param backend: the poller: a registered name, a `Backend`, or None for what `configure`, the environment variable
        POLLUX_BACKEND, the config file or else `auto` says (see `pollux.config.choose_backend`).
    :param make_current: True makes it the thread's current loop, False does not, None does if the thread has none.
    :raises pollux.errors.BackendError: the backend is unknown or not usable here.
    """

    READ = READ
    WRITE = WRITE
    ERROR = ERROR
    NONE = 0

    _configured: ClassVar[str | Backend | None] = None

    def __init__(self, backend: str | Backend | None = None, *, make_current: bool | None = None) -> None:
        # Here, because choosing imports pluggy and scans the installed distributions: importing pollux must not.
        from pollux.config import choose_backend

        choice = choose_backend(backend if backend is not None else IOLoop._configured)
        self.backend = choice.backend
        super().__init__(choice.backend.create())
        self._close_callbacks: list[Callable[[], object]] = []
        if make_current or (make_current is None and IOLoop._of_thread() is None):
            self.make_current()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else "running" if self.is_running() else "stopped"
        return f"<{type(self).__name__} {self.backend.name} {state}>"

    # Which loop

    @staticmethod
    def configure(backend: str | Backend | None) -> None:
        """Choose the poller of all loops made from now on without an explicit one; None forgets the choice."""
        IOLoop._configured = backend

    @staticmethod
    def _of_thread() -> IOLoop | None:
        # A test kit or a framework may make a loop current by asyncio's name alone.
        for loop in (told_to_asyncio(), getattr(_slot, "loop", None)):
            if isinstance(loop, IOLoop) and not loop.is_closed() and not isinstance(loop._poller, ForkedPoller):
                return loop
        return None

    @overload
    @staticmethod
    def current() -> IOLoop: ...
    @overload
    @staticmethod
    def current(instance: bool) -> IOLoop | None: ...
    @staticmethod
    def current(instance: bool = True) -> IOLoop | None:
        """Return the running loop, else the thread's current one, else a new one (None if `instance` is false)."""
        running = asyncio._get_running_loop()
        if isinstance(running, IOLoop):
            return running
        if running is not None:
            raise RuntimeError(
                f"a loop that is not Pollux's is running in this thread: {running!r}. "
                "Run the program with pollux.run(), or asyncio.Runner(loop_factory=pollux.new_event_loop)"
            )
        loop = IOLoop._of_thread()
        if loop is None and instance:
            loop = IOLoop(make_current=True)
        return loop

    @staticmethod
    def instance() -> IOLoop:
        """Return the current loop: Tornado's old word for the one loop of a process; each thread has its own now."""
        return IOLoop.current()

    @staticmethod
    def initialized() -> bool:
        """Return whether the thread has a current loop."""
        return IOLoop.current(instance=False) is not None

    def make_current(self) -> None:
        """Make this the current loop of the calling thread, for Pollux and for asyncio."""
        _slot.loop = self
        asyncio.set_event_loop(self)

    @staticmethod
    def clear_current() -> None:
        """Leave the calling thread without a current loop."""
        _slot.loop = None
        asyncio.set_event_loop(None)

    running = Heart.is_running
    """Tornado's older name of asyncio's `is_running`."""
    install = make_current
    """Tornado's older name of `make_current`."""
    clear_instance = clear_current
    """Tornado's older name of `clear_current`."""

    @property
    def asyncio_loop(self) -> IOLoop:
        """The loop itself. Tornado's has an asyncio loop beneath, and programs pass that on to what wants one."""
        return self

    # Life

    def start(self) -> None:
        """Run until `stop` is called."""
        self.run_forever()

    def run_sync(self, func: Callable[[], Any], timeout: float | None = None) -> Any:
        """Run the loop until `func()`, or the awaitable it returns, is done; return its result.

        Futures of `concurrent.futures`, lists and dicts are waited for as `gen.coroutine` does.

        :param timeout: seconds; None waits without limit.
        :raises TimeoutError: the time is over; the awaitable has been cancelled.
        """

        timed_out = False

        async def main() -> Any:
            result = func()
            if isinstance(result, (list, dict, concurrent.futures.Future)):
                from pollux.gen import convert_yielded  # which imports this module

                result = convert_yielded(result)
            return await result if inspect.isawaitable(result) else result

        def give_up() -> None:
            nonlocal timed_out
            timed_out = True
            task.cancel()

        task = self.create_task(main())
        timer = None if timeout is None else self.call_later(timeout, give_up)
        try:
            return self.run_until_complete(task)
        except asyncio.CancelledError:
            if timed_out:
                raise TimeoutError(f"run_sync: not done after {timeout} seconds") from None
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def close(self, all_fds: bool = False) -> None:
        """Close the loop and its poller; `all_fds` also closes every descriptor that has a handler.

        :raises RuntimeError: the loop is running.
        """
        if not self.is_running() and not self.is_closed():
            self._run_close_callbacks()
        if all_fds and not self.is_running():
            for fd, entry in list(self._entries.items()):
                if entry.handler is not None:
                    self.remove_handler(fd)
                    self.close_fd(entry.owner)
        is_current = IOLoop._of_thread() is self
        super().close()
        if is_current:
            IOLoop.clear_current()

    def add_close_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback()` when the loop is about to close: for what lives as long as the loop, such as a pool of
        connections.

        The loop stands still by then but is whole: `run_until_complete` works, where no other loop runs in the thread.
        The last one added is called first; one that raises is logged. None is called in a forked child, whose
        descriptors are its parent's.
        """
        self._close_callbacks.append(callback)

    def remove_close_callback(self, callback: Callable[[], object]) -> None:
        """Undo `add_close_callback`; nothing happens if `callback` was not added or has been called."""
        if callback in self._close_callbacks:
            self._close_callbacks.remove(callback)

    def _run_close_callbacks(self) -> None:
        if isinstance(self._poller, ForkedPoller):
            self._close_callbacks.clear()
        while self._close_callbacks:
            callback = self._close_callbacks.pop()
            try:
                callback()
            except Exception:
                app_log.error("Exception in close callback %r", callback, exc_info=True)

    # Callbacks (`add_callback` is the heart's)

    def add_callback_from_signal(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `callback` in the next iteration, outside all stack contexts: a signal comes when it will."""
        self.spawn_callback(callback, *args, **kwargs)

    def spawn_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `callback` in the next iteration, outside all stack contexts: "fire and forget"."""
        if _entered():
            with NullContext():
                self.add_callback(callback, *args, **kwargs)
        else:
            self.add_callback(callback, *args, **kwargs)

    def add_future(
        self,
        future: asyncio.Future[T] | concurrent.futures.Future[T] | Awaitable[T],
        callback: Callable[[Any], Any],
    ) -> None:
        """Call `callback(future)` in the loop when `future`, asyncio's or concurrent.futures', is done."""
        callback = wrap(callback)
        if isinstance(future, concurrent.futures.Future):
            future.add_done_callback(partial(self.add_callback, callback))
        else:
            asyncio.ensure_future(future, loop=self).add_done_callback(partial(self._run_callback, callback))

    def _callback_returned(self, callback: Callable[..., Any], result: Any) -> None:
        if not inspect.isawaitable(result):
            return

        async def finish() -> None:
            try:
                await result
            except Exception as error:
                self.callback_failed(callback, error)

        self.start_task(finish())

    def callback_failed(self, callback: Callable[..., Any], error: Exception) -> bool:
        """Hand an exception to the stack contexts of now, and what they do not handle to `handle_callback_exception`.

        For what becomes of a callback later: in the coroutine that it returned, say.

        :returns: whether a context has handled it.
        """

        def fail() -> None:
            raise error

        try:
            wrap(fail)()
        except Exception:
            self.handle_callback_exception(callback)
            return False
        return True

    def handle_callback_exception(self, callback: Callable[..., Any] | None) -> None:
        """Log the exception being handled. Override it to do otherwise; the loop lives either way."""
        app_log.error("Exception in callback %r", callback, exc_info=True)

    # Timeouts

    def call_at(  # type: ignore[override]  # Tornado's callbacks take keywords
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args, **kwargs)` at the loop's time `when` (seconds, the clock of `time()`).

        The keyword arguments are Tornado's. `context` is asyncio's: with it, the stack contexts are not entered.
        """
        if context is None and _entered():
            callback = wrap(callback)
        if kwargs:
            callback = partial(callback, **kwargs)
        if when is None:
            raise TypeError("call_at() needs the time to call at, got None")
        return self._schedule(when, callback, args, context)

    def call_later(  # type: ignore[override]  # as above
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args, **kwargs)` after `delay` seconds; see `call_at`."""
        if context is None and _entered():
            callback = wrap(callback)
        if kwargs:
            callback = partial(callback, **kwargs)
        if delay is None:
            raise TypeError("call_later() needs a delay in seconds, got None")
        return self._schedule(self.time() + delay, callback, args, context)

    def add_timeout(
        self, deadline: float | datetime.timedelta, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """Call `callback` at `deadline`: the loop's time in seconds, or a timedelta from now.

        Tornado's clock is `time.time`, so its programs say `add_timeout(time.time() + 5, ...)`. That is understood: a
        time more than `FAR_AHEAD` of the loop's is one of that clock.

        :returns: a handle for `remove_timeout`. It is not safe to call this from another thread.
        """
        if isinstance(deadline, datetime.timedelta):
            when = self.time() + deadline.total_seconds()
        elif isinstance(deadline, (int, float)):
            when = deadline
            if when - (now := self.time()) > FAR_AHEAD:
                when += now - time.time()
        else:
            raise TypeError(f"add_timeout: the deadline is a number of seconds or a timedelta, got {deadline!r}")
        if kwargs:
            callback = partial(callback, **kwargs)
        # With a context: what goes through the stack contexts is what `callback` raises, before it is logged.
        return self.call_at(when, self._run_callback, wrap(callback), *args, context=copy_context())

    def remove_timeout(self, timeout: asyncio.TimerHandle) -> None:
        """Cancel a timeout; one that has run or was cancelled already is left as it is."""
        timeout.cancel()

    # Descriptors

    def add_handler(self, fd: FileDescriptorLike, handler: Callable[[Any, int], Any], events: int) -> None:
        """Call `handler(fd, events)` whenever one of `events` (READ | WRITE; ERROR is implied) happens on `fd`.

        :param fd: a number or an object with `fileno()`; the handler gets what was given here.
        :raises ValueError: `fd` has a handler already.
        :raises pollux.errors.FdLimitError: the poller cannot watch a number this high (select).
        """
        number, owner = self.split_fd(fd)
        if number in self._entries:
            raise ValueError(f"fd {number} has a handler already: use update_handler() or remove_handler()")
        entry = self._watch(number, events)
        entry.owner = owner
        entry.context = copy_context()
        entry.handler = wrap(handler)

    def update_handler(self, fd: FileDescriptorLike, events: int) -> None:
        """Replace the events that `fd`'s handler is called for.

        :raises KeyError: `fd` has no handler.
        """
        number, _ = self.split_fd(fd)
        entry = self._entries[number]
        if entry.handler is None:  # asyncio's, by add_reader or add_writer
            raise KeyError(number)
        self._rewatch(number, entry, events)

    def remove_handler(self, fd: FileDescriptorLike) -> None:
        """Stop watching `fd`; do this before closing it. An unknown `fd` is ignored."""
        number, _ = self.split_fd(fd)
        entry = self._entries.get(number)
        if entry is not None and entry.handler is not None:
            self._unwatch(number)

    @staticmethod
    def split_fd(fd: FileDescriptorLike) -> tuple[int, FileDescriptorLike]:
        """Return `fd`'s number, and `fd`."""
        return (fd, fd) if isinstance(fd, int) else (fd.fileno(), fd)

    @staticmethod
    def close_fd(fd: Any) -> None:
        """Close a number or an object; one that is closed already is ignored."""
        try:
            os.close(fd) if isinstance(fd, int) else fd.close()
        except OSError:
            pass

    # Executors (`run_in_executor` is asyncio's)

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Set the executor of `run_in_executor(None, ...)`."""
        super().set_default_executor(executor)  # type: ignore[arg-type]  # asyncio says which it takes


def __getattr__(name: str) -> Any:
    """Find `PeriodicCallback` where Tornado has it; it lives in `pollux.periodic`, which imports this module."""
    if name == "PeriodicCallback":
        from pollux.periodic import PeriodicCallback

        return PeriodicCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
