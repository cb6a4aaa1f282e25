"""`Worker`: one process of `pollux serve`: load the application, start it, serve until a signal, finish what runs."""

from __future__ import annotations

import asyncio
import signal
import ssl
from typing import Any

from pollux import IOLoop
from pollux.config import Choice
from pollux.errors import PolluxError
from pollux.log import gen_log
from pollux.netutil import hold_off
from pollux.supervisor import INTERRUPTED, Link, watch_link
from pollux_http.access_log import log_access
from pollux_http.server import HTTPServer, url_of
from pollux_web.application import Application, log_request
from pollux_web.listening import Listening
from pollux_web.target import load_application

DRAIN = 0.5  # seconds: about what a client that has just connected, or uses a connection steadily, takes to ask
CLEAN_UP = 1.0  # seconds that handlers get to clean up when they are cancelled, cut off as they are


class Worker:
    """Serves `target` as `options` say, the settings of `pollux serve` by name.

    :param choice: the poller.
    :param link: to the supervisor; None if there is none.
    """

    def __init__(
        self, target: str, options: dict[str, Any], choice: Choice, listening: Listening, link: Link | None = None
    ) -> None:
        self.target = target
        self.options = options
        self.choice = choice
        self.listening = listening
        self.link = link

    def run(self) -> int:
        """Serve until a signal; return the exit code.

        :raises pollux.errors.PolluxError: the application cannot be loaded, or does not start.
        """
        IOLoop.configure(self.choice.backend)  # before the target is loaded: loops that it makes are to be of that kind
        loop = IOLoop(make_current=True)
        try:
            server = self._server()
            try:
                return loop.run_sync(lambda: self._serve(loop, server))  # type: ignore[no-any-return]
            finally:
                server.stop()
                _cancel_tasks(loop)
        finally:
            loop.close()

    def _server(self) -> HTTPServer:
        options = self.options
        application, interface = load_application(
            self.target, interface=options["interface"], factory=options["factory"], app_dir=options["app_dir"]
        )
        app_options = {}
        if interface != "pollux":
            app_options = {name: options[name] for name in ("root_path", "lifespan", "wsgi_threads")}
            app_options["settings"] = _websocket_settings(options)
        try:
            server = HTTPServer(
                application,
                interface=interface,
                proxies=_listed(options["forwarded_allow_ips"]) if options["proxy_headers"] else None,
                proxy_protocol=options["proxy_protocol"],
                max_connections=options["max_connections"],
                limit_concurrency=options["limit_concurrency"],
                ssl_options=_tls(options),
                **app_options,
            )
        except ValueError as error:  # of forwarded_allow_ips
            raise PolluxError(str(error)) from None
        if options["access_log"]:
            if interface != "pollux":
                server.application.log_function = log_access  # type: ignore[attr-defined]
            elif isinstance(application, Application) and application.log_function is None:
                application.log_function = log_request
        return server

    async def _serve(self, loop: IOLoop, server: HTTPServer) -> int:
        first: Any = loop.create_future()
        second: Any = loop.create_future()

        def signalled(number: signal.Signals) -> None:
            if not first.done():
                first.set_result(number)
            elif not second.done():
                second.set_result(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, signalled, number)
        if self.link is not None:
            watch_link(self.link, loop, lambda: signalled(signal.SIGTERM))
        starting = loop.create_task(server.startup())
        await asyncio.wait([first, starting], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        else:
            starting.result()
            server.add_sockets(self.listening.sockets())
            self._announce(server)  # not before: who reads it may send a signal at once
            if self.link is not None:
                self.link.ready()
        received = await first
        await self._stop(loop, server, second)
        return INTERRUPTED if received == signal.SIGINT else 0

    def _announce(self, server: HTTPServer) -> None:
        scheme = "http" if server.ssl_options is None else "https"
        name, origin = self.choice.backend.name, self.choice.origin
        for sock in server.sockets:
            gen_log.info("Serving %s on %s (poller: %s, by %s)", self.target, url_of(sock, scheme), name, origin)

    async def _stop(self, loop: IOLoop, server: HTTPServer, second: Any) -> None:
        grace = self.options["timeout_graceful_shutdown"]
        if server.busy:
            gen_log.info("Stopping: %d running, up to %g s to finish (once more stops at once)", server.busy, grace)
        # Beside other workers, or before a successor, on the same port: the clients' next connection goes there.
        drain = DRAIN if self.link is not None and not self.options["reload"] else 0.0
        if drain and self.listening.own:
            for sock in server.sockets:
                hold_off(sock)
        ending = loop.create_task(server.shutdown(grace, drain))
        second.add_done_callback(lambda _: ending.cancel())
        try:
            cut_off = await ending
        except asyncio.CancelledError:
            cut_off = server.busy
            await server.shutdown(0)
        if cut_off:
            gen_log.warning("%d requests were cut off", cut_off)


def _websocket_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `pollux_websocket.asgi` that were asked for."""
    names = ("websocket_max_message_size", "websocket_ping_interval", "websocket_ping_timeout")
    settings = {name: options[name] for name in names if options[name] is not None}
    if options["websocket_compression"]:
        settings["websocket_compression"] = {}
    return settings


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    """Return the context that the ssl_* settings ask for, None for plain HTTP.

    :raises PolluxError: they do not go together, or a file is not what it should be.
    """
    certificate = options["ssl_certfile"]
    if certificate is None:
        others = [name for name in options if name.startswith("ssl_") and options[name] is not None]
        if others:
            raise PolluxError(f"{others[0]} without ssl_certfile: TLS needs a certificate")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    what = certificate
    try:
        # A password that is none keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(certificate, options["ssl_keyfile"], options["ssl_keyfile_password"] or "")
        if options["ssl_ca_certs"] is not None:
            what = options["ssl_ca_certs"]
            context.load_verify_locations(what)
            context.verify_mode = ssl.CERT_REQUIRED
        if options["ssl_ciphers"] is not None:
            what = options["ssl_ciphers"]
            context.set_ciphers(what)
    except OSError as error:  # ssl.SSLError is one
        raise PolluxError(f"TLS: cannot use {what!r}: {error.strerror or error}") from None
    return context


def _cancel_tasks(loop: IOLoop) -> None:
    """Cancel what still runs, so that it can clean up."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_sync(lambda: asyncio.wait(tasks, timeout=CLEAN_UP))
