"""What is sent, and by which interface a server reads it: the right answer is always the message itself."""

import socket
from dataclasses import dataclass

LINE = b"Y" * 63 + b"\n"
BLOCK = bytes(range(256)) * 64


@dataclass(frozen=True, slots=True)
class Case:
    """One message, echoed over and over.

    :param name: the word on the command line, and the servers' argument.
    :param summary: one line for the table.
    :param message: what is sent.
    """

    name: str
    summary: str
    message: bytes
    echo = True

    def request(self, port: int) -> bytes:
        """Return the message."""
        return self.message

    def answer(self) -> bytes:
        """Return the message."""
        return self.message

    def fault(self, port: int) -> str | None:
        """Send the message in two parts; return what is wrong with the echo, or None."""
        half = len(self.message) // 2
        got = b""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                for part in (self.message[:half], self.message[half:]):
                    connection.sendall(part)
                while len(got) < len(self.message) and (data := connection.recv(65536)):
                    got += data
        except OSError as error:
            return f"after {len(got)} bytes: {type(error).__name__}: {error}"
        if got != self.message:
            return f"{len(got)} bytes came back for {len(self.message)}: {got[:100]!r}"
        return None


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("protocol", "64 B, Protocol: data_received -> transport.write", LINE),
        Case("protocol-16k", "16 KiB, Protocol: data_received -> transport.write", BLOCK),
        Case("line", "64 B lines: await read_until(b'\\n') of an IOStream, else readline() of asyncio's streams", LINE),
        Case("block", "16 KiB blocks: await read_bytes(16384) of an IOStream, else readexactly(16384)", BLOCK),
    )
}
