"""`Application`: a collection of request handlers, and the callback that an HTTP server calls with each request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pollux import IOLoop
from pollux.log import access_log
from pollux_http import HTTPServer, HTTPServerRequest
from pollux_http.delegates import Answer
from pollux_web.handler import ErrorHandler, RequestHandler
from pollux_web.handler_router import HandlerRouter, Match
from pollux_web.routing import DefaultHostMatches, HostMatches, ReversibleRouter, Undecoded
from pollux_web.ui_modules import BUILT_IN, UIModule, methods_in, modules_in

if TYPE_CHECKING:
    from pollux_web.transforms import OutputTransform

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Application(ReversibleRouter):
    """Maps paths to handlers.

    .. code-block:: python

        app = Application([(r"/", MainHandler), (r"/user/([0-9]+)", UserHandler, {"db": db})])
        app.listen(8888)

    :param handlers: rules, or tuples of their arguments (pattern or matcher, target, kwargs, name). The first that
        matches the whole path wins. See `pollux_web.routing.Rule`.
    :param default_host: the host name that requests to unknown hosts are taken for, see `add_handlers`. Leave it out
        where DNS rebinding is a danger.
    :param transforms: `OutputTransform` classes for each response, in order.
    :param settings: `debug` shows tracebacks to the client and starts the program again when a module has changed;
        `autoreload=False` then leaves out the latter; `default_handler_class` (and `default_handler_args`) answers what
        no route matches, else 404; `log_function(handler)` is called after each request; `access_log=True` logs each
        request by `log_request`. Others are described where they are used: see `docs/web.md`. Those of your
        own are as good.
    """

    def __init__(
        self,
        handlers: Iterable[Any] | None = None,
        default_host: str | None = None,
        transforms: Iterable[type[OutputTransform]] | None = None,
        **settings: Any,
    ) -> None:
        if settings.get("debug"):
            for name, value in {
                "autoreload": True,
                "compiled_template_cache": False,
                "static_hash_cache": False,
                "serve_traceback": True,
            }.items():
                settings.setdefault(name, value)
        self.settings = settings
        self.default_host = default_host
        self.transforms = _transforms(transforms, settings)
        self.ui_modules: dict[str, type[UIModule]] = {**BUILT_IN, **modules_in(settings.get("ui_modules", {}))}
        self.ui_methods: dict[str, Callable[..., Any]] = methods_in(settings.get("ui_methods", {}))
        self.template_environments: dict[str, Any] = {}  # by directory
        self.wildcard_router = HandlerRouter(self, [*_static_rules(settings), *(handlers or ())])
        self._hosts: list[tuple[HostMatches, HandlerRouter]] = []
        # The hot way in, as long as the host does not matter.
        self._literals = self.wildcard_router.literals
        self._search = self.wildcard_router.search
        self.log_function: Callable[[RequestHandler], object] | None = None
        if (
            settings.get("log_function")
            or settings.get("access_log")
            or type(self).log_request is not Application.log_request
        ):
            self.log_function = self.log_request
        if settings.get("autoreload") and _has_loop():
            _autoreload()  # else `listen` does

    def add_handlers(self, host_pattern: str, host_handlers: Iterable[Any]) -> None:
        """Add rules for hosts; they come before those of the constructor, in the order they were added.

        :param host_pattern: a regular expression for the whole host name, in lower case, without a port.
        """
        matcher = HostMatches(host_pattern)
        router = HandlerRouter(self, host_handlers)
        self._hosts.append((matcher, router))
        self._literals = {}  # from now on the host decides
        self._search = self._search_hosts
        if self.default_host is not None:
            self.wildcard_router.add_rules([(DefaultHostMatches(self, matcher.host_pattern), router)])

    def add_transform(self, transform_class: type[OutputTransform]) -> None:
        """Add a transform behind those that responses go through."""
        self.transforms.append(transform_class)

    def listen(self, port: int, address: str | None = None, **server_options: Any) -> HTTPServer:
        """Start an `HTTPServer` for this application on the current loop, and return it.

        :param address: None means all interfaces.
        :param server_options: for `HTTPServer`.
        """
        server = HTTPServer(self, **server_options)
        if self.settings.get("autoreload"):
            _autoreload()
        server.listen(port, address)
        return server

    def __call__(self, request: HTTPServerRequest) -> None:
        """Answer a request."""
        path = request.uri
        if "?" in path:
            path = path.partition("?")[0]
        match: Any = self._literals.get(path)
        if match is None:
            match = self._search(request, path)
            if not isinstance(match, tuple):
                if match is None:
                    self._default_handler(request)._execute((), {})
                else:
                    match(request)
                return
        handler_class, kwargs, args, named = match
        if kwargs:
            handler = handler_class(self, request, **kwargs)
        else:
            # `handler_class(self, request)` in two steps: from Python to Python, not by way of type.__call__ in C.
            handler = handler_class.__new__(handler_class)
            handler.__init__(self, request)
        handler._execute(args, named)

    def _search_hosts(self, request: HTTPServerRequest, path: str) -> Match | Answer | None:
        for matcher, router in self._hosts:
            if matcher.match(request) is not None and (found := router.lookup(request, path)) is not None:
                return found
        return self.wildcard_router.lookup(request, path)

    def streams_body(self, request: HTTPServerRequest) -> bool:
        """Return whether the handler of a request takes its body as it comes. Asked by the server when the head of a
        request has come and its body has not."""
        found = self._literals.get(request.path) or self._search(request, request.path)
        return isinstance(found, tuple) and found[0]._stream_request_body

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Answer | None:
        """Return a function that answers `request`: an application may be a rule's target."""
        return self

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: Iterable[Any] | None = None,
        path_kwargs: dict[str, Any] | None = None,
    ) -> Answer:
        """Return a function that answers a request with a handler, for routers of one's own.

        :param target_kwargs: for the handler's `initialize`.
        :param path_args: for its method, as are `path_kwargs`; bytes are decoded by its `decode_argument`.
        """
        args = path_args if isinstance(path_args, Undecoded) else tuple(path_args or ())
        named = path_kwargs or {}
        if any(isinstance(value, bytes) for value in (*args, *named.values())):
            args = Undecoded(args)

        def answer(request: HTTPServerRequest) -> None:
            target_class(self, request, **(target_kwargs or {}))._execute(args, named)

        return answer

    def reverse_url(self, name: str, *args: Any) -> str:
        """Return the path of a named route, with `args` in place of its groups.

        :raises KeyError: there is no route of that name, or its pattern cannot be read backwards.
        :raises ValueError: the number of arguments is not that of the groups.
        """
        for router in (self.wildcard_router, *(router for _, router in self._hosts)):
            found = router.reverse_url(name, *args)
            if found is not None:
                return found
        raise KeyError(f"no route is named {name!r}, or its pattern has more magic than groups")

    def log_request(self, handler: RequestHandler) -> None:
        """Log a request that was answered: by the setting `log_function`, else as `log_request` of this module does.
        Override it; it is called only if the access log is on, or it is overridden."""
        function = self.settings.get("log_function")
        (function or log_request)(handler)

    def _default_handler(self, request: HTTPServerRequest) -> RequestHandler:
        """Make the handler for a path that no route matches."""
        default = self.settings.get("default_handler_class")
        if default is None:
            return ErrorHandler(self, request, status_code=404)
        return default(self, request, **self.settings.get("default_handler_args", {}))  # type: ignore[no-any-return]


def _transforms(
    transforms: Iterable[type[OutputTransform]] | None, settings: dict[str, Any]
) -> list[type[OutputTransform]]:
    if transforms is not None:
        return list(transforms)
    if settings.get("compress_response") or settings.get("gzip"):
        from pollux_web.transforms import ContentEncoding

        return [ContentEncoding]
    return []


def _has_loop() -> bool:
    try:
        return IOLoop.initialized()
    except RuntimeError:  # somebody else's runs, as under another server
        return False


def _autoreload() -> None:
    from pollux_web import autoreload

    autoreload.start()


def _static_rules(settings: dict[str, Any]) -> list[Any]:
    """Return the rules that the setting `static_path` asks for."""
    if not settings.get("static_path"):
        return []
    from pollux_web.static_files import StaticFileHandler

    handler = settings.get("static_handler_class", StaticFileHandler)
    arguments = {**settings.get("static_handler_args", {}), "path": settings["static_path"]}
    prefix = re.escape(settings.get("static_url_prefix", "/static/"))
    return [(pattern, handler, arguments) for pattern in (prefix + "(.*)", r"/(favicon\.ico)", r"/(robots\.txt)")]


def log_request(handler: RequestHandler) -> None:
    """Log one line on `pollux.access`: info below 400, warning below 500, else error.

    What the client chose is shown with control characters escaped: they may be commands to a terminal.
    """
    status = handler.get_status()
    log = access_log.info if status < 400 else access_log.warning if status < 500 else access_log.error
    request = handler.request
    uri = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", request.uri)
    log("%d %s %s (%s) %.2fms", status, request.method, uri, request.remote_ip, 1000 * request.request_time())
