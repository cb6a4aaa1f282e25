"""The fixtures of the web room: a loop on every backend that is usable here, and nothing left open behind a test."""

from tests.web.conftest import backend, virtual_web, web  # noqa: F401
