"""From a `Route` to a stream: name, TCP, the tunnel through a proxy (RFC 9110 9.3.6), TLS; each phase with its time.

Nothing survives a failure, a timeout or a cancellation: whatever was open is closed.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from pollux.ioloop import IOLoop
from pollux.iostream import IOStream, StreamClosedError
from pollux.netutil import format_address
from pollux.readbuffer import UnsatisfiableReadError
from pollux.resolver import Addresses, Resolver
from pollux.tcpclient import TCPClient
from pollux_http.client_errors import HTTPProxyError
from pollux_http.errors import HTTPInputError
from pollux_http.response import SERVER_NAME
from pollux_http.response_parsing import parse_head
from pollux_http.route import Route


class Phases:
    """When each phase of connecting ended, by the loop's clock; 0 if there was none."""

    __slots__ = ("appconnect", "connect", "namelookup")

    def __init__(self) -> None:
        self.namelookup = self.connect = self.appconnect = 0.0


class _Clocked(Resolver):
    """A resolver that notes when it was done."""

    resolver: Resolver
    phases: Phases

    def initialize(self, resolver: Resolver, phases: Phases) -> None:  # type: ignore[override]
        self.resolver, self.phases = resolver, phases

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        addresses = await self.resolver.resolve(host, port, socket.AddressFamily(family))
        self.phases.namelookup = IOLoop.current().time()
        return addresses


async def connect(
    route: Route,
    resolver: Resolver,
    phases: Phases,
    timeout: float | None,
    max_buffer_size: int,
    max_header_size: int,
) -> IOStream:
    """Connect by `route`.

    :param timeout: seconds for all phases together; None for no limit.
    :raises TimeoutError: the time is over; its words tell the phase.
    :raises HTTPProxyError: the proxy refuses.
    :raises OSError: as `TCPClient.connect` does, but `StreamClosedError` only where there is no better one.
    """
    loop = IOLoop.current()
    deadline = None if timeout is None else loop.time() + timeout
    host, port = route.proxy or (route.origin.host, route.origin.port)
    try:
        stream = await TCPClient(_Clocked(resolver, phases)).connect(
            host, port, route.family, max_buffer_size=max_buffer_size, source_ip=route.source_ip, timeout=timeout
        )
    except StreamClosedError as error:
        raise error.real_error or error from None
    phases.connect = loop.time()
    phase = ""
    try:
        stream.set_nodelay(True)
        if route.context is None:
            return stream
        async with asyncio.timeout_at(deadline) as limit:
            if route.proxy is not None:
                phase = f"while asking the proxy {format_address(route.proxy)} for a tunnel to {route.origin.authority}"
                await tunnel(stream, route, max_header_size)
            phase = f"during TLS handshake with {route.origin.authority}"
            stream = await stream.start_tls(False, route.context, server_hostname=route.origin.host)
        phases.appconnect = loop.time()
    except BaseException as error:
        stream.close()
        if isinstance(error, TimeoutError) and limit.expired():
            raise TimeoutError(f"Timeout {phase}") from error
        raise
    return stream


async def tunnel(stream: IOStream, route: Route, max_header_size: int) -> None:
    """Ask the proxy to connect us.

    :param stream: to the proxy.
    :raises HTTPProxyError: it refuses.
    """
    lines = [
        f"CONNECT {route.origin.authority} HTTP/1.1", f"Host: {route.origin.authority}", f"User-Agent: {SERVER_NAME}"
    ]  # fmt: skip
    if route.credentials:
        lines.append(f"Proxy-Authorization: {route.credentials}")
    stream.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
    proxy: Any = format_address(route.proxy)
    try:
        head = parse_head(await stream.read_until(b"\r\n\r\n", max_bytes=max_header_size))
        while head.code < 200 and head.code != 101:
            head = parse_head(await stream.read_until(b"\r\n\r\n", max_bytes=max_header_size))
    except (HTTPInputError, StreamClosedError, UnsatisfiableReadError) as error:
        raise HTTPProxyError(
            f"no answer in HTTP from the proxy {proxy} to CONNECT {route.origin.authority}: {error}"
        ) from None
    if not 200 <= head.code < 300:
        raise HTTPProxyError(
            f"the proxy {proxy} refused the tunnel to {route.origin.authority}: {head.code} {head.reason}", head.code
        )
