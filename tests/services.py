"""Real servers and programs that tests start. One that is not installed is a skip with the reason, and a failure where
`POLLUX_REQUIRE_SERVICES=1` says that all of them must be there."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def program(command: str, package: str) -> str:
    """Return the path of an installed program, or end the test.

    :param package: the Debian package that has it.
    """
    return shutil.which(command) or absent(f"{command} is not installed: apt-get install {package}")


def absent(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be absent."""
    if os.environ.get("POLLUX_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason} (POLLUX_REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(reason)
