"""`Application`: a collection of request handlers, and the callback that an HTTP server calls with each request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pollux.log import access_log
from pollux_http import HTTPServer, HTTPServerRequest
from pollux_web.handler import ErrorHandler, RequestHandler
from pollux_web.routing import RouteTable, URLSpec

Rule = URLSpec | tuple[str, type[RequestHandler]] | tuple[str, type[RequestHandler], dict[str, Any]] | tuple[Any, ...]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Application:
    """Maps paths to handlers.

    .. code-block:: python

        app = Application([(r"/", MainHandler), (r"/user/([0-9]+)", UserHandler, {"db": db})])
        app.listen(8888)

    :param handlers: `URLSpec`s, or tuples of their arguments (pattern, handler class, kwargs, name). The first that
        matches the whole path wins.
    :param settings: `debug` shows tracebacks to the client; `default_handler_class` (and `default_handler_args`)
        answers what no route matches, else 404; `log_function(handler)` is called after each request; `access_log=True`
        logs each request by `log_request`. Others are the application's own, see `RequestHandler.settings`.
    """

    def __init__(self, handlers: Iterable[Rule] = (), **settings: Any) -> None:
        self.settings = settings
        self._routes = RouteTable(rule if isinstance(rule, URLSpec) else URLSpec(*rule) for rule in handlers)
        self._literals = self._routes.literals
        self.log_function: Callable[[RequestHandler], object] | None = settings.get("log_function") or (
            log_request if settings.get("access_log") else None
        )

    def add_handlers(self, handlers: Iterable[Rule]) -> None:
        """Add routes behind those that are there."""
        self._routes.add(rule if isinstance(rule, URLSpec) else URLSpec(*rule) for rule in handlers)

    def listen(self, port: int, address: str | None = None, **server_options: Any) -> HTTPServer:
        """Start an `HTTPServer` for this application on the current loop, and return it.

        :param address: None means all interfaces.
        :param server_options: for `HTTPServer`.
        """
        server = HTTPServer(self, **server_options)
        server.listen(port, address)
        return server

    def __call__(self, request: HTTPServerRequest) -> None:
        """Answer a request."""
        path = request.uri
        if "?" in path:
            path = path.partition("?")[0]
        match = self._literals.get(path) or self._routes.find(path)
        if match is None:
            self._default_handler(request)._execute((), {})
            return
        handler_class, kwargs, args, named = match
        if kwargs:
            handler = handler_class(self, request, **kwargs)
        else:
            # `handler_class(self, request)` in two steps: from Python to Python, not by way of type.__call__ in C.
            handler = handler_class.__new__(handler_class)
            handler.__init__(self, request)  # type: ignore[misc]
        handler._execute(args, named)

    def _default_handler(self, request: HTTPServerRequest) -> RequestHandler:
        """Make the handler for a path that no route matches."""
        default = self.settings.get("default_handler_class")
        if default is None:
            return ErrorHandler(self, request, status_code=404)
        return default(self, request, **self.settings.get("default_handler_args", {}))  # type: ignore[no-any-return]


def log_request(handler: RequestHandler) -> None:
    """Log one line on `pollux.access`: info below 400, warning below 500, else error.

    What the client chose is shown with control characters escaped: they may be commands to a terminal.
    """
    status = handler.get_status()
    log = access_log.info if status < 400 else access_log.warning if status < 500 else access_log.error
    request = handler.request
    uri = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", request.uri)
    log("%d %s %s (%s) %.2fms", status, request.method, uri, request.remote_ip, 1000 * request.request_time())
