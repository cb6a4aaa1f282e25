"""The heart of the loop: callbacks, timeouts, poll, events. And the one file that knows asyncio's private names.

What the outside world fixes
----------------------------
* `asyncio.SelectorEventLoop` does the plumbing (transports, TLS, subprocesses, DNS, signals) well and changes
  little. It reaches its queue, its timers and its selector through a handful of underscored names. All of them
  stand in `ASYNCIO_PRIVATE_NAMES`, no other file may touch one, and a test fails loudly when a Python release moves
  one.
* The C `asyncio.Task` and `Future` call only `call_soon`, `get_debug` and `call_exception_handler` of a loop.

What follows, and what was decided
----------------------------------
* The queue holds two kinds of entries: asyncio's `Handle`, and plain `(callback, args, context)` tuples for the
  callbacks that nobody can cancel (Tornado's `add_callback`). A tuple costs a third of a Handle.
* Handles are pooled. Nearly every caller drops the Handle it gets, so after the callback ran the loop holds the only
  reference, which `sys.getrefcount` proves; such a Handle is emptied and used again. (Rejected: a Handle class of
  our own in place of asyncio's. Programs may test for `asyncio.Handle`, and a pooled real one is faster than a new
  slim one.)
* Timers are a heap of `(when, number, TimerHandle)`: tuples compare in C, where TimerHandle would call `__lt__` in
  Python. Most timers never fire (they guard against something slow), so a new one waits in a plain list until the
  loop is about to poll, and one cancelled by then never touches the heap; cancelled ones further down are dropped
  lazily and compacted when they are more than half.
* Events go straight from the poller's list to the handler: no Handle per event, no selector keys.
* While callbacks are waiting the poll does not block, but asking the kernel still costs more than a callback. A
  chain of callbacks is therefore polled for at most every `POLL_INTERVAL` seconds: that is the longest time a ready
  descriptor waits for callbacks to let it in, on top of the callback that is running.
* Another thread wakes the loop through a socket pair, and only if the loop is asleep or about to sleep: `_asleep`
  is set *before* the queue is looked at for the last time and the other thread appends *before* it reads `_asleep`,
  so one of the two always sees the other. A batch of cross-thread callbacks costs one write.

Longer than 500 lines, because all that touches asyncio's private names stands in one file.
"""
# typeshed does not know asyncio's private names, which are this file's business; a test checks them instead.
# mypy: disable-error-code="attr-defined, has-type"

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from asyncio.log import logger
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from heapq import heapify, heappop, heappush
from sys import exception, getrefcount
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from pollux.fdtable import FdEntry, SelectorView, number_of
from pollux.forking import ForkedPoller, follow
from pollux.poller import LONGEST_WAIT, READ, WRITE
from pollux.stack_context import entered, wrap
from pollux.statistics import LoopStatistics, Tally
from pollux.transport import SocketTransport

if TYPE_CHECKING:
    import socket

    from _typeshed import FileDescriptorLike

    from pollux.poller import Poller

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

POLL_INTERVAL = 50e-6  # seconds: about the cost of a hundred callbacks, far below any network's jitter
MOST_SKIPPED = 1000  # iterations without a poll: under a clock that stands still (a virtual one), too, polls go on
HANDLE_POOL_SIZE = 1024  # 100 KiB at most: the callbacks of one busy iteration; a burst beyond goes back to malloc
COMPACT_ABOVE = 100  # cancelled timers: below this many, sweeping costs more than the memory they hold

# Every private name of asyncio that this file uses or overrides, by owner.
ASYNCIO_PRIVATE_NAMES: dict[Any, frozenset[str]] = {
    asyncio.SelectorEventLoop: frozenset({
        "_add_callback", "_add_reader", "_add_writer", "_asyncgen_finalizer_hook", "_asyncgen_firstiter_hook",
        "_check_callback", "_check_closed", "_check_running", "_check_thread", "_make_socket_transport",
        "_remove_reader", "_remove_writer", "_run_once", "_timer_handle_cancelled", "_write_to_self",
    }),
    asyncio.Handle: frozenset({
        "_args", "_callback", "_cancelled", "_context", "_loop", "_run", "_source_traceback",
    }),
    asyncio.TimerHandle: frozenset({"_scheduled", "_when"}),
    asyncio.events: frozenset({"_event_loop_policy"}),
}  # fmt: skip
ASYNCIO_PRIVATE_STATE = frozenset({
    "_closed", "_csock", "_current_handle", "_debug", "_ready", "_scheduled", "_signal_handlers", "_ssock",
    "_stopping", "_task_factory", "_thread_id", "_timer_cancelled_count",
})  # fmt: skip

_entered = entered.get
_EMPTY = Context()

Entry = tuple[Callable[..., Any], tuple[Any, ...], Context]


def _references_of_a_local() -> int:
    """What `getrefcount` says of an object that only one local variable holds (2 so far; newer Pythons may say 1)."""
    thing = object()
    return getrefcount(thing)


_UNSHARED = _references_of_a_local()


def told_to_asyncio() -> asyncio.AbstractEventLoop | None:
    """Return what `asyncio.set_event_loop` was last called with in this thread.

    `asyncio.get_event_loop` would make a loop of asyncio's if it never was. None if it never was, and if a policy of
    the program's own keeps it elsewhere than asyncio's.
    """
    return getattr(getattr(asyncio.events._event_loop_policy, "_local", None), "_loop", None)


class Timer(asyncio.TimerHandle):
    """A TimerHandle whose `cancel` is one call deep."""

    __slots__ = ()
    _loop: Heart
    _args: Any  # None once cancelled
    _callback: Any

    def cancel(self) -> None:
        """See `asyncio.Handle.cancel`."""
        if not self._cancelled:
            if self._source_traceback is not None:  # debug mode keeps a description
                return super().cancel()
            if self._scheduled:
                self._loop._timer_cancelled_count += 1
            self._cancelled = True
            self._callback = self._args = None
        return None


class Heart(asyncio.SelectorEventLoop):
    """An asyncio event loop over a `Poller`. `pollux.IOLoop` adds Tornado's names."""

    _closed = True  # until __init__ is through: __del__ must not complain about a loop that never was
    _ready: deque[Any]  # of asyncio.Handle | Entry; Any, because telling them apart by hand is what makes step 1 fast
    _scheduled: list[tuple[float, int, Timer]]
    _ssock: Any
    _csock: Any

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        follow(self)
        self._entries: dict[int, FdEntry] = {}
        self._registered_since_poll: set[int] = set()
        self._asleep = False
        self._tasks: set[asyncio.Task[Any]] = set()  # started by the loop itself: asyncio holds tasks weakly
        self._free: Any = None  # handles to use again, chained by their _callback
        self._timer_pool: list[Timer] = []
        self._new_timers: list[Timer] = []
        self._timer_number = 0
        self._tally = Tally()
        self._stop_called = False
        super().__init__(SelectorView(poller, self._entries))
        if type(self).time is asyncio.SelectorEventLoop.time:  # not a virtual clock: spare a call for each look at it
            self.time = time.monotonic  # type: ignore[method-assign]

    @property
    def poller(self) -> Poller:
        """What tells the loop which descriptors are ready."""
        return self._poller

    # The four steps

    def _run_once(self) -> None:
        """Run iterations until `stop`. (asyncio calls this once for each iteration; staying here keeps the names
        local.)

        Only callbacks that are present at the start of an iteration run in it.
        """
        ready = self._ready
        entries = self._entries
        fresh = self._registered_since_poll
        monotonic = self.time
        references, unshared = getrefcount, _UNSHARED
        tally = self._tally
        polls = tally.polls
        unpolled = ran = handled = 0  # since they were last counted: iterations without a poll, callbacks, events
        callbacks = 0  # those that are not yet in `ran`
        skipped = 0  # iterations since the last poll
        sampling = False  # from this poll to the next, the steps are timed
        clocked = tally.unsure > 0  # the clock is looked at before each poll
        timed = tally.suspicious > 0  # each callback is timed: one was slow, but which?
        look_again = last_poll = due_time = 0.0
        now = polled = mark = monotonic()  # when the last poll returned, and when step 4 ended

        while True:
            # 1. Callbacks.
            left = count = len(ready)
            if count:
                callbacks += count
                if timed or self._debug:
                    self._run_callbacks_timed(count)
                else:
                    while left:  # a range and its iterator would cost a quarter of a chain
                        left -= 1
                        entry = ready.popleft()
                        if type(entry) is tuple:
                            callback, args, context = entry
                            try:
                                result = context.run(callback, *args) if args else context.run(callback)
                                if result is not None:
                                    context.run(self._callback_returned, callback, result)
                            except (SystemExit, KeyboardInterrupt):
                                raise
                            except BaseException:
                                self.handle_callback_exception(callback)
                        else:
                            try:
                                args = entry._args
                                if not args:
                                    if args is not None:  # None: it was cancelled
                                        entry._context.run(entry._callback)
                                elif len(args) == 1:  # as tasks are woken; to unpack a tuple costs more than to ask
                                    entry._context.run(entry._callback, args[0])
                                else:
                                    entry._context.run(entry._callback, *args)
                            except (SystemExit, KeyboardInterrupt):
                                raise
                            except BaseException as error:
                                self._handle_failed(entry, error)
                            if references(entry) == unshared:  # nobody but us knows this handle: use it again
                                entry._callback = self._free
                                entry._args = entry._context = None
                                entry._cancelled = False
                                self._free = entry
                    if count > HANDLE_POOL_SIZE:
                        self._free = None  # a burst has passed: its handles go back to malloc

            # 2. Timeouts that were due when step 3 looked at the clock: callbacks that were queued before a timeout
            # came due run before it.
            if self._new_timers:
                self._admit_timers()
            timers = self._scheduled
            if timers and timers[0][0] <= now:
                if sampling:
                    due_time -= monotonic()
                    self._run_due(timers, now)
                    due_time += monotonic()
                else:
                    self._run_due(timers, now)
                timers = self._scheduled

            # 3. Poll.
            # With callbacks waiting, without waiting, and not at all if the kernel was asked a moment ago. Else so as
            # to be back for the next timeout; without limit, if there is none.
            timeout: float | None
            if ready:
                now = monotonic()
                if now - last_poll < POLL_INTERVAL and skipped < MOST_SKIPPED and not self._stopping:
                    skipped += 1
                    continue
                timeout = 0.0
            else:
                entry = callback = args = context = result = None  # an idle loop keeps nothing alive
                self._asleep = True
                if ready or self._stopping:  # another thread came in between
                    now = monotonic()
                    timeout = 0.0
                elif timers:
                    now = monotonic()
                    timeout = min(max(0.0, timers[0][0] - now), LONGEST_WAIT)
                else:
                    timeout = None
                    now = monotonic() if clocked else polled
            if fresh:
                fresh.clear()
            events_list = self._poller.poll(timeout)
            self._asleep = False
            polls += 1
            if skipped:
                unpolled += skipped
                ran += callbacks
                skipped = callbacks = 0  # while they are small they cost less to count
            awake = monotonic()
            tally.awake = awake
            if awake > look_again:
                tally.count(polls, unpolled, ran + callbacks, handled)
                unpolled = ran = callbacks = handled = 0
                tally.look(polled, mark, due_time, now, awake)
                sampling, timed, look_again = tally.sampling, tally.suspicious > 0, tally.look_again
                clocked = sampling or tally.unsure > 0
                due_time = 0.0
                self._free = None  # handles made for other threads join the chain but are never taken from it
            now = last_poll = polled = mark = awake

            # 4. Events.
            debug = self._debug
            for fd, events in events_list:
                try:
                    watched = entries[fd]
                except KeyError:
                    continue  # closed by a handler of this very list
                if fd in fresh:
                    continue  # closed and opened again by one: not its event
                handler = watched.handler
                if handler is None:
                    reader = watched.reader
                    if events != READ or reader is None or reader._cancelled or debug:
                        self._dispatch_asyncio(watched, events)
                        continue
                    handler = reader._callback
                    try:
                        args = reader._args
                        if args:
                            reader._context.run(handler, *args)
                        else:
                            reader._context.run(handler)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self._handle_failed(reader, error)
                else:
                    try:
                        watched.context.run(handler, watched.owner, events)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException:
                        self.handle_callback_exception(handler)
                if timed:
                    began, mark = mark, monotonic()
                    tally.ran(handler, mark - began)
            watched = handler = reader = args = None  # type: ignore[assignment]  # as in step 1
            handled += len(events_list)
            if sampling:
                mark = monotonic()

            if self._stopping:
                tally.count(polls, unpolled, ran + callbacks, handled)
                tally.is_suspicious(monotonic() - polled)
                return

    def _run_callbacks_timed(self, count: int) -> None:
        """Step 1 in debug mode, and after a slow iteration: each callback is timed."""
        self._free = None  # handles left by the iteration that switched debug mode on
        self._timer_pool.clear()
        for _ in range(count):
            entry = self._ready.popleft()
            if type(entry) is tuple:
                callback, args, context = entry
                entry = asyncio.Handle(self._run_callback, (callback, *args), self, context)
            if not entry._cancelled:
                self._run_timed(entry)
        entry = None  # as in _run_due

    def _run_callback(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback` as Tornado does: run what it returns if that is awaitable, log what it raises."""
        try:
            result = callback(*args)
            if result is not None:
                self._callback_returned(callback, result)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            self.handle_callback_exception(callback)

    def _run_due(self, timers: list[tuple[float, int, Timer]], now: float) -> None:
        """Run the timeouts that are due by `now`; those they add are new timers, and wait for the next iteration."""
        pool = self._timer_pool
        tally = self._tally
        timed = self._debug or tally.suspicious
        count = 0
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            count += 1
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            elif timed:
                self._run_timed(timer)
                continue
            else:
                try:
                    args = timer._args
                    if not args:
                        timer._context.run(timer._callback)
                    elif len(args) == 1:
                        timer._context.run(timer._callback, args[0])
                    else:
                        timer._context.run(timer._callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._handle_failed(timer, error)
            if getrefcount(timer) == _UNSHARED and len(pool) < HANDLE_POOL_SIZE:
                timer._callback = timer._args = timer._context = None
                pool.append(timer)
        timer = args = None  # type: ignore[assignment]  # an exception that is kept also keeps this frame, by its traceback: it must not keep the handle
        if self._new_timers:
            self._admit_timers()
        tally.timeouts += count

    def _dispatch_asyncio(self, watched: FdEntry, events: int) -> None:
        """Call asyncio's reader and writer; an error or a hang-up wakes both, as asyncio has it."""
        reader, writer = watched.reader, watched.writer
        timed = self._debug or self._tally.suspicious
        if events & ~WRITE and reader is not None and not reader._cancelled:
            self._run_timed(reader) if timed else reader._run()
        if events & ~READ and writer is not None and not writer._cancelled:
            self._run_timed(writer) if timed else writer._run()
        del watched, reader, writer  # as in _run_due

    def _run_timed(self, handle: asyncio.Handle) -> None:
        """Run a handle and note how long it took; in debug mode, name it while it runs and report it if it was slow."""
        callback = handle._callback
        if getattr(callback, "__func__", None) is Heart._run_callback:
            callback = handle._args[0]
        self._current_handle: asyncio.Handle | None = handle if self._debug else None
        started = self.time()
        try:
            handle._run()
        finally:
            self._current_handle = None
        took = self.time() - started
        self._tally.ran(callback, took)
        if self._debug and took >= self.slow_callback_duration:
            logger.warning("Executing %s took %.3f seconds", _describe(handle), took)
        del handle, callback  # as in _run_due

    def _handle_failed(self, handle: asyncio.Handle, error: BaseException) -> None:
        """Report a raising callback, in asyncio's form."""
        context = {"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle}
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _callback_returned(self, callback: Callable[..., Any], result: Any) -> None:
        """A callback of `add_callback` returned something. `IOLoop` runs it if it is awaitable."""

    def handle_callback_exception(self, callback: Callable[..., Any] | None) -> None:
        """Log the exception being handled; the loop lives. A subclass may override this to do otherwise."""
        self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": exception()})

    # Callbacks

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon`."""
        handle = self._free
        if (
            handle is None
        ):  # also whenever the loop is closed or in debug mode: the checks cost the other branch nothing
            return self._call_soon_checked(callback, args, context)
        self._free = handle._callback
        handle._callback = callback
        handle._args = args
        handle._context = copy_context() if context is None else context
        self._ready.append(handle)
        return handle  # type: ignore[no-any-return]

    def _call_soon_checked(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.Handle:
        self._check_closed()
        if self._debug:
            self._check_thread()
            self._check_callback(callback, "call_soon")
        handle = asyncio.Handle(callback, args, self, context)
        if handle._source_traceback:
            del handle._source_traceback[-2:]  # the caller is of interest, not this file
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon_threadsafe`. Wakes the loop only if it sleeps."""
        self._check_closed()
        if self._debug:
            self._check_callback(callback, "call_soon_threadsafe")
        handle = asyncio.Handle(callback, args, self, context)
        if handle._source_traceback:
            del handle._source_traceback[-1]
        self._ready.append(handle)
        if self._asleep:
            self._write_to_self()
        return handle

    def create_task(  # type: ignore[override]  # the keywords that later Pythons know are passed on
        self, coro: Coroutine[Any, Any, _T], *, name: str | None = None, context: Context | None = None, **kwargs: Any
    ) -> asyncio.Task[_T]:
        """See `asyncio.loop.create_task`."""
        if kwargs or self._task_factory is not None or self._debug or self._closed:
            return super().create_task(coro, name=name, context=context, **kwargs)
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def start_task(self, coro: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Make a task and run its first step now, not in the next iteration; the loop keeps it alive until it is done.

        Python 3.12 can do so by itself (`eager_start`). Before, the step is taken out of the queue it was just put in;
        inside another task that is not possible, and it stays there.
        """
        if sys.version_info >= (3, 12) and self._task_factory is None:
            task = asyncio.Task(coro, loop=self, eager_start=True)
        else:
            step = self._free
            if step is None and not (self._debug or self._closed):
                self._free = step = asyncio.Handle(None, None, self, _EMPTY)  # type: ignore[arg-type]  # for the pool
            task = asyncio.Task(coro, loop=self) if self._task_factory is None else self.create_task(coro)
            if asyncio.current_task(self) is None:
                ready = self._ready
                if step is not None and ready and ready[-1] is step:  # the usual case, without what a Handle adds
                    ready.pop()
                    callback, context = step._callback, step._context
                    step._callback = self._free
                    step._args = step._context = None
                    self._free = step
                    context.run(callback)
                else:
                    self._run_first_step(task)
        if not task.done():
            self.hold(task)
        return task

    def _run_first_step(self, task: asyncio.Task[Any]) -> None:
        ready = self._ready
        for place in range(len(ready) - 1, -1, -1):  # the last one, unless another thread came in between
            step = ready[place]
            if type(step) is not tuple and getattr(step._callback, "__self__", None) is task:
                del ready[place]
                step._run()
                break

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep a task alive until it is done, for those who start one and drop it: asyncio holds tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def add_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `callback(*args, **kwargs)` in the next iteration. Safe from any thread and from signal handlers.

        If it returns an awaitable, the loop runs that too. On a closed loop nothing happens, as in Tornado.
        """
        if kwargs:
            callback = partial(callback, **kwargs)
        if _entered():
            callback = wrap(callback)
        if not self._closed:
            self._ready.append((callback, args, copy_context()))
            if self._asleep:
                self._write_to_self()

    def _add_callback(self, handle: asyncio.Handle) -> None:
        if not handle._cancelled:
            self._ready.append(handle)

    # Timers

    def call_at(  # type: ignore[override]  # Tornado's callbacks take keywords
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args, **kwargs)` at the loop's time `when` (seconds, the clock of `time()`).

        The keyword arguments are Tornado's; `context` is asyncio's.
        """
        if when is None:
            raise TypeError("call_at() needs the time to call at, got None")
        if kwargs:
            callback = partial(callback, **kwargs)
        return self._schedule(when, callback, args, context)

    def _schedule(
        self, when: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> Timer:
        pool = self._timer_pool
        if pool:
            timer = pool.pop()
            timer._callback = callback
            timer._args = args
            timer._context = copy_context() if context is None else context
            timer._when = when
            timer._cancelled = False
        else:
            self._check_closed()
            if self._debug:
                self._check_thread()
                self._check_callback(callback, "call_at")
            timer = Timer(when, callback, args, self, context)
            if timer._source_traceback:
                del timer._source_traceback[-2:]
        timer._scheduled = True
        self._new_timers.append(timer)
        return timer

    def call_later(  # type: ignore[override]  # as above
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.TimerHandle:
        """Call `callback(*args, **kwargs)` after `delay` seconds."""
        if delay is None:
            raise TypeError("call_later() needs a delay in seconds, got None")
        if kwargs:
            callback = partial(callback, **kwargs)
        pool = self._timer_pool
        if not pool:
            return self._schedule(self.time() + delay, callback, args, context)
        timer = pool.pop()  # as in _schedule, but a call less: it is a tenth of what a timeout costs
        timer._callback = callback
        timer._args = args
        timer._context = copy_context() if context is None else context
        timer._when = self.time() + delay
        timer._cancelled = False
        timer._scheduled = True
        self._new_timers.append(timer)
        return timer

    def _admit_timers(self) -> None:
        """Move the new timers that are still wanted into the heap, and drop what was cancelled."""
        timers = self._scheduled
        pool = self._timer_pool
        number = self._timer_number
        if self._debug:
            pool = []  # none is used again: a new one is checked
        for timer in self._new_timers:
            if timer._cancelled:
                timer._scheduled = False
                self._timer_cancelled_count -= 1
                if getrefcount(timer) == _UNSHARED + 1 and len(pool) < HANDLE_POOL_SIZE:  # 1: the list's
                    pool.append(timer)
            else:
                number += 1
                heappush(timers, (timer._when, number, timer))
        self._timer_number = number
        self._new_timers.clear()
        if self._timer_cancelled_count > max(COMPACT_ABOVE, len(timers) // 2):
            self._scheduled = [item for item in timers if not item[2]._cancelled]
            heapify(self._scheduled)
            self._timer_cancelled_count = 0

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:
            self._timer_cancelled_count += 1

    def set_debug(self, enabled: bool) -> None:
        """See `asyncio.loop.set_debug`."""
        self._free = None
        self._timer_pool.clear()
        super().set_debug(enabled)
        if type(self).get_debug is asyncio.SelectorEventLoop.get_debug:
            # Each new future and task asks: a method in C that returns the answer spares it a call of one in Python.
            self.get_debug = bool(enabled).__bool__  # type: ignore[method-assign]

    def close(self) -> None:
        """Close the loop and its poller. Callbacks that have not run are dropped."""
        if not self.is_running():
            self._free = None
            self._timer_pool.clear()
            self._new_timers.clear()
        super().close()

    # Descriptors

    def _watch(self, fd: int, events: int) -> FdEntry:
        """Register `fd` with the poller and return its new entry."""
        self._poller.register(fd, events)
        self._registered_since_poll.add(fd)
        entry = self._entries[fd] = FdEntry(events)
        return entry

    def _rewatch(self, fd: int, entry: FdEntry, events: int) -> None:
        if events != entry.events:
            self._poller.modify(fd, events)
            entry.events = events

    def _unwatch(self, fd: int) -> None:
        del self._entries[fd]
        self._registered_since_poll.discard(fd)
        self._poller.unregister(fd)

    def disown(self) -> None:
        """This process is a forked child: the poll set is its parent's. Called by `pollux.forking`."""
        if not self._closed:
            self._poller = ForkedPoller(self._poller)

    def __del__(self) -> None:
        if not self._closed and isinstance(self._poller, ForkedPoller) and not self.is_running():
            self.close()  # without a warning: the loop was its parent's to close
        else:
            super().__del__()

    def add_reader(self, fd: FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """See `asyncio.loop.add_reader`."""
        super().add_reader(number_of(fd), callback, *args)

    def add_writer(self, fd: FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """See `asyncio.loop.add_writer`."""
        super().add_writer(number_of(fd), callback, *args)

    def remove_reader(self, fd: FileDescriptorLike) -> bool:
        """See `asyncio.loop.remove_reader`."""
        return super().remove_reader(number_of(fd))

    def remove_writer(self, fd: FileDescriptorLike) -> bool:
        """See `asyncio.loop.remove_writer`."""
        return super().remove_writer(number_of(fd))

    def _add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, None)
        entry = self._watch_also(fd, READ)
        if entry.reader is not None:
            entry.reader.cancel()
        entry.reader = handle
        return handle

    def _add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, None)
        entry = self._watch_also(fd, WRITE)
        if entry.writer is not None:
            entry.writer.cancel()
        entry.writer = handle
        return handle

    def _watch_also(self, fd: int, event: int) -> FdEntry:
        """Watch `fd` for `event` besides what it is watched for already, and return its entry."""
        entry = self._entries.get(fd)
        if entry is None:
            return self._watch(fd, event)
        if entry.handler is not None:
            raise ValueError(f"fd {fd} has a handler already: remove_handler() it before add_reader() or add_writer()")
        if entry.events & event:
            self._poller.modify(fd, entry.events)  # the number may have been reused: arm its new owner
        else:
            self._rewatch(fd, entry, entry.events | event)
        return entry

    def _remove_reader(self, fd: int) -> bool:
        entry = self._entries.get(fd)
        if self._closed or entry is None or entry.reader is None:
            return False
        entry.reader.cancel()
        entry.reader = None
        self._forget(fd, entry, READ)
        return True

    def _remove_writer(self, fd: int) -> bool:
        entry = self._entries.get(fd)
        if self._closed or entry is None or entry.writer is None:
            return False
        entry.writer.cancel()
        entry.writer = None
        self._forget(fd, entry, WRITE)
        return True

    def _forget(self, fd: int, entry: FdEntry, event: int) -> None:
        if entry.events & ~event:
            self._rewatch(fd, entry, entry.events & ~event)
        else:
            self._unwatch(fd)

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
    ) -> SocketTransport:
        return SocketTransport(self, sock, protocol, waiter, extra, server)

    # What it says of itself

    def statistics(self) -> LoopStatistics:
        """Return counts, times and lag so far; see `pollux.statistics`. Call it from any thread."""
        return self._tally.snapshot(len(self._ready), len(self._scheduled) + len(self._new_timers), len(self._entries))

    def busy_since(self) -> tuple[int | None, float]:
        """Return the thread that runs the loop, None if it sleeps or does not run, and the loop's time when the last
        poll returned.

        For `pollux.watchdog`, from its own thread.
        """
        return None if self._asleep else self._thread_id, self._tally.awake

    # As a guest of another loop (`pollux.guest`)

    def enter_host(self) -> None:
        """From now on a host calls `turn`. Callbacks and timers made between two turns wake the host."""
        self._check_closed()
        self._stop_called = False
        self._thread_id: int | None = threading.get_ident()
        self._asleep = True

        def waking(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                handle = method(*args, **kwargs)
                if self._asleep:
                    self._write_to_self()
                return handle

            return call

        # On the instance, so that a loop that is nobody's guest does not pay for the question.
        for name in ("call_soon", "call_at", "call_later"):
            setattr(self, name, waking(getattr(self, name)))

    def leave_host(self) -> None:
        """The host calls `turn` no more."""
        self._thread_id = None
        self._asleep = False
        for name in ("call_soon", "call_at", "call_later"):
            delattr(self, name)

    def turn(self) -> tuple[float | None, bool]:
        """Run one iteration without waiting.

        :returns: the seconds until the next turn is due, None if only a descriptor can bring it; and whether `stop` was
            called.
        """
        outer_loop = asyncio._get_running_loop()
        outer_hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        asyncio._set_running_loop(self)
        self._stopping = True  # makes it one iteration, and the poll not wait
        try:
            self._run_once()
        finally:
            self._stopping = False
            asyncio._set_running_loop(outer_loop)
            sys.set_asyncgen_hooks(*outer_hooks)
        stopped, self._stop_called = self._stop_called, False
        self._asleep = True
        if self._new_timers:
            self._admit_timers()
        if self._ready:
            self._asleep = False
            return 0.0, stopped
        if self._scheduled:
            return min(max(0.0, self._scheduled[0][0] - self.time()), LONGEST_WAIT), stopped
        return None, stopped

    def stop(self) -> None:
        """Stop after this iteration."""
        self._stop_called = True
        super().stop()
        if self._asleep:  # a guest, stopped by its host's code
            self._write_to_self()

    # Waking up

    def _write_to_self(self) -> None:
        """Wake the loop if it sleeps. Called from any thread, and while the loop is being closed."""
        self._asleep = False  # whoever comes next need not write again
        waker = self._csock
        if waker is not None:
            try:
                waker.send(b"\0")
            except OSError:
                pass  # full: the loop has a wake-up waiting; closed: there is nobody to wake

    def run_forever(self) -> None:
        """Run until `stop()` is called."""
        if isinstance(self._poller, ForkedPoller):
            self._poller.refuse()
        self._check_closed()
        self._check_running()  # here, because 3.13.0 forgets that the outer loop runs when it refuses an inner one
        hearing = self._hear_signals()
        try:
            super().run_forever()
        finally:
            if hearing and not self._signal_handlers:
                signal.set_wakeup_fd(-1)

    def _hear_signals(self) -> bool:
        """Let signals wake the loop, if it is in the main thread and nobody else has asked for that.

        Otherwise one that arrives just before the system call of `poll` is heard only when something else ends the
        wait: Python calls the handler in this thread, and this thread sleeps.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        if before in (-1, self._csock.fileno()):
            return True
        signal.set_wakeup_fd(before)
        return False


def _describe(handle: asyncio.Handle) -> str:
    """Name what a handle runs: the task, if it is a step of one."""
    owner = getattr(handle._callback, "__self__", None)
    return repr(owner) if isinstance(owner, asyncio.Task) else repr(handle)
