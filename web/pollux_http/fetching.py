"""`Fetch`: one call of `AsyncHTTPClient.fetch`, from the queue to the response. It is the Future that `fetch` returns.

    queued -> connecting -> exchange -> done
                 ^             |
                 +-------------+   a redirect, or once again after an idle connection turned out to be dead

A fetch on a connection that stands takes no task and one timer. Callbacks of the caller run in the contextvars and
stack contexts of the call, never in those of whoever made the connection.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from pollux.stack_context import wrap
from pollux_http.client_connection import ClientConnection
from pollux_http.client_errors import HTTPTimeoutError
from pollux_http.client_request import NOTHING_CHOSEN, HTTPRequest, chosen, merged
from pollux_http.client_response import HTTPResponse
from pollux_http.connecting import Phases, connect
from pollux_http.exchange import Exchange
from pollux_http.redirects import is_redirect, redirected
from pollux_http.request_head import request_head
from pollux_http.response_parsing import Head
from pollux_http.route import route_of
from pollux_http.target import parse_url

if TYPE_CHECKING:
    from pollux_http.client import AsyncHTTPClient

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110 9.2.2


class Fetch(asyncio.Future[HTTPResponse]):
    """Made for each call; the client calls `begin`.

    :ivar request: the first request.
    :ivar current: the present one, after redirects.
    :ivar started: when it left the queue or was redirected, by the loop's clock.
    """

    __slots__ = (
        "_crossed", "_exchange", "_hops_left", "_phases", "_queued_for", "_raise_error", "_redirecting", "_retried",
        "_task", "_timer", "began", "client", "context", "current", "head", "header_callback", "loop", "producer",
        "request", "route", "settings", "start_time", "started", "streaming", "target",
    )  # fmt: skip

    def __init__(self, client: AsyncHTTPClient, request: HTTPRequest, raise_error: bool) -> None:
        self.loop = client.io_loop
        super().__init__(loop=self.loop)
        self.client = client
        self.request = self.current = request
        self._raise_error = raise_error
        self._crossed = False  # a redirect led to another origin: the credentials stay behind
        self._exchange: Exchange | None = None
        self._phases: Phases | None = None  # of the connection, if it was made for this fetch
        self._queued_for = self._redirecting = 0.0  # seconds
        self._retried = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        """Check the request, and make of it what is sent. Whatever is wrong with it is found here.

        :raises ValueError, KeyError, OSError, HTTPInputError: see `request_head` and `route_of`.
        """
        client = self.client
        request = self.current
        self.target = target = parse_url(request.url)
        values = chosen(request)
        plain = values == NOTHING_CHOSEN and not client.special
        if plain:
            self.settings = client.settings
            self.route = client.plain_route(target.origin)
            self.streaming = self.producer = self.header_callback = None
        else:
            settings = merged(values, client.settings)
            if self._crossed:
                settings = settings._replace(auth_username=None, auth_password=None)
            self.settings = settings
            self.route = route_of(target.origin, settings)
            self.streaming = wrap(settings.streaming_callback)
            self.producer = wrap(settings.body_producer)
            self.header_callback = wrap(settings.header_callback)
        proxy = self.route.credentials if self.route.proxy is not None and not target.origin.tls else None
        self.head = request_head(request, self.settings, target, proxy)

    def begin(self) -> None:
        """Take the present time and contexts, and prepare.

        :raises Exception: see `prepare`.
        """
        self.began = self.started = self.loop.time()
        self.prepare()
        if self.streaming is not None or self.producer is not None or self.header_callback is not None:
            self.context: Context = copy_context()
        self._hops_left = self.settings.max_redirects if self.settings.follow_redirects else 0

    # The ways through

    def wait_in_queue(self) -> None:
        """All clients are busy: wait, but not for ever."""
        timeout = self._connect_timeout()
        if timeout is not None:
            self._timer = self.loop.call_at(self.began + timeout, self._late, context=self.client.context)

    def leave_queue(self) -> None:
        """It is our turn."""
        self._queued_for = self.loop.time() - self.began
        self._cancel_timer()
        self.run()

    def run(self) -> None:
        """Send the present request, on a connection that stands or a new one."""
        self.started = self.loop.time()
        self.start_time = time.time()
        pool = self.client.pool
        while (connection := pool.take(self.route)) is not None:
            # What can be retried need not be asked for: the loop has seen a close that is older than this iteration.
            if not connection.stream.closed() and (self.may_retry() or connection.alive()):
                self._run_on(connection)
                return
            connection.close()
        self._connect()

    def _connect_timeout(self) -> float | None:
        limits = [each for each in (self.settings.connect_timeout, self.settings.request_timeout) if each]
        return min(limits) if limits else None

    def _connect(self) -> None:
        self._phases = Phases()
        timeout = self._connect_timeout()
        if timeout is not None:
            timeout = max(0.0, self.started + timeout - self.loop.time())
        # In a context of its own: the connection outlives this fetch, and must not keep what belongs to it.
        self._task = self.loop.create_task(self._connected(self._phases, timeout), context=Context())

    async def _connected(self, phases: Phases, timeout: float | None) -> None:
        client = self.client
        try:
            stream = await connect(
                self.route, client.resolver, phases, timeout, client.max_buffer_size, client.max_header_size
            )
            connection = ClientConnection(stream, self.route, client.pool)
        except TimeoutError as error:
            self._task = None
            self.fail(HTTPTimeoutError(str(error)) if str(error).startswith("Timeout") else error)
        except Exception as error:
            self._task = None
            self.fail(error)
        else:
            self._task = None
            self._run_on(connection)

    def _run_on(self, connection: ClientConnection) -> None:
        if self.settings.request_timeout:
            when = self.started + self.settings.request_timeout
            self._timer = self.loop.call_at(when, self._late, context=self.client.context)
        self._exchange = exchange = Exchange(self, connection)
        exchange.start()

    # What the exchange asks and tells

    def follows(self, head: Head) -> bool:
        """Return whether a response is a redirect that we follow."""
        return self._hops_left > 0 and is_redirect(head, self.current.method, self.producer is not None)

    def may_retry(self) -> bool:
        """Return whether the request may be sent again: that changes nothing, and can be done."""
        return not self._retried and self.current.method in IDEMPOTENT and self.producer is None

    def retry(self) -> None:
        """Send the request again, on a new connection."""
        self._retried = True
        self._cancel_timer()
        self._exchange = None
        self._connect()

    def responded(self, exchange: Exchange) -> None:
        """The response is complete, or the redirect to follow is known."""
        self._cancel_timer()
        self._exchange = None
        head = exchange.head
        if head is None or self.done():
            return
        if exchange.redirect:
            self._redirect(head)
            return
        now = self.loop.time()
        response = HTTPResponse.of(
            self.request,
            head,
            exchange.body,
            self.current.url,
            now - self.started,
            self._time_info(exchange, now),
            self.start_time,
        )
        self.client.release(self)
        if response.error is not None and self._raise_error:
            self.set_exception(response.error)
        else:
            self.set_result(response)

    def _time_info(self, exchange: Exchange, now: float) -> dict[str, float]:
        started = self.started
        phases = self._phases
        info = {
            "queue": self._queued_for,
            "namelookup": 0.0,
            "connect": 0.0,
            "appconnect": 0.0,
            "pretransfer": 0.0,
            "starttransfer": exchange.first_byte - started,
            "total": now - started,
            "redirect": self._redirecting,
        }
        if phases is not None:
            info["namelookup"] = max(0.0, phases.namelookup - started)
            info["connect"] = phases.connect - started
            info["appconnect"] = max(0.0, phases.appconnect - started)
            info["pretransfer"] = info["appconnect"] or info["connect"]
        return info

    def _redirect(self, head: Head) -> None:
        before = self.target.origin
        try:
            self.current = redirected(self.current, head)
            self._crossed = self._crossed or parse_url(self.current.url).origin != before
            self.prepare()
        except Exception as error:
            self.fail(error)
            return
        self._hops_left -= 1
        self._retried = False
        self._phases = None
        self._redirecting += self.loop.time() - self.started
        self.run()

    # Ends

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self._stop()
        if not self.done():
            if isinstance(error, StopIteration):  # a Future takes none
                error = RuntimeError(f"a callback raised {error!r}")
            self.set_exception(error)

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up: the connection is closed, or the place in the queue is free, when this returns."""
        if not super().cancel(msg):
            return False
        self._stop()
        return True

    def _stop(self) -> None:
        self._cancel_timer()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abort()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self.client.release(self)

    def _late(self) -> None:
        self._timer = None
        where = "in request queue" if self._exchange is None else f"during request, {self._exchange.phase}"
        self.fail(HTTPTimeoutError(f"Timeout {where}"))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
