"""The command `pollux serve`: load the target, listen, serve until a signal, finish what runs."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

from pollux import IOLoop
from pollux.config import choose_backend, setting
from pollux.errors import PolluxError
from pollux.log import gen_log
from pollux.netutil import bind_sockets, bind_unix_socket
from pollux_http.server import HTTPServer, url_of
from pollux_web.application import Application, log_request
from pollux_web.target import load_target

GRACE = 30.0  # seconds that running requests get to finish: what process managers wait before they kill
CLEAN_UP = 1.0  # seconds that handlers get to clean up when they are cancelled, cut off as they are
INTERRUPTED = 130  # a shell's code for a process that Ctrl-C ended (128 + SIGINT)
UDS_MODE = 0o666  # a proxy in front usually runs as another user; the directory decides who gets there


class ListenError(PolluxError):
    """The address cannot be listened on."""


def serve(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    options: dict[str, Any] = {
        name: setting(name, getattr(args, name)).value for name in ("host", "port", "uds", "access_log", "log_level")
    }
    logging.basicConfig(level=options["log_level"].upper(), format="%(asctime)s %(levelname)s %(message)s")
    choice = choose_backend(args.backend)
    IOLoop.configure(choice.backend)  # before the target is loaded: loops that it makes are to be of the same kind
    loop = IOLoop(make_current=True)
    try:
        application = load_target(args.target)
        if options["access_log"] and isinstance(application, Application) and application.log_function is None:
            application.log_function = log_request
        _raise_descriptor_limit()
        server = HTTPServer(application)
        server.add_sockets(_listen(options))
        socket_file = _identity(options["uds"])

        def announce() -> None:
            for sock in server.sockets:
                gen_log.info(
                    "Serving %s on %s (poller: %s, by %s)",
                    args.target,
                    url_of(sock),
                    choice.backend.name,
                    choice.origin,
                )

        try:
            return loop.run_sync(lambda: _until_signalled(loop, server, announce))  # type: ignore[no-any-return]
        finally:
            server.stop()
            _cancel_tasks(loop)
            # Not if a successor listens there by now.
            if socket_file is not None and _identity(options["uds"]) == socket_file:
                os.unlink(options["uds"])
    finally:
        loop.close()


def _identity(path: str | None) -> tuple[int, int] | None:
    """Return device and inode of the file at `path`; None if there is none."""
    if not path:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listen(options: dict[str, Any]) -> list[socket.socket]:
    other = "--uds" if options["uds"] else "--port"
    try:
        if options["uds"]:
            return [bind_unix_socket(options["uds"], UDS_MODE)]
        return bind_sockets(options["port"], options["host"])
    except UnicodeError:  # from the IDNA codec
        raise ListenError(f"cannot listen on {options['host']!r}: it is no host name") from None
    except OSError as error:
        where = options["uds"] or f"{options['host']} port {options['port']}"
        reasons = {
            errno.EADDRINUSE: f"it is in use: stop who listens there, or choose another with {other}",
            errno.EACCES: "permission denied: ports below 1024 need privileges",
            errno.EADDRNOTAVAIL: "it is no address of this machine",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise ListenError(f"cannot listen on {where}: {reason}") from None


def _raise_descriptor_limit() -> None:
    """Raise the soft limit on open descriptors to the hard one: each connection is one, and the usual limit is
    1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # macOS refuses "unlimited"; the limit that is will do


def _cancel_tasks(loop: IOLoop) -> None:
    """Cancel what still runs, so that it can clean up."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_sync(lambda: asyncio.wait(tasks, timeout=CLEAN_UP))


async def _until_signalled(loop: IOLoop, server: HTTPServer, announce: Callable[[], None]) -> int:
    first: Any = loop.create_future()
    second: Any = loop.create_future()

    def signalled(number: signal.Signals) -> None:
        if not first.done():
            first.set_result(number)
        elif not second.done():
            second.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled, number)
    announce()  # not before: who reads it may send a signal at once
    received = await first
    if server.busy:
        gen_log.info("Stopping: %d running, up to %g s to finish (once more stops at once)", server.busy, GRACE)
    ending = loop.create_task(server.shutdown(GRACE))
    second.add_done_callback(lambda _: ending.cancel())
    try:
        cut_off = await ending
    except asyncio.CancelledError:
        cut_off = server.busy
        await server.shutdown(0)
    if cut_off:
        gen_log.warning("%d requests were cut off", cut_off)
    return INTERRUPTED if received == signal.SIGINT else 0
