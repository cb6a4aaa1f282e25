"""A raw HTTP client on the loop under test: it sends exactly what it is given and takes answers apart by itself."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from pollux import IOLoop
from pollux_http import HTTPServer, HTTPServerRequest

T = TypeVar("T")

PATIENCE = 30.0  # seconds: only turns a hang into a failure
HEAD = b"Host: a\r\n"


def get(path: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request without a body."""
    host = () if any(line.lower().startswith("host:") for line in lines) else ("Host: a",)
    return "\r\n".join([f"{method} {path} HTTP/{version}", *host, *lines, "", ""]).encode("latin-1")


def post(path: str, body: bytes, *lines: str, method: str = "POST") -> bytes:
    """Return a request with Content-Length."""
    return get(path, *lines, f"Content-Length: {len(body)}", method=method) + body


class Answer(NamedTuple):
    """One response."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """Return the only value of a header, None if it is absent."""
        values = self.all(name)
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.eof = False

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _more(self) -> bool:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 20)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        self.eof = not data
        return not self.eof

    async def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            assert await self._more(), f"the connection ended within {self.buffer[:200]!r}"
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def exactly(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        pieces, left = [], count
        while True:
            piece, self.buffer = self.buffer[:left], self.buffer[left:]
            pieces.append(piece)
            left -= len(piece)
            if not left:
                return b"".join(pieces)
            assert await self._more(), f"the connection ended {left} of {count} bytes early"

    async def rest(self) -> bytes:
        """Return what comes until the end of the connection."""
        while await self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    async def answer(self, method: str = "GET") -> Answer:
        """Return the next response; framing as RFC 9112 6.3 has it."""
        version, status, reason = (await self._line()).decode("latin-1").split(" ", 2)
        assert version == "HTTP/1.1"
        headers = []
        while line := await self._line():
            name, colon, value = line.decode("latin-1").partition(": ")
            assert colon, line
            assert re.fullmatch(r"[!-9;-~]+", name), line
            headers.append((name, value))
        answer = Answer(int(status), reason, headers, b"")
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer.one("Transfer-Encoding") == "chunked":
            assert answer.one("Content-Length") is None
            body = b""
            while size := int(await self._line(), 16):
                body += await self.exactly(size)
                assert await self._line() == b""
            assert await self._line() == b""
        elif (length := answer.one("Content-Length")) is not None:
            body = await self.exactly(int(length))
        else:
            body = await self.rest()
        return answer._replace(body=body)

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        """Send a request and return the response."""
        await self.send(data)
        return await self.answer(method)

    def end(self) -> None:
        """End our side: the server reads an end of file, and may still answer."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the server gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close."""
        self.sock.close()


class Web:
    """A loop, with servers and clients on it."""

    def __init__(self, loop: IOLoop, patience: float | None = PATIENCE) -> None:
        self.loop = loop
        self.patience = patience
        self.servers: list[HTTPServer] = []
        self.clients: list[Client] = []

    def serve(self, callback: Callable[[HTTPServerRequest], object], **options: Any) -> HTTPServer:
        """Start a server on a free port."""
        server = HTTPServer(callback, **options)
        server.listen(0, "127.0.0.1")
        self.servers.append(server)
        return server

    async def connect(self, server: HTTPServer, receive_buffer: int | None = None) -> Client:
        """Connect to `server`."""
        sock = socket.socket()
        client = Client(sock)
        self.clients.append(client)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await self.loop.sock_connect(sock, server.sockets[0].getsockname())
        return client

    async def ask(self, server: HTTPServer, data: bytes, method: str = "GET") -> Answer:
        """Send a request on a connection of its own, and return the response."""
        client = await self.connect(server)
        try:
            return await client.ask(data, method)
        finally:
            client.close()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, but not for ever."""

        async def bounded() -> T:
            async with asyncio.timeout(self.patience):
                return await main

        result: T = self.loop.run_sync(bounded)
        return result

    def close(self) -> None:
        """Close everything and let the loop see it."""
        for client in self.clients:
            client.close()

        async def end() -> None:
            for server in self.servers:
                await server.shutdown(0)
            for _ in range(3):
                await asyncio.sleep(0)

        self.loop.run_sync(end)
        self.loop.close()
        gc.collect()
