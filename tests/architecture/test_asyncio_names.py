"""asyncio's private names: known to two files, listed there, and present in the Python that runs this."""

import ast
import asyncio
import asyncio.base_events
import asyncio.selector_events
import os
import socket
from pathlib import Path

import pytest

from pollux import heart, transport
from tests.architecture.test_rooms import PACKAGES, ROOT, SOURCES

HEART = PACKAGES["pollux"] / "heart.py"
TRANSPORT = PACKAGES["pollux"] / "transport.py"
OWNERS = heart.ASYNCIO_PRIVATE_NAMES | transport.ASYNCIO_PRIVATE_NAMES
SOCKET_TRANSPORT: type = next(iter(transport.ASYNCIO_PRIVATE_NAMES))

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


def imported_from(source: Path) -> list[Path]:
    """The files of ours, save the two, whose names a file imports: their classes may be its bases."""
    modules = {node.module for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)}
    return [file for file in OTHERS if ".".join(file.relative_to(file.parents[1]).with_suffix("").parts) in modules]


def state_of_a_transport() -> set[str]:
    """What asyncio's keeps in its dict. Made by asyncio's own loop, so that the names are not ours."""
    loop = asyncio.SelectorEventLoop()
    left, right = socket.socketpair()

    async def look() -> set[str]:
        left.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, left)
        names = set(vars(transport))
        transport.close()
        return names

    try:
        return loop.run_until_complete(look())
    finally:
        loop.run_until_complete(asyncio.sleep(0))  # closes the socket
        right.close()
        loop.close()


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_python_still_has_the_names(owner: type) -> None:
    """If this fails, a Python release has moved something that heart.py stands on: read its changes first."""
    missing = {name for name in OWNERS[owner] if not hasattr(owner, name)}
    assert missing == set(), f"asyncio.{owner.__name__} of this Python has no {', '.join(sorted(missing))}"


def test_python_still_has_the_state() -> None:
    missing = heart.ASYNCIO_PRIVATE_STATE - state_of_a_loop()
    assert missing == set(), f"a loop of this Python has no {', '.join(sorted(missing))}"


def test_a_transport_has_a_slot_for_each_of_its_state() -> None:
    assert set(transport.STATE) == state_of_a_transport()


def test_the_lists_are_what_the_heart_uses() -> None:
    """Neither more nor less."""
    listed = {name for names in heart.ASYNCIO_PRIVATE_NAMES.values() for name in names} | heart.ASYNCIO_PRIVATE_STATE
    used = touched(HEART) & asyncios_own()
    assert used - listed == set(), "used, not listed"
    assert listed - used == set(), "listed, not used"


def test_the_lists_are_what_the_transport_uses() -> None:
    """Of its state, all is used: by the slots."""
    listed = {name for names in transport.ASYNCIO_PRIVATE_NAMES.values() for name in names}
    used = touched(TRANSPORT) & ({name for name in dir(SOCKET_TRANSPORT) if private(name)} | asyncios_own())
    assert used - set(transport.STATE) - {SOCKET_TRANSPORT.__name__} == listed


OTHERS = [source for source in SOURCES if source not in (HEART, TRANSPORT)]


@pytest.mark.parametrize("source", OTHERS, ids=lambda file: os.path.relpath(file, ROOT))
def test_no_other_file_touches_one(source: Path) -> None:
    """Unless it is an object of ours that happens to have such a name."""
    ours = set().union(*map(own_classes_define, [source, *imported_from(source)]))
    assert touched(source) & asyncios_own() - ours == set()
