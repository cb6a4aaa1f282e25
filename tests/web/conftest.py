"""Every behaviour test of the web room runs on every backend that is usable here, and leaves no descriptor open."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pollux import IOLoop, registry
from pollux.backend import Backend
from pollux.testing.descriptors import nothing_left_open
from pollux.testing.virtual_clock import VirtualLoop
from tests.web.client import Web

BACKENDS = {backend.name: backend for backend in registry.backends()}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each registered backend; skips with its own reason."""
    chosen = BACKENDS[request.param]
    if reason := registry.unusable(chosen):
        pytest.skip(f"{chosen.name}: {reason}")
    return chosen


def _web(loop: IOLoop) -> Iterator[Web]:
    loop.make_current()
    web = Web(loop, None) if isinstance(loop, VirtualLoop) else Web(loop)
    try:
        yield web
    finally:
        web.close()
        IOLoop.clear_current()


@pytest.fixture
def web(backend: Backend) -> Iterator[Web]:
    """A loop on each backend."""
    gc.collect()
    with nothing_left_open():
        yield from _web(IOLoop(backend, make_current=False))


@pytest.fixture
def virtual_web(backend: Backend) -> Iterator[Web]:
    """The same on virtual time: it jumps to the next timeout whenever nothing is ready."""
    gc.collect()
    with nothing_left_open():
        yield from _web(VirtualLoop(backend))
