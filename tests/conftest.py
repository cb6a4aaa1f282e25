"""What the whole suite shares."""

import gc
import importlib

import hypothesis  # noqa: F401  # before anything is frozen: at its import it looks for who refers to trio's generator
import pytest


def leave_out_what_is_there() -> None:
    """Keep all that lives now out of every later garbage collection. (No test may call `gc.unfreeze`.)

    Many tests collect garbage to prove that nothing leaks, and what pytest holds of thousands of tests made each of
    these visits last half a second.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """After collection."""
    try:
        # The process's one reactor, which loops on the backend `twisted` share: no test has left its descriptors open.
        importlib.import_module("twisted.internet.reactor")
    except ImportError:
        pass
    leave_out_what_is_there()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After the last test of a file, whose fixtures are gone."""
    if nextitem is not None and nextitem.path != item.path:
        leave_out_what_is_there()
