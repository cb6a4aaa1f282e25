"""The first example of a page, on every backend."""

from __future__ import annotations

import pytest

from tests.examples.programs import documented
from tests.reactor.loops import BACKENDS

PAGES = {
    "contexts.md": ["failed: two callbacks later"],
    "coordination.md": [f"got {number}" for number in range(5)],
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_first_example(backend: str, page: str) -> None:
    assert documented(backend, page) == PAGES[page]
