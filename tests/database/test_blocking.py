"""The warning: in a running loop, over the threshold, once for a line."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import pollux
from pollux_database import AsyncConnection, BlockingWarning, Connection, blocking
from tests.reactor.loops import BACKENDS, usable

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT COUNT(*) AS many FROM n"


async def told(action: Callable[[], Any]) -> list[warnings.WarningMessage]:
    """What an action warns of, in a running loop."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return caught


@pytest.mark.parametrize("backend", BACKENDS)
def test_once_for_each_line(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(backend)
    monkeypatch.setattr(blocking, "_told", set())

    async def main() -> None:
        with Connection(blocking_threshold=None) as db:
            db._threshold = 0.0  # connecting is a statement like any other
            several: list[Callable[[], Any]] = [
                lambda: [db.query(SLOW) for _ in range(2)],
                lambda: db.get(SLOW),
                lambda: list(db.iter(SLOW)),
            ]
            for action in several:
                (warning,) = await told(action)
                assert warning.category is BlockingWarning
                assert (warning.filename, warning.lineno) == (__file__, action.__code__.co_firstlineno)
                assert "WITH RECURSIVE" in str(warning.message)
                assert await told(action) == []

    pollux.run(main(), backend=backend)


def test_not_below_the_threshold_and_never_without_one() -> None:
    async def main() -> None:
        for threshold in (3600.0, None):
            with Connection(blocking_threshold=threshold) as db:
                assert await told(lambda: db.query(SLOW)) == []

    pollux.run(main())


def test_not_without_a_running_loop() -> None:
    with Connection(blocking_threshold=0) as db, warnings.catch_warnings():
        warnings.simplefilter("error")
        db.query(SLOW)


def test_as_an_error() -> None:
    """The statement has been carried out then."""

    async def main() -> None:
        with Connection(blocking_threshold=None) as db:
            db.execute("CREATE TABLE t (a)")
            db._threshold = 0.0
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(BlockingWarning):
                    db.execute("INSERT INTO t VALUES (1)")
            db._threshold = 3600.0
            assert db.get("SELECT * FROM t") == {"a": 1}

    pollux.run(main())


def test_asynchronous_twin_does_not_block() -> None:
    """While the database waits, the loop runs."""

    async def main() -> None:
        async with AsyncConnection() as db:
            await db.execute("CREATE TABLE t (a)")
            query = asyncio.ensure_future(db.get(SLOW))
            turns = 0
            while not query.done():
                turns += 1
                await asyncio.sleep(0)
            assert turns > 1
            assert await query == {"many": 20000}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pollux.run(main())
