"""Stack contexts: what surrounds a callback where it is scheduled surrounds it again where it runs.

A `with` block ends before a callback that was scheduled inside it runs, so an exception of that callback passes the
block by. Tornado 1 to 5 had stack contexts against this (docs: tornado.stack_context of Tornado 5); names and meaning
are theirs.

Decisions:

* One `ContextVar` holds the tuple of contexts that are entered, outermost first. Its default is None, so where nobody
  uses contexts a hook costs one read and `wrap` returns the function itself. (Rejected: a thread-local, as Tornado had
  it, which asyncio's tasks do not carry along.)
* The variable says *which* contexts belong to the code that runs. asyncio copies it into tasks and into callbacks of
  `call_soon`; these see the contexts, and what they schedule by Tornado's names runs inside them, but they are not
  themselves run inside. Only functions that went through `wrap` are, so nothing is entered twice.
* An empty tuple is not None: it says that contexts were dropped on purpose (`NullContext`). `wrap` then returns a
  function that drops those of its caller as well.
* A context that was deactivated is skipped, and dropped from the tuples that functions hold when they run: a callback
  that enters one context and schedules itself, again and again, holds no more than the contexts that are still wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Function = TypeVar("Function", bound="Callable[..., Any] | None")
ExceptionHandler = Callable[[type[BaseException], BaseException, TracebackType | None], object]
Contexts = tuple["StackContext", ...]

entered: ContextVar[Contexts | None] = ContextVar("pollux.stack_context.entered", default=None)
"""The contexts of the code that runs, outermost first; None if none was ever entered, () if they were dropped.

Whoever drives generators compares it by identity before and after a step.
"""


class StackContextInconsistentError(Exception):
    """A `with StackContext` block was left while another's contexts were current: most likely a generator yielded in
    it. Use `run_with_stack_context`."""


class StackContext:
    """Run the block, and all that is scheduled in it, inside a context manager.

        with StackContext(partial(log_prefix, "request 17")) as deactivate:
            loop.add_callback(work)        # runs inside log_prefix("request 17"), too

    :param context_factory: makes a context manager that is entered once; called for the block, and again for each
        callback.
    :returns: from `__enter__`, a function that deactivates the context: callbacks yet to come run without it.
    :raises StackContextInconsistentError: on leaving the block, if others' contexts are current.
    """

    def __init__(self, context_factory: Callable[[], AbstractContextManager[Any]]) -> None:
        self.context_factory = context_factory
        self.active = True
        self._blocks: list[tuple[Contexts | None, Contexts, AbstractContextManager[Any]]] = []

    def __enter__(self) -> Callable[[], None]:
        outside = entered.get()
        inside = (*(outside or ()), self)
        manager = self.context_factory()
        entered.set(inside)
        try:
            manager.__enter__()
        except BaseException:
            entered.set(outside)
            raise
        self._blocks.append((outside, inside, manager))
        return self._deactivate

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        outside, inside, manager = self._blocks.pop()
        try:
            return bool(manager.__exit__(kind, error, traceback))
        finally:
            found = entered.get()
            entered.set(outside)
            if found is not inside:
                raise StackContextInconsistentError(
                    f"left the block of {self!r} in the contexts {found!r}, expected {inside!r}: "
                    "was there a yield in it? Use run_with_stack_context(context, function) instead"
                )

    def _deactivate(self) -> None:
        self.active = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.context_factory!r}>"


class ExceptionStackContext(StackContext):
    """Handle what is raised in the block, and in all that is scheduled in it.

    :param exception_handler: called as `exception_handler(type, value, traceback)`; if it returns something true the
        exception ends here, else it goes outward. It is called inside the contexts of what raised.
    """

    def __init__(self, exception_handler: ExceptionHandler) -> None:
        super().__init__(partial(_Handling, exception_handler))


class _Handling:
    """A context manager that only looks at exceptions."""

    __slots__ = ("_handler",)

    def __init__(self, handler: ExceptionHandler) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return kind is not None and error is not None and bool(self._handler(kind, error, traceback))


class NullContext:
    """Run the block, and all that is scheduled in it, outside all contexts.

    For what outlives the request that happens to create it: a connection of a pool, say.
    """

    def __init__(self) -> None:
        self._outside: list[Contexts | None] = []

    def __enter__(self) -> None:
        self._outside.append(entered.get())
        entered.set(())

    def __exit__(self, *error: object) -> Literal[False]:
        entered.set(self._outside.pop())
        return False


def wrap(function: Function) -> Function:
    """Return a function that runs `function` inside the contexts of now, wherever it is called.

    They are entered anew for each call, outermost first. An exception goes to the innermost, and outward until one
    handles it; then the call returns None. `function` itself is returned if it is None, wrapped already (or a `partial`
    of what is), or if no context was ever entered here.
    """
    contexts = entered.get()
    if contexts is None or function is None:
        return function
    if type(function.func if isinstance(function, partial) else function) is _Wrapped:
        return function
    return _Wrapped(function, still_active(contexts))  # type: ignore[return-value]  # called alike, which is what counts


def run_with_stack_context(context: StackContext | NullContext, func: Callable[[], T]) -> T | None:
    """Return `func()`, called inside `context`: for coroutines, which must not yield in a `with` block.

        yield run_with_stack_context(StackContext(factory), lambda: fetch(url))

    None if `func` raised and the context handled that.
    """
    with context:
        return func()
    return None


class _Wrapped:
    """A function and the contexts to run it in."""

    __slots__ = ("__weakref__", "_contexts", "_function")

    def __init__(self, function: Callable[..., Any], contexts: Contexts) -> None:
        self._function = function
        self._contexts = contexts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        contexts = self._contexts = still_active(self._contexts)
        token = entered.set(contexts)
        try:
            return _run(contexts, 0, self._function, args, kwargs)
        finally:
            entered.reset(token)

    def __repr__(self) -> str:
        return f"<{self._function!r} in stack contexts {self._contexts!r}>"


def _run(contexts: Contexts, depth: int, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call `function` inside those of `contexts` from `depth` on."""
    if depth == len(contexts):
        return function(*args, **kwargs)
    with contexts[depth].context_factory():
        return _run(contexts, depth + 1, function, args, kwargs)


def still_active(contexts: Contexts) -> Contexts:
    """Return `contexts` itself if none was deactivated."""
    for context in contexts:
        if not context.active:
            return tuple([each for each in contexts if each.active])
    return contexts
