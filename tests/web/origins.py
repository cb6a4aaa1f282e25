"""Servers that answer what a test says, byte for byte, on whatever asyncio loop is running."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pollux_http import AsyncHTTPClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Request:
    """One request as it came."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """Return the only value of a header, None if it is absent."""
        values = self.all(name)
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None


class Peer:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> Request:
        """Return the next request, without its body."""
        data = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = data[:-4].split("\r\n")
        return Request(line, [(name, value) for name, _, value in (each.partition(": ") for each in lines)])

    async def request(self) -> Request:
        """Return the next request, whole."""
        found = await self.head()
        if found.one("Transfer-Encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                found.body += await self.reader.readexactly(size)
                assert await self.reader.readline() == b"\r\n"
            assert await self.reader.readline() == b"\r\n"
        else:
            found.body = await self.reader.readexactly(int(found.one("Content-Length") or 0))
        return found

    async def send(self, data: bytes) -> None:
        """Send, and wait until there is room for more."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed its side."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def end(self) -> None:
        """Close."""
        self.writer.close()

    def reset(self) -> None:
        """Close so that the client gets a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Origin:
    """A server. `requests` has what `answering` has read, `connections` how many there were."""

    port: int
    url: str
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


Serve = Callable[[Peer], Awaitable[Any]]


@asynccontextmanager
async def origin(
    serve: Serve | None = None, *answers: bytes, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Origin]:
    """Serve each connection with `serve`, or with the same `answers`, one for each request; then close it.

    What `serve` raises is raised here, in the end. That the client goes away is no error.
    """
    tasks: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        found.connections += 1
        peer = Peer(reader, writer)
        try:
            if serve is not None:
                await serve(peer)
            for answer in answers:
                found.requests.append(await peer.request())
                await peer.send(answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
                pass

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    found = Origin(port, f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}/")
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                raise error


@asynccontextmanager
async def client(**arguments: Any) -> AsyncIterator[AsyncHTTPClient]:
    """Make a client of its own, and close it."""
    made = AsyncHTTPClient(force_instance=True, **arguments)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)
