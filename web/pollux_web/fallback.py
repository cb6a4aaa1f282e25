"""`FallbackHandler`: hands requests to something else that answers requests."""

from __future__ import annotations

from collections.abc import Callable

from pollux_http import HTTPServerRequest
from pollux_web.handler import RequestHandler


class FallbackHandler(RequestHandler):
    """Hands each request to a function: `(r".*", FallbackHandler, {"fallback": wsgi_app})`.

    The function answers it through `request.connection`; an `Application` and a `WSGIContainer` are such functions.
    """

    def initialize(self, fallback: Callable[[HTTPServerRequest], object]) -> None:
        """Take the function."""
        self.fallback = fallback

    def prepare(self) -> None:
        """Hand over."""
        self._finished = True
        self.fallback(self.request)
        self.on_finish()

    def _check_forgery(self, method: str) -> None:
        """That is up to whoever answers."""
