"""What the whole suite shares."""

import gc


def pytest_collection_finish() -> None:
    """Leave what collection made out of every later garbage collection.

    Many tests collect garbage to prove that nothing leaks, and the thousands of collected items made each of these
    visits last half a second. (No test may call `gc.unfreeze`.)
    """
    gc.collect()
    gc.freeze()
