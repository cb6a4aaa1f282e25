"""Every registered backend against the shipped loop suite; asyncio's and Tornado's loops as its oracles."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import tornado.ioloop

from pollux import registry
from pollux.testing import LoopSuite
from pollux.testing.loop_suite import AsyncioDialect, TornadoDialect

BACKENDS = [backend.name for backend in registry.backends()]


class TestEveryBackend(LoopSuite):
    @pytest.fixture(params=BACKENDS)
    def backend_name(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name


class TestAsyncioAgrees(AsyncioDialect):
    @pytest.fixture
    def make_loop(self) -> Callable[[], Any]:
        return asyncio.new_event_loop


class TestTornadoAgrees(TornadoDialect):
    @pytest.fixture
    def make_loop(self) -> Callable[[], Any]:
        return lambda: tornado.ioloop.IOLoop(make_current=False)


def test_no_part_of_the_suite_hides_a_test_of_another() -> None:
    """The parts are joined by inheritance, where the second of two equal names would be lost without a word."""
    names = Counter(name for part in LoopSuite.__mro__ for name in vars(part) if name.startswith("test_"))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
