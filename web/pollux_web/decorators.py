"""Decorators of handler methods: slashes at the end of paths, and `asynchronous`, the way before coroutines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from pollux_web.errors import HTTPError
from pollux_web.handler import RequestHandler

Method = TypeVar("Method", bound=Callable[..., Any])


def removeslash(method: Method) -> Method:
    """Redirect GET and HEAD of `/path/` to `/path`; other methods get 404. Give the route a pattern like `/path/*`."""

    @functools.wraps(method)
    def checked(self: RequestHandler, *args: Any, **kwargs: Any) -> Any:
        path = self.request.path
        if path.endswith("/") and path.strip("/"):  # the root stays as it is
            _redirect(self, path.rstrip("/"))
            return None
        return method(self, *args, **kwargs)

    return checked  # type: ignore[return-value]


def addslash(method: Method) -> Method:
    """Redirect GET and HEAD of `/path` to `/path/`; other methods get 404. Give the route a pattern like `/path/?`."""

    @functools.wraps(method)
    def checked(self: RequestHandler, *args: Any, **kwargs: Any) -> Any:
        path = self.request.path
        if not path.endswith("/"):
            _redirect(self, f"{path}/")
            return None
        return method(self, *args, **kwargs)

    return checked  # type: ignore[return-value]


def _redirect(handler: RequestHandler, path: str) -> None:
    request = handler.request
    if request.method not in ("GET", "HEAD"):
        raise HTTPError(404)
    if path.startswith(("//", "/\\")):
        # A Location of //host/ would be another site's.
        raise HTTPError(403, "cannot redirect a path that begins with two slashes")
    handler.redirect(f"{path}?{request.query}" if request.query else path, permanent=True)


def asynchronous(method: Method) -> Method:
    """Leave the request open when the method returns: it calls `self.finish()` itself, in a callback.

    An exception in a callback that was made within the method (and wrapped, see `pollux.stack_context`) ends the
    request with an error page, as one in the method itself does. An awaitable that the method returns is waited for,
    and does not finish the request either.
    """

    @functools.wraps(method)
    def opened(self: RequestHandler, *args: Any, **kwargs: Any) -> Any:
        from pollux.stack_context import ExceptionStackContext

        def handle(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> bool:
            if not isinstance(error, Exception):
                return False
            self._handle_exception(error)
            return True

        self._auto_finish = False
        with ExceptionStackContext(handle):
            return method(self, *args, **kwargs)

    return opened  # type: ignore[return-value]
