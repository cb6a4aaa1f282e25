"""Frames by a second hand (RFC 6455 5.2), and a raw client that speaks them on the loop under test."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.web.client import Client, Web, get

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
OPENING = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
MASK = b"\x11\x22\x33\x44"


class Frame(NamedTuple):
    """A frame that has come."""

    first: int
    payload: bytes


def frame(first: int, payload: bytes = b"", mask: bytes | None = MASK) -> bytes:
    """Return a frame; `first` is its first byte."""
    bit = 0 if mask is None else 0x80
    length = len(payload)
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 1 << 16:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def closing(code: int | None, reason: str = "", mask: bytes | None = MASK) -> bytes:
    """Return a Close."""
    return frame(0x88, b"" if code is None else code.to_bytes(2, "big") + reason.encode(), mask)


class Peer:
    """A client that has done the opening handshake, or a server that was asked for it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.client.send(data)

    async def frame(self) -> Frame:
        """Return the next frame, which is not masked."""
        first, second = await self.client.exactly(2)
        assert second < 128, "masked"
        length = second
        if second > 125:
            length = int.from_bytes(await self.client.exactly(2 if second == 126 else 8), "big")
        return Frame(first, await self.client.exactly(length))

    async def closed(self) -> None:
        """Expect the end of the connection, and nothing before it."""
        assert await self.client.rest() == b""


async def connect(web: Web, server: Any, *lines: str, path: str = "/", **options: Any) -> Peer:
    """Connect and do the opening handshake."""
    client = await web.connect(server, **options)
    answer = await client.ask(get(path, *OPENING, *lines))
    assert answer.status == 101, answer
    assert answer.one("Sec-WebSocket-Accept") == ACCEPT
    return Peer(client)
