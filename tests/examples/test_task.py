"""`examples/05_task.py` on every backend."""

from __future__ import annotations

import pytest

from tests.architecture.test_rooms import ROOT
from tests.examples.programs import output
from tests.reactor.loops import BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_task(backend: str) -> None:
    one, two, five = (
        (ROOT / "examples" / name).read_text().splitlines()[0]
        for name in ("01_getting_started.py", "02_scheduled_tasks.py", "05_task.py")
    )
    assert output(backend, "05_task.py") == [
        "in the meantime, anything else",
        f"Wait:      {one}",
        f"Task:      {two}",
        f"WaitMany:  {five}",
        f"Multi:     {one}",
        f"await:     {two}",
        f"a dict:    {five}",
        "caught:    No such file or directory",
    ]
