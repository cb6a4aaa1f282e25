"""What is sent: one binary message, masked, in one frame. The right answer is the same message without a mask."""

import socket
from dataclasses import dataclass

KEY = b"\x12\x34\x56\x78"
OPENING = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _frame(payload: bytes, key: bytes = b"") -> bytes:
    """Return a binary message (RFC 6455 5.2), masked if there is a key."""
    length = len(payload)
    bit = 0x80 if key else 0
    if length < 126:
        head = bytes((0x82, bit | length))
    elif length < 1 << 16:
        head = bytes((0x82, bit | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x82, bit | 127)) + length.to_bytes(8, "big")
    if not key:
        return head + payload
    whole = (key * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return head + key + masked.to_bytes(length, "big")


@dataclass(frozen=True, slots=True)
class Case:
    """One message, echoed over and over.

    :param name: the word on the command line.
    :param summary: one line for the table.
    :param message: what is sent.
    """

    name: str
    summary: str
    message: bytes
    echo = True
    opening = OPENING

    def request(self, port: int) -> bytes:
        """Return the message as a client's frame."""
        return _frame(self.message, KEY)

    def answer(self) -> bytes:
        """Return the message as a server's frame."""
        return _frame(self.message)

    def fault(self, port: int) -> str | None:
        """Send the message in two parts; return what is wrong with the echo, or None."""
        request, expected, got = self.request(port), self.answer(), b""
        half = len(request) // 2
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(OPENING)
                while b"\r\n\r\n" not in got and (data := connection.recv(65536)):
                    got += data
                head, _, got = got.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 101"):
                    return f"the opening was answered {head[:100]!r}"
                if b"permessage-deflate" in head:
                    return "it compresses, which was not asked for"
                for part in (request[:half], request[half:]):
                    connection.sendall(part)
                while len(got) < len(expected) and (data := connection.recv(65536)):
                    got += data
        except OSError as error:
            return f"after {len(got)} bytes: {type(error).__name__}: {error}"
        return None if got == expected else f"{len(got)} bytes came back for {len(expected)}: {got[:100]!r}"


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("64", "64 B", b"x" * 64),
        Case("16k", "16 KiB", bytes(range(256)) * 64),
        Case("1m", "1 MiB", bytes(range(256)) * 4096),
    )
}
