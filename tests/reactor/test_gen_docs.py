"""docs/gen.md, held to what is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from types import ModuleType

import pytest

from pollux import concurrent, gen
from tests.architecture.test_rooms import ROOT

PAGE = (ROOT / "docs" / "gen.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMES = [(module, name) for module in (gen, concurrent) for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_public_name_is_documented(module: ModuleType, name: str) -> None:
    thing = getattr(module, name)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        assert (thing.__doc__ or "").strip()
    assert re.search(rf"`[^`]*\b{name}\b", PAGE), f"docs/gen.md does not mention {name}"


@pytest.mark.parametrize("module", [gen, concurrent])
def test_exports(module: ModuleType) -> None:
    assert sorted(set(module.__all__)) == sorted(module.__all__)


@pytest.mark.parametrize(
    ("number", "printed"),
    [(0, ["3", "[3, 7]", "{'sum': 11}"]), (1, ["Wait", "Task", "await"])],
)
def test_examples_run(number: int, printed: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", BLOCKS[number]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == printed
