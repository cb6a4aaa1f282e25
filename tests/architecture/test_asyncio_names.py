"""asyncio's private names: known to one file, listed there, and present in the Python that runs this."""

import ast
import asyncio
import asyncio.base_events
import asyncio.selector_events
import os
from pathlib import Path

import pytest

from pollux.heart import ASYNCIO_PRIVATE_NAMES, ASYNCIO_PRIVATE_STATE
from tests.architecture.test_rooms import PACKAGES, ROOT, SOURCES

HEART = PACKAGES["pollux"] / "heart.py"
LISTED = {name for names in ASYNCIO_PRIVATE_NAMES.values() for name in names} | ASYNCIO_PRIVATE_STATE

# Instances whose attributes are the names a program could reach into.
CLASSES: list[type] = [
    asyncio.SelectorEventLoop,
    asyncio.Handle,
    asyncio.TimerHandle,
    asyncio.Server,
    asyncio.Transport,
    asyncio.StreamReader,
    asyncio.StreamWriter,
]


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def state_of_a_loop() -> set[str]:
    loop = asyncio.SelectorEventLoop()
    names = set(vars(loop))
    loop.close()
    return names


def asyncios_own() -> set[str]:
    """Private names of asyncio's classes, of a live loop, and of its modules."""
    names = {name for owner in CLASSES for name in dir(owner)} | state_of_a_loop()
    for module in (asyncio, asyncio.events, asyncio.base_events, asyncio.selector_events, asyncio.tasks):
        names |= set(dir(module))
    return {name for name in names if private(name)} - set(asyncio.events.__all__)  # `_get_running_loop` is offered


def touched(source: Path) -> set[str]:
    """Private attributes used, and private methods and attributes defined in classes or imported."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asyncio"):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(item.name)
                elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    names.add(item.target.id)
                elif isinstance(item, ast.Assign):
                    names |= {target.id for target in item.targets if isinstance(target, ast.Name)}
    return {name for name in names if private(name)}


def own_classes_define(source: Path) -> set[str]:
    """Private names that a file gives to its own objects: methods, `self._x = ...`, slots."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # __slots__
    return names


@pytest.mark.parametrize("owner", ASYNCIO_PRIVATE_NAMES, ids=lambda owner: owner.__name__)
def test_python_still_has_the_names(owner: type) -> None:
    """If this fails, a Python release has moved something that heart.py stands on: read its changes first."""
    missing = {name for name in ASYNCIO_PRIVATE_NAMES[owner] if not hasattr(owner, name)}
    assert missing == set(), f"asyncio.{owner.__name__} of this Python has no {', '.join(sorted(missing))}"


def test_python_still_has_the_state() -> None:
    missing = ASYNCIO_PRIVATE_STATE - state_of_a_loop()
    assert missing == set(), f"a loop of this Python has no {', '.join(sorted(missing))}"


def test_the_lists_are_what_the_heart_uses() -> None:
    """Neither more nor less."""
    used = touched(HEART) & asyncios_own()
    assert used - LISTED == set(), "used, not listed"
    assert LISTED - used == set(), "listed, not used"


OTHERS = [source for source in SOURCES if source != HEART]


@pytest.mark.parametrize("source", OTHERS, ids=lambda file: os.path.relpath(file, ROOT))
def test_no_other_file_touches_one(source: Path) -> None:
    """Unless it is an object of its own that happens to have such a name."""
    mine = touched(source) & asyncios_own() - own_classes_define(source)
    assert mine == set()
