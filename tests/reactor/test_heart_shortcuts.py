"""Where the loop takes a shorter way than asyncio's, it answers as asyncio does: asked of both, and of subclasses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from pollux import IOLoop, registry

BACKENDS = [backend.name for backend in registry.backends() if registry.unusable(backend) is None]
Make = Callable[..., Any]
name: ContextVar[str] = ContextVar("name", default="nobody")


def _asyncio(members: dict[str, Any]) -> Any:
    return type("Sub", (asyncio.SelectorEventLoop,), members)()


def _pollux(backend: str) -> Make:
    return lambda members: type("Sub", (IOLoop,), members)(backend, make_current=False)


@pytest.fixture(params=["asyncio", *BACKENDS])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a loop of a class with the members given."""
    made: list[Any] = []

    def make(**members: Any) -> Any:
        made.append((_asyncio if request.param == "asyncio" else _pollux(request.param))(members))
        return made[-1]

    yield make
    for loop in made:
        loop.close()


async def _nothing() -> str:
    return name.get()


@pytest.mark.parametrize("arguments", [(), (None,), (0,), ((),), (1, 2), (None, None, None)], ids=repr)
def test_any_number_of_arguments(make: Make, arguments: tuple[Any, ...]) -> None:
    """Of callbacks and timers, also such as are false."""
    loop = make()
    got: list[tuple[str, tuple[Any, ...]]] = []

    def note(way: str) -> Callable[..., None]:
        return lambda *args: got.append((way, args))

    for _ in range(3):  # also with handles that are used again
        got.clear()
        loop.call_soon(note("soon"), *arguments)
        loop.call_soon_threadsafe(note("threadsafe"), *arguments)
        loop.call_later(-1, note("later"), *arguments)
        loop.call_at(loop.time(), note("at"), *arguments)
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        assert sorted(got) == [(way, arguments) for way in ("at", "later", "soon", "threadsafe")]


def test_debug_is_what_was_set(make: Make) -> None:
    loop = make()
    for enabled in (True, False, True):
        loop.set_debug(enabled)
        assert loop.get_debug() is enabled
        assert bool(getattr(loop.create_future(), "_source_traceback", None)) is enabled


def test_get_debug_of_a_subclass_counts(make: Make) -> None:
    loop = make(get_debug=lambda self: True)
    loop.set_debug(False)
    assert loop.get_debug() is True
    assert getattr(loop.create_future(), "_source_traceback", None)


def test_call_soon_of_a_subclass_is_asked_by_tasks(make: Make) -> None:
    asked: list[object] = []

    def call_soon(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        asked.append(callback)
        return super(type(self), self).call_soon(callback, *args, context=context)

    loop = make(call_soon=call_soon)
    loop.run_until_complete(_nothing())
    assert len(asked) >= 2  # the first step, and what ends the run


def test_create_task(make: Make) -> None:
    """Name and context; a closed loop refuses."""
    loop = make()
    context = copy_context()
    context.run(name.set, "somebody")
    task = loop.create_task(_nothing(), name="named", context=context)
    assert task.get_name() == "named"
    assert loop.run_until_complete(task) == "somebody"
    task = loop.create_task(_nothing())
    assert task.get_name().startswith("Task-")
    assert loop.run_until_complete(task) == "nobody"
    with pytest.raises(TypeError):
        loop.create_task(_nothing)
    with pytest.raises(TypeError):
        loop.create_task(_nothing, no_such_argument=1)
    loop.close()
    coro = _nothing()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coro)
    coro.close()
