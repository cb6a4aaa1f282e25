"""A server that is not installed is a skip with its reason, or a failure where nothing may be absent."""

from __future__ import annotations

import pytest

from tests.services import program


def test_absent_program_is_a_skip_or_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "nosuchd is not installed: apt-get install nosuch-server"
    monkeypatch.delenv("POLLUX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=message):
        program("nosuchd", "nosuch-server")
    monkeypatch.setenv("POLLUX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match=message):
        program("nosuchd", "nosuch-server")
    assert program("sh", "dash").endswith("/sh")
