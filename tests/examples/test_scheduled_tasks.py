"""`examples/02_scheduled_tasks.py` on every backend."""

from __future__ import annotations

import pytest

from tests.examples.programs import output
from tests.reactor.loops import BACKENDS

BEATS = [f"beat {number}" for number in range(1, 6)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_scheduled_tasks(backend: str) -> None:
    said = [line.partition(" s  ")[2] for line in output(backend, "02_scheduled_tasks.py")]
    assert said[:2] == ["next iteration", "a coroutine begins"]
    assert [word for word in said if word in BEATS] == BEATS
    assert said[-1] == BEATS[-1]
    assert {*said[2:]} - {*BEATS} == {"after 0.1 seconds", "after 0.15 seconds", "at 0.25 by the loop's clock"}
