"""The benchmarks pin processes and read /proc: elsewhere than on Linux there is nothing to test."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder where /proc/PID/schedstat does not exist."""
    if Path("/proc/self/schedstat").exists():
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"no /proc/PID/schedstat on {sys.platform}"))


@pytest.fixture
def core() -> int:
    """A core this process may use."""
    return min(os.sched_getaffinity(0))
