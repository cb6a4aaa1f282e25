"""`Assembly`: a message on its way in, from the pieces of its payload as they come. This module knows no frames.

Text is decoded as it comes, so that what is no UTF-8 is noticed at the first byte that cannot be right (RFC 6455 8.1),
wherever the pieces begin and end, compressed or not. What is kept are bytes: decoding ASCII once more costs next to
nothing, while `StringIO` takes eight bytes a character. Large pieces are kept as they are and joined once, tiny ones at
once: a list of those would cost fifty times their size.
"""

from __future__ import annotations

import codecs
from typing import Any

from pollux_websocket.deflate import Inflater
from pollux_websocket.errors import ViolationError
from pollux_websocket.frames import INVALID_DATA, TOO_BIG

LARGE = 4096  # bytes: what an object and its place in a list cost is little beside that

_decoder = codecs.getincrementaldecoder("utf-8")


class Assembly:
    """One message.

    :param text: it is text.
    :param inflater: None if it is not compressed.
    :param limit: bytes that the message may have in the end. Compressed it may have a little more than that: DEFLATE
        adds 5 bytes to each 16 KiB that it cannot compress (RFC 1951 3.2.4).
    :ivar fragments: frames so far.
    """

    __slots__ = ("_decoder", "_inflater", "_left", "_limit", "_pieces", "_room", "fragments")

    def __init__(self, text: bool, inflater: Inflater | None, limit: int) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._decoder: Any = _decoder() if text else None
        self._inflater = inflater
        self._limit = limit
        self._left = limit  # bytes that may come out still
        self._room = limit if inflater is None else limit + limit // 1024 + 64  # bytes of payload that may come still
        self.fragments = 0

    def announce(self, size: int) -> None:
        """A frame begins whose payload has `size` bytes.

        :raises ViolationError: it is more than may come.
        """
        self.fragments += 1
        self._room -= size
        if self._room < 0:
            raise ViolationError(TOO_BIG, f"the message is above {self._limit} bytes")

    def add(self, piece: bytes) -> None:
        """Take a piece of the payload.

        :raises ViolationError: it is not UTF-8, not compressed as agreed, or becomes too much.
        """
        if self._inflater is not None:
            piece = self._inflater.inflate(piece, self._left)
        self._append(piece, False)

    def finish(self) -> str | bytes:
        """Return the message, which is complete.

        :raises ViolationError: see `add`.
        """
        self._append(b"" if self._inflater is None else self._inflater.end(self._left), True)
        message = b"".join(self._pieces)
        return message if self._decoder is None else message.decode()

    def _append(self, piece: bytes, final: bool) -> None:
        self._left -= len(piece)
        pieces = self._pieces
        if len(piece) >= LARGE:
            pieces.append(piece)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += piece
        elif piece:
            pieces.append(bytearray(piece))
        decoder = self._decoder
        if decoder is None:
            return
        try:
            decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise ViolationError(INVALID_DATA, "a text message is not UTF-8") from None
        # ED A0 to ED BF begin surrogates. Python waits for the third byte, as it has an error handler that takes them.
        pending = decoder.getstate()[0]
        if len(pending) == 2 and pending[0] == 0xED and pending[1] >= 0xA0:
            raise ViolationError(INVALID_DATA, "a text message is not UTF-8")
