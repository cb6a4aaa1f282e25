"""`TCPClient`: connect to a host by name, with every address it has.

What the outside world fixes
----------------------------
* A name has several addresses, and any may be dead: refused at once, or silent for minutes. RFC 8305 (Happy Eyeballs)
  says how to try them: the families in turns (section 4), the next one as soon as one has failed or after the
  Connection Attempt Delay (section 5), and the first that answers wins.
* connect(2) on a non-blocking socket is done when the socket is writable, and SO_ERROR tells how it went. A poller may
  report readiness that is spurious, so no error is not yet success: getpeername(2) is.
* Two sockets cannot be bound to one source port, so with one the attempts come one after the other.

What was decided
----------------
* Attempts are raced on bare sockets. Whatever ends `connect` early (timeout, cancellation, an error) closes the losers
  and the handshake in one place, before anybody else sees the descriptors' numbers.
* Section 3 of the RFC asks for A and AAAA apart, so as to start with what comes first;
  getaddrinfo(3) does not offer it.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from itertools import chain, zip_longest
from typing import Any

from pollux.ioloop import IOLoop
from pollux.iostream import IOStream, SSLIOStream, StreamClosedError
from pollux.netutil import format_address, is_valid_ip, ssl_options_to_context
from pollux.poller import WRITE
from pollux.resolver import Addresses, Resolver
from pollux.stack_context import wrap

ATTEMPT_DELAY = 0.25  # seconds: the Connection Attempt Delay that RFC 8305 section 5 recommends


class TCPClient:
    """Makes connections.

    :param resolver: a `Resolver`, which the caller closes; None makes the configured one.
    :param io_loop: of Tornado up to 4, not looked at: `connect` works in the loop where it is awaited.
    """

    def __init__(self, resolver: Resolver | None = None, io_loop: IOLoop | None = None) -> None:
        self.resolver = Resolver() if resolver is None else resolver
        self._own_resolver = resolver is None

    def close(self) -> None:
        """Close the resolver, unless it was given."""
        if self._own_resolver:
            self.resolver.close()

    def connect(
        self,
        host: str,
        port: int,
        af: socket.AddressFamily = socket.AF_UNSPEC,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
        max_buffer_size: int | None = None,
        source_ip: str | None = None,
        source_port: int | None = None,
        timeout: float | datetime.timedelta | None = None,
        callback: Callable[[IOStream], Any] | None = None,
    ) -> Coroutine[Any, Any, IOStream]:
        """Connect, and with `ssl_options` do the TLS handshake.

        :param af: only addresses of this family.
        :param ssl_options: a context, or the dict that `netutil.ssl_options_to_context` takes; {} verifies the server
            against the authorities of the system. Its certificate must bear `host`.
        :param max_buffer_size: bytes that the stream keeps for its reader at most; None means the stream's default.
        :param source_ip: numeric address to connect from; only addresses of its family are tried then.
        :param source_port: port to connect from; addresses are then tried one after the other.
        :param timeout: seconds for all of it, or a timedelta; None waits without limit.
        :param callback: called in the loop with the stream; connecting then begins at once, and the loop logs an error.
        :returns: a coroutine of the stream (with `ssl_options`: an `SSLIOStream`), or with `callback` its task.
            Cancelling it leaves nothing open.
        :raises OSError: the name does not resolve (`socket.gaierror`), or the source address cannot be used.
        :raises StreamClosedError: no address could be connected to; `real_error` says why for each.
        :raises ssl.SSLError: the handshake failed; `ssl.SSLCertVerificationError`: whom we reached is not `host`.
        :raises TimeoutError: the time is over; its words tell the phase: resolving, connecting or the TLS handshake.
        """
        if isinstance(timeout, datetime.timedelta):
            timeout = timeout.total_seconds()
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"connect: timeout is a number of seconds, a timedelta or None, got {timeout!r}")
        if source_ip is not None and not is_valid_ip(source_ip):
            raise ValueError(f"connect: source_ip is a numeric IPv4 or IPv6 address, got {source_ip!r}")
        context = None if ssl_options is None else ssl_options_to_context(ssl_options, server_side=False)
        source = None if source_ip is None and source_port is None else (source_ip or "", source_port or 0)
        connecting = _Connecting(host, port, source, context, max_buffer_size).run(self.resolver, af, timeout)
        if callback is None:
            return connecting
        io_loop = IOLoop.current()
        task = io_loop.create_task(connecting)
        tell = wrap(callback)
        io_loop.add_future(task, lambda done: tell(done.result()))
        return task  # type: ignore[return-value]  # it may be awaited just the same


class _Connecting:
    """One call of `connect`: its target, and the phase it is in."""

    def __init__(
        self,
        host: str,
        port: int,
        source: tuple[str, int] | None,
        context: ssl.SSLContext | None,
        max_buffer_size: int | None,
    ) -> None:
        self.host, self.port = host, port
        self.source = source
        self.context = context
        self.max_buffer_size = max_buffer_size
        self.phase = f"while resolving {host}"
        self.reached: Any = None  # the address

    async def run(self, resolver: Resolver, family: socket.AddressFamily, timeout: float | None) -> IOStream:
        try:
            async with asyncio.timeout(timeout) as deadline:
                addresses = await resolver.resolve(self.host, self.port, family)
                sock = await self.race(self.in_turns(addresses))
                return self.stream(sock) if self.context is None else await self.handshake(sock, self.context)
        except TimeoutError as error:
            if not deadline.expired():  # a resolver's own, or the kernel's ETIMEDOUT
                raise
            raise TimeoutError(f"Timeout {self.phase}") from error

    def in_turns(self, addresses: Addresses) -> Addresses:
        """Order addresses for trying: the families in turns, beginning with that of the first (RFC 8305 section 4)."""
        if self.source is not None and self.source[0]:
            wanted = socket.AF_INET6 if ":" in self.source[0] else socket.AF_INET
            addresses = [each for each in addresses if each[0] == wanted]
            if not addresses:
                where = format_address((self.host, self.port))
                text = f"cannot connect to {where}: it has no address of the family of source_ip {self.source[0]}"
                raise OSError(errno.EADDRNOTAVAIL, text)
        first = [each for each in addresses if each[0] == addresses[0][0]]
        others = [each for each in addresses if each[0] != addresses[0][0]]
        return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]

    async def race(self, addresses: Addresses) -> socket.socket:
        """Connect to one of `addresses`."""
        names = ", ".join(format_address(address) for _, address in addresses)
        self.phase = f"while connecting to {names}"
        waiting = deque(addresses)
        attempts: dict[asyncio.Future[OSError | None], _Attempt] = {}
        errors: list[tuple[Any, OSError]] = []
        delay = ATTEMPT_DELAY if self.source is None or not self.source[1] else None
        try:
            while waiting or attempts:
                if waiting:
                    family, address = waiting.popleft()
                    try:
                        sock = socket.socket(family, socket.SOCK_STREAM)
                    except OSError as error:  # the kernel has no IPv6, or no more descriptors
                        errors.append((address, error.with_traceback(None)))  # it would know this frame
                        continue
                    attempt = _Attempt(sock, address)
                    attempts[attempt.done] = attempt
                    if self.source is not None:
                        self.bind(sock, family)
                    attempt.begin()
                done, _ = await asyncio.wait(
                    attempts, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for future in done:
                    attempt, failed = attempts.pop(future), future.result()
                    if failed is None:
                        self.reached = attempt.address
                        return attempt.sock
                    attempt.close()
                    errors.append((attempt.address, failed))
        finally:
            for attempt in attempts.values():
                attempt.close()
        where = format_address((self.host, self.port))
        if not errors:
            raise OSError(errno.EADDRNOTAVAIL, f"cannot connect to {where}: it resolves to no address")
        reasons = "; ".join(f"{format_address(address)}: {error.strerror or error}" for address, error in errors)
        failure = OSError(errors[0][1].errno, f"cannot connect to {where}: {reasons}")
        raise StreamClosedError(failure) from failure

    def bind(self, sock: socket.socket, family: int) -> None:
        """Bind to the source address. That fails for one as for all, so the error is the caller's."""
        source = self.source or ("", 0)
        try:
            sock.bind(source)
        except OSError as error:
            text = f"cannot connect from {format_address(source)}: {error.strerror}"
            raise OSError(error.errno, text) from None

    def stream(self, sock: socket.socket) -> IOStream:
        """Make a stream of a connected socket."""
        try:
            return IOStream(sock, self.max_buffer_size)
        except BaseException:
            sock.close()
            raise

    async def handshake(self, sock: socket.socket, context: ssl.SSLContext) -> SSLIOStream:
        """Do the TLS handshake as a client, and make a stream of the socket."""
        self.phase = f"during TLS handshake with {format_address(self.reached)}"
        try:
            sock.getpeername()  # of a reset connection, wrap_socket would leave its socket open
            sock = context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
            stream = SSLIOStream(sock, self.max_buffer_size)
        except BaseException:
            sock.close()
            raise
        try:
            return await stream.wait_for_handshake()
        except BaseException:
            stream.close()
            raise


class _Attempt:
    """A non-blocking connect(2) of one socket. `done` is its outcome, an error or None; without one, `close` it."""

    def __init__(self, sock: socket.socket, address: Any) -> None:
        self.sock, self.address = sock, address
        self.io_loop = IOLoop.current()
        self.done: asyncio.Future[OSError | None] = self.io_loop.create_future()
        self.watched = False

    def begin(self) -> None:
        """Start to connect."""
        self.sock.setblocking(False)
        try:
            self.sock.connect(self.address)
        except BlockingIOError:
            self.io_loop.add_handler(self.sock, self._writable, WRITE)
            self.watched = True
        except OSError as error:
            self.done.set_result(error.with_traceback(None))  # it would know this frame, and so what holds the error
        else:
            self.done.set_result(None)

    def _writable(self, sock: socket.socket, events: int) -> None:
        failed: OSError | None = None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            failed = OSError(number, os.strerror(number))
        else:
            try:
                sock.getpeername()
            except OSError as error:
                if error.errno == errno.ENOTCONN:
                    return  # spurious readiness
                failed = error.with_traceback(None)  # as in begin
        self._forget()
        self.done.set_result(failed)

    def _forget(self) -> None:
        if self.watched:
            self.watched = False
            self.io_loop.remove_handler(self.sock)

    def close(self) -> None:
        """Give up."""
        self._forget()
        self.sock.close()
