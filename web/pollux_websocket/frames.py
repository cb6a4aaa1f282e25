"""Frames to bytes, and what may stand in a Close (RFC 6455 5.2, 5.5, 7.4). This module keeps no state.

0                   1                   2                   3
+-+-+-+-+-------+-+-------------+-------------------------------+
|F|R|R|R| opcode|M| length      | length, 16 bits, if 126       |
|I|S|S|S|  (4)  |A|     (7)     | or 64 bits, if 127; shortest  |
|N|V|V|V|       |S|             | form only (5.2)               |
| |1|2|3|       |K|             |                               |
+-+-+-+-+-------+-+-------------+-------------------------------+
| masking key, 4 bytes, from a client to a server only; payload |
+---------------------------------------------------------------+
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pollux_websocket.errors import ViolationError
from pollux_websocket.masking import mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONTROL = 0x8  # the bit that control frames have and data frames have not
CONTROL_SIZE = 125  # bytes: 5.5

NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
INVALID_DATA, POLICY_VIOLATION, TOO_BIG, INTERNAL_ERROR = 1007, 1008, 1009, 1011
# 7.4.1: never sent, but reported: a Close without a code, and an end without a Close.
NO_STATUS, NO_CLOSE = 1005, 1006

# 7.4.1, and IANA's registry, which has added 1012 to 1014. 1004, 1005, 1006 and 1015 are never sent.
_REGISTERED = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

_SHORT_TEXT = [bytes((FIN | TEXT, length)) for length in range(126)]
_SHORT_BINARY = [bytes((FIN | BINARY, length)) for length in range(126)]
SHORT_HEADS = (_SHORT_TEXT, _SHORT_BINARY)
"""Heads of a server's short messages: `SHORT_HEADS[binary][length]`."""


class Ping(NamedTuple):
    """A Ping; the answer is a Pong with the same payload."""

    payload: bytes


class Pong(NamedTuple):
    """A Pong, asked for or not."""

    payload: bytes


class Close(NamedTuple):
    """The end of what the peer sends.

    :param code: None if it has sent none.
    :param reason: for people, "" for none.
    """

    code: int | None
    reason: str


class Failure(NamedTuple):
    """The peer did what it must not; answer with a Close of this code and reason, and end the connection."""

    code: int
    reason: str


def may_be_sent(code: int) -> bool:
    """Return whether a Close may hold `code` (7.4.2: 3000 to 3999 are registered, 4000 to 4999 private)."""
    return code in _REGISTERED or 3000 <= code <= 4999


def close_payload(code: int | None, reason: str) -> bytes:
    """Return the payload of a Close. A reason that is too long is cut, between two characters.

    :raises ValueError: the code may not be sent, or there is a reason without a code.
    """
    if code is None:
        if reason:
            raise ValueError(f"a Close with a reason needs a code: give 1000 for {reason!r}")
        return b""
    if not may_be_sent(code):
        raise ValueError(f"a Close holds a code of 1000 to 1003, 1007 to 1014 or 3000 to 4999, got {code!r}")
    return code.to_bytes(2, "big") + reason.encode()[: CONTROL_SIZE - 2].decode("utf-8", "ignore").encode()


def parse_close(payload: bytes) -> Close:
    """Take the payload of a Close apart.

    :raises ViolationError: it is a single byte, the code may not be sent, or the reason is no UTF-8.
    """
    if not payload:
        return Close(None, "")
    if len(payload) == 1:
        raise ViolationError(PROTOCOL_ERROR, "a Close of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise ViolationError(PROTOCOL_ERROR, f"a Close with code {code}")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise ViolationError(INVALID_DATA, "the reason of a Close is not UTF-8") from None


def head(first: int, length: int, masked: bool = False) -> bytes:
    """Return the head of a frame, without a masking key.

    :param first: the first byte: FIN, RSV bits and opcode.
    :param length: of the payload, bytes.
    """
    bit = 0x80 if masked else 0
    if length < 126:
        return bytes((first, bit | length))
    if length < 1 << 16:
        return bytes((first, bit | 126)) + length.to_bytes(2, "big")
    return bytes((first, bit | 127)) + length.to_bytes(8, "big")


def masked_frame(first: int, payload: bytes) -> bytes:
    """Return a client's frame. The key is unpredictable, as 5.3 demands: who knows it could write on the wire what
    he wants."""
    key = os.urandom(4)
    return b"".join((head(first, len(payload), True), key, mask(payload, key)))
