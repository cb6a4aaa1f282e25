"""`AsyncHTTPClient` and `HTTPClient`: who fetches. Names and meanings are Tornado's (docs: tornado.httpclient), of
version 6 and, where that has dropped it, of 2 to 5: `callback=`.

A client makes at most `max_clients` requests at a time; the others wait in the order they came. It keeps connections
for the next requests, see `pool.py`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

from pollux.ioloop import IOLoop
from pollux.log import gen_log
from pollux.resolver import OverrideResolver, Resolver
from pollux.stack_context import wrap
from pollux_http.client_errors import NO_RESPONSE, HTTPClientError, HTTPStreamClosedError
from pollux_http.client_request import HTTPRequest, settings_of
from pollux_http.client_response import HTTPResponse
from pollux_http.fetching import Fetch
from pollux_http.pool import Pool
from pollux_http.response_parsing import MAX_HEADER_SIZE
from pollux_http.route import Route, route_of
from pollux_http.target import Origin

MAX_BUFFER_SIZE = 100 * 1024 * 1024  # bytes: Tornado's limit
IDLE_CONNECTION_TIMEOUT = 60.0  # seconds: many servers close after 60 or 75; whoever closes first saves a failed try
MAX_ROUTES = 1024  # that a client remembers

# Tornado's implementations, by their names; there is one here.
_ALIASES = ("AsyncHTTPClient", "SimpleAsyncHTTPClient", "CurlAsyncHTTPClient")

Callback = Callable[[HTTPResponse], Any]


class AsyncHTTPClient:
    """A client of HTTP/1.1. There is one for each loop: `AsyncHTTPClient()` returns that.

    :param force_instance: make one of its own, which the caller closes. The parameters below are for such a one; those
        of the loop's are given to `configure`.
    :param max_clients: requests at a time, default 10.
    :param hostname_mapping: as `pollux.netutil.OverrideResolver` takes it.
    :param max_buffer_size: bytes of a response's body that are kept in memory, default 100 MiB.
    :param resolver: a `Resolver`, which the caller closes.
    :param defaults: options of `HTTPRequest` for requests that do not say.
    :param max_header_size: bytes of a response's head, default 64 KiB.
    :param max_body_size: bytes of a body, also one that is streamed; before and after decompression. Default:
        `max_buffer_size`.
    :param idle_connection_timeout: seconds that a connection is kept for further requests, default 60.
    :param max_idle_connections: how many are kept, default `max_clients`; 0 keeps none.
    """

    _configured: ClassVar[tuple[type[AsyncHTTPClient] | None, dict[str, Any]]] = (None, {})

    io_loop: IOLoop
    _closed: bool
    _instances: dict[type, AsyncHTTPClient] | None

    def __new__(cls, force_instance: bool = False, **kwargs: Any) -> AsyncHTTPClient:
        """Return the loop's client of this class, or make one."""
        loop = IOLoop.current()
        # With the loop, not beside it: whoever drops the loop drops its clients.
        instances = None if force_instance else vars(loop).setdefault("_http_clients", {})
        if instances is not None and cls in instances:
            return instances[cls]  # type: ignore[no-any-return]
        made: type[AsyncHTTPClient] = cls
        if cls is AsyncHTTPClient:
            configured, options = AsyncHTTPClient._configured
            made = configured or cls
            kwargs = {**options, **kwargs}
        self = object.__new__(made)
        self.io_loop = loop
        self._closed = False
        self._instances = instances
        self.initialize(**kwargs)
        if instances is not None:
            instances[cls] = self
            loop.add_close_callback(self.close)
        return self

    def initialize(
        self,
        max_clients: int = 10,
        hostname_mapping: Mapping[Any, Any] | None = None,
        max_buffer_size: int = MAX_BUFFER_SIZE,
        resolver: Resolver | None = None,
        defaults: Mapping[str, Any] | None = None,
        max_header_size: int | None = None,
        max_body_size: int | None = None,
        idle_connection_timeout: float = IDLE_CONNECTION_TIMEOUT,
        max_idle_connections: int | None = None,
    ) -> None:
        """Take the arguments of the constructor. A subclass overrides this in place of `__init__`.

        :raises ValueError: `max_clients` is below 1, or `defaults` names no option.
        """
        if max_clients < 1:
            raise ValueError(f"max_clients is at least 1, got {max_clients}")
        self.max_clients = max_clients
        self.max_buffer_size = max_buffer_size
        self.max_header_size = MAX_HEADER_SIZE if max_header_size is None else max_header_size
        self.max_body_size = max_buffer_size if max_body_size is None else max_body_size
        self.max_whole_body = min(self.max_body_size, max_buffer_size)
        self._own_resolver = resolver is None
        self.resolver = Resolver() if resolver is None else resolver
        if hostname_mapping is not None:
            self.resolver = OverrideResolver(resolver=self.resolver, mapping=hostname_mapping)
        self.defaults = {**HTTPRequest._DEFAULTS, **(defaults or {})}
        self.settings = settings_of(defaults or {})
        callbacks = (self.settings.streaming_callback, self.settings.header_callback, self.settings.body_producer)
        self.special = self.settings.auth_username is not None or any(callbacks)  # not for each request alike
        limit = max_clients if max_idle_connections is None else max_idle_connections
        self.pool = Pool(self.io_loop, limit, idle_connection_timeout)
        self.context = Context()  # of the timers
        self._routes: dict[Origin, Route] = {}
        self._active: set[Fetch] = set()
        self._queue: deque[Fetch] = deque()

    @classmethod
    def configure(cls, impl: str | type[AsyncHTTPClient] | None, **kwargs: Any) -> None:
        """Choose what `AsyncHTTPClient()` makes from now on, and with which arguments.

        :param impl: a subclass, or its dotted name; None, or one of Tornado's two implementations, means this class.
        :raises TypeError: it is no subclass.
        :raises ImportError: there is nothing of this name.
        """
        if isinstance(impl, str):
            module, _, name = impl.rpartition(".")
            if name in _ALIASES:
                impl = None
            else:
                try:
                    impl = getattr(import_module(module), name)
                except (AttributeError, ValueError):
                    raise ImportError(f"there is no client {impl!r}: expected the dotted name of a class") from None
        if impl is not None and not (isinstance(impl, type) and issubclass(impl, AsyncHTTPClient)):
            raise TypeError(f"configure: expected a subclass of AsyncHTTPClient, its dotted name or None, got {impl!r}")
        AsyncHTTPClient._configured = (impl, kwargs)

    @classmethod
    def configured_class(cls) -> type[AsyncHTTPClient]:
        """Return the class that `AsyncHTTPClient()` makes."""
        return AsyncHTTPClient._configured[0] or AsyncHTTPClient

    def close(self) -> None:
        """Close all connections. What is being fetched ends with an `HTTPStreamClosedError`.

        The loop's own client is closed with the loop; one made with `force_instance` is yours to close before. The
        loop's next client is a new one.
        """
        if self._closed:
            return
        self._closed = True
        if self._instances is not None:
            self.io_loop.remove_close_callback(self.close)
            for kind, instance in list(self._instances.items()):
                if instance is self:
                    del self._instances[kind]
        for fetch in [*self._queue, *self._active]:
            fetch.fail(HTTPStreamClosedError("Connection closed: the client was closed"))
        self.pool.close()
        if self._own_resolver:
            self.resolver.close()

    def fetch(
        self,
        request: str | HTTPRequest,
        callback: Callback | bool | None = None,
        raise_error: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Fetch a URL or an `HTTPRequest`.

        :param callback: called in the loop with the `HTTPResponse`, also if there was an error: see its `error`.
            (A bool here is `raise_error`, which is Tornado 6's second argument.)
        :param raise_error: False: a response whose code is no 2xx is returned, not raised.
        :param kwargs: options of `HTTPRequest`, if `request` is a URL.
        :returns: a Future of the `HTTPResponse`. Cancelling it closes the connection. It is done as soon as it fails:
            cancellation and errors leave nothing open.
        :raises HTTPClientError: from the Future: the code is no 2xx; its subclasses `HTTPTimeoutError`,
            `HTTPStreamClosedError`, `HTTPResponseError`, `HTTPProxyError`, all with the code 599.
        :raises OSError: from the Future: no connection (`ConnectionRefusedError`, `socket.gaierror`, `ssl.SSLError`).
        :raises ValueError, KeyError, HTTPInputError: from the Future: the request makes no sense.
        :raises RuntimeError: the client is closed.
        """
        if self._closed:
            raise RuntimeError("fetch() called on closed AsyncHTTPClient")
        if isinstance(callback, bool):
            raise_error = callback
            tell: Callback | None = None
        else:
            tell = wrap(callback)
        if not isinstance(request, HTTPRequest):
            request = HTTPRequest(request, **kwargs)
        elif kwargs:
            raise ValueError(f"options go into the HTTPRequest itself, got {', '.join(kwargs)} beside one")
        future: Any
        if type(self).fetch_impl is AsyncHTTPClient.fetch_impl:
            future = self._start(request, raise_error)
        else:
            future = self.io_loop.create_future()
            self.fetch_impl(request, partial(_settle, future, raise_error))
        if tell is not None:
            self.io_loop.add_future(future, partial(_tell, tell, request))
        return future

    def fetch_impl(self, request: HTTPRequest, callback: Callback) -> None:
        """Fetch, and call `callback` with the response; with one of code 599 and an `error` if there was none.

        `fetch` calls this where a subclass overrides it.
        """
        self.io_loop.add_future(self._start(request, False), partial(_tell, callback, request))

    def _start(self, request: HTTPRequest, raise_error: bool) -> Fetch:
        fetch = Fetch(self, request, raise_error)
        try:
            fetch.begin()
        except Exception as error:
            fetch.set_exception(error)
            return fetch
        if len(self._active) < self.max_clients:
            self._active.add(fetch)
            fetch.run()
        else:
            self._queue.append(fetch)
            fetch.wait_in_queue()
            gen_log.debug("max_clients reached: %d active, %d queued requests", len(self._active), len(self._queue))
        return fetch

    def release(self, fetch: Fetch) -> None:
        """A fetch is over, or was given up in the queue."""
        if fetch in self._active:
            self._active.discard(fetch)
            while self._queue and len(self._active) < self.max_clients:
                following = self._queue.popleft()
                self._active.add(following)
                following.leave_queue()
        else:
            try:
                self._queue.remove(fetch)
            except ValueError:
                pass

    def plain_route(self, origin: Origin) -> Route:
        """Return the way to `origin` for a request without options of its own."""
        route = self._routes.get(origin)
        if route is None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            route = self._routes[origin] = route_of(origin, self.settings)
        return route


def _settle(future: Any, raise_error: bool, response: HTTPResponse) -> None:
    """End a future as `fetch` promises it, with what `fetch_impl` has answered."""
    if future.done():
        return
    if response.error is not None and (raise_error or not response._error_is_response_code):
        future.set_exception(response.error)
    else:
        future.set_result(response)


def _tell(callback: Callback, request: HTTPRequest, done: Any) -> None:
    """Call a callback with a response, whatever became of the fetch."""
    if done.cancelled():
        return
    error = done.exception()
    if error is None:
        response = done.result()
    elif isinstance(error, HTTPClientError) and error.response is not None:
        response = error.response
    else:
        response = HTTPResponse(request, NO_RESPONSE, error=error, request_time=time.time() - request.start_time)
    callback(response)


class HTTPClient:
    """A client that blocks, on a loop of its own: for programs without one.

    :param async_client_class: what it works with, default `AsyncHTTPClient`.
    :param kwargs: its arguments.
    """

    def __init__(self, async_client_class: type[AsyncHTTPClient] | None = None, **kwargs: Any) -> None:
        self._closed = True
        kind = async_client_class or AsyncHTTPClient
        self._loop = IOLoop(make_current=False)

        async def make() -> AsyncHTTPClient:
            return kind(**kwargs)

        try:
            self._client: AsyncHTTPClient = self._loop.run_sync(make)
        except BaseException:
            self._loop.close()
            raise
        self._closed = False

    def fetch(self, request: str | HTTPRequest, **kwargs: Any) -> HTTPResponse:
        """Fetch, and return the response; see `AsyncHTTPClient.fetch`.

        :raises RuntimeError: a loop is running in this thread.
        """
        response: HTTPResponse = self._loop.run_sync(partial(self._client.fetch, request, **kwargs))
        return response

    def close(self) -> None:
        """Close connections and loop."""
        if not self._closed:
            self._closed = True
            self._client.close()
            self._loop.close()

    def __del__(self) -> None:
        self.close()
