"""`Runner`: drives one generator from one wait to the next.

What was decided, because coroutines are cheap only if this is:

* The runner *is* the future that the coroutine returns. So a suspended coroutine is one object besides its generator
  and its context, and whoever waits for it keeps it alive. A coroutine that ends before it waits never has a runner.
* Its one bound method `_step` is the callback of whatever it waits for. What is done already is consumed in the same
  step, without the loop.
* The generator runs in its own `contextvars.Context`, a copy of its caller's, as Tornado 6 has it.
* An exception is stored without the traceback entry of our own frame, and frames that its traceback reaches otherwise
  forget `self`: there is no cycle. It is freed, and reported if nobody asked for it, when the last reference goes.

Cancelling the future does not stop the generator, as in Tornado: nobody gets its result then.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections.abc import Callable, Generator
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pollux.gen.convert import convert_yielded, failed_future, moment, without_our_frame
from pollux.gen.errors import LeakedCallbackError, Return
from pollux.gen.keys import Keys
from pollux.gen.points import has_points
from pollux.log import app_log
from pollux.stack_context import ExceptionStackContext, StackContextInconsistentError, entered, still_active, wrap

if TYPE_CHECKING:
    from pollux.ioloop import IOLoop


class Runner(asyncio.Future[Any]):
    """The future of a generator that is under way. Made by `coroutine` and `engine`.

    :param context: what the generator runs in.
    """

    __slots__ = ("_context", "_entered", "_generator", "_keys", "_resume", "_waiting")

    def __init__(self, generator: Generator[Any, Any, Any] | None, context: Context, loop: IOLoop) -> None:
        super().__init__(loop=loop)
        self._generator = generator
        self._context: Context | None = context
        self._entered = entered.get()  # the stack contexts that belong to the generator
        self._keys: Keys | None = None
        self._waiting: Any = None  # for what
        self._resume: Callable[[Any], None] | None = None  # what goes on; None while the generator runs, or must

    def start(self, generator: Generator[Any, Any, Any]) -> None:
        """Run a generator from its beginning. Called in its context."""
        self._generator = generator
        self._waiting = moment  # whose result, None, is what a generator begins with
        self._step(moment)

    def take(self, yielded: Any) -> None:
        """Go on with what the generator has yielded first. Called in its context."""
        future = yielded if type(yielded) is Future else self._convert(yielded)
        if future.done() or (future := self._wait_for(future)) is not None:
            self._waiting = future
            self._step(future)
        del self, future, yielded  # see _step

    def _step(self, future: Any) -> None:
        """`future` is done: run the generator until it waits for something that is not.

        An exception's traceback keeps the frame of the generator, which keeps ours, and those of our callers, as its
        `f_back`. So none of these may be left with a variable that leads to the exception.
        """
        generator = self._generator
        if future is not self._waiting or generator is None:
            return  # an exception has come before it, see handle_exception
        self._waiting = self._resume = None
        while True:
            failure: BaseException | None = None
            try:
                value = future.result()
            except BaseException as error:
                failure = without_our_frame(error)
            future = yielded = None
            # Not inside the `except`: the generator's own sys.exception() must not show this one.
            try:
                if failure is None:
                    yielded = generator.send(value)
                else:
                    if self._keys is not None:
                        self._keys.faulted = True
                    yielded = generator.throw(failure)
            except (StopIteration, Return) as stop:
                self._finish(stop.value)
                failure = None
                return
            except BaseException as error:
                self._fail(without_our_frame(error))
                del self, failure
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                return
            cls = type(yielded)
            future = yielded if cls is Future or cls is Runner or cls is Task else self._convert(yielded)
            if not future.done() and (future := self._wait_for(future)) is None:
                return

    def _wait_for(self, future: Any) -> asyncio.Future[Any] | None:
        """Suspend the generator. What surrounds it, if anything does, surrounds its next step.

        :returns: None; a future that has failed if the generator must not be suspended here.
        """
        found = entered.get()
        if found is not self._entered:
            if still_active(found or ()) != still_active(self._entered or ()):
                return self._failed(
                    StackContextInconsistentError(
                        f"yielded {future!r} inside a `with StackContext` block, which would stay entered while others "
                        "run: yield run_with_stack_context(context, function) instead"
                    )
                )
            self._entered = found
        self._waiting = future
        self._resume = resume = self._step if found is None else wrap(self._step)
        future.add_done_callback(resume, context=self._context)
        return None

    def _failed(self, error: BaseException) -> asyncio.Future[Any]:
        return failed_future(error, self.get_loop())  # type: ignore[arg-type]  # coroutine and engine gave an IOLoop

    def _convert(self, yielded: Any) -> Any:
        """Return what to wait for; a future that has failed if there is no such thing."""
        if yielded is None:
            return moment
        try:
            return self.keys().convert(yielded) if has_points(yielded) else convert_yielded(yielded)
        except Exception as error:
            if self._keys is not None:
                self._keys.abandon()
            loop = self.get_loop()
            del self  # as in _step
            return failed_future(without_our_frame(error), loop)  # type: ignore[arg-type]  # an IOLoop, as in keys

    def keys(self) -> Keys:
        """Return the keys of the generator. With them begins the stack context that throws into it what its callbacks
        raise. Called in its context.
        """
        if self._keys is None:
            self._keys = Keys(self.get_loop())  # type: ignore[arg-type]  # as above
            self._keys.guard = guard = ExceptionStackContext(self.handle_exception)
            # Entered for good, and therefore not by `with`: the generator's own context ends with it.
            self._entered = (*(entered.get() or ()), guard)
            entered.set(self._entered)
        return self._keys

    def handle_exception(
        self, _kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
    ) -> bool:
        """Have a callback's exception thrown into the generator, where it waits.

        :returns: whether that is possible: not if the generator runs, or has ended, or if another exception has come
            first. Nor is it for what is no `Exception`: those end programs, not waits.
        """
        if self._resume is None or not isinstance(error, Exception):
            return False
        if self._keys is not None:
            self._keys.abandon()
        self._waiting = self._failed(error)
        self._waiting.add_done_callback(self._resume, context=self._context)
        self._resume = None
        return True

    def _finish(self, value: Any) -> None:
        keys = self._keys
        self._generator = self._context = self._keys = self._entered = None
        if keys is not None and (complaint := keys.close()):
            self._fail(LeakedCallbackError(complaint))
        elif not self.done():
            self.set_result(value)

    def _fail(self, error: BaseException) -> None:
        if self._keys is not None:
            self._keys.close()
        self._generator = self._context = self._keys = self._entered = None
        if isinstance(error, asyncio.CancelledError):
            self.cancel()
        elif not self.done():
            self.set_exception(error)
        else:
            app_log.error("Exception after Future was cancelled", exc_info=error)
