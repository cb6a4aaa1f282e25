"""docs/streams.md, held to what is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

from pollux import iostream
from tests.architecture.test_rooms import ROOT

PAGE = (ROOT / "docs" / "streams.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BETWEEN_MODULES = ("read_piece", "close_if_cancelled")  # public within the package
PRINTED = [r"b'hello\n'", "sent\nb'hello'", "b'piece 0'\nb'piece 1'\nb'piece 2'"]


@pytest.mark.parametrize(
    ("block", "printed"), list(zip(BLOCKS, PRINTED, strict=True)), ids=["echo", "callbacks", "streaming"]
)
def test_examples_run(block: str, printed: str) -> None:
    command = [sys.executable, "-W", "error", "-c", block]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (printed, "", 0)


@pytest.mark.parametrize("name", iostream.__all__)
def test_public_name_is_documented(name: str) -> None:
    """It, and what programs call of it."""
    thing = getattr(iostream, name)
    assert thing.__doc__
    assert f"`{name}" in PAGE
    for attribute, value in vars(thing).items():
        if inspect.isfunction(value) and not attribute.startswith("_"):
            assert value.__doc__, f"{name}.{attribute}"
            assert re.search(rf"\b{attribute}\b", PAGE) or attribute in BETWEEN_MODULES, attribute
