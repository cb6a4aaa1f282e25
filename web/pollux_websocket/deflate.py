"""permessage-deflate (RFC 7692): its negotiation, and messages to and from DEFLATE. This module knows no sockets.

What the outside world fixes
----------------------------
* A message is compressed raw (RFC 1951) and flushed to a byte boundary; the last four bytes, 00 00 FF FF, are left out
  (7.2.1). An empty one is a single 00 (7.2.3.6): zlib's second flush with nothing in between writes nothing at all.
* Windows are 2^8 to 2^15 bytes, but zlib cannot compress with 2^8. Old ones used 2^9 and said nothing, so a window
  announced as 2^8 is read as 2^9.
* A block may say that it is the last one (BFINAL); what comes behind begins anew (7.2.3.4).
* A kilobyte can stand for a megabyte. zlib is therefore never asked for more than may still come.

What was decided
----------------
* An offer with a parameter that is unknown, twice there or of a wrong value is declined, and the next one looked at
  (7.1). A response that is not what was offered fails the connection.
* The names of the options are those of RFC 7692 and of Tornado: `compression_level`, `mem_level`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pollux_websocket.errors import HandshakeError, ViolationError
from pollux_websocket.frames import INVALID_DATA, TOO_BIG

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"
LARGEST = 15  # bits of a window
_SMALLEST = 9  # that zlib can write

_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_SIZES = ("server_max_window_bits", "client_max_window_bits")
_OPTIONS = {*_FLAGS, *_SIZES, "compression_level", "mem_level"}
_BITS = re.compile(r"[89]|1[0-5]")  # 7.1.2: decimal, without leading zeros

# RFC 6455 9.1: extension = token *( ";" token [ "=" ( token | quoted-string that holds a token ) ] )
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"({_WORD})"))?')
_EXTENSION = re.compile(rf"[ \t,]*({_WORD})")
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t,]*|$)")

Parameters = list[tuple[str, str | None]]


def parse_extensions(value: str) -> list[tuple[str, Parameters]]:
    """Return the extensions of a Sec-WebSocket-Extensions field with their parameters, in order.

    :raises HandshakeError: it is malformed.
    """
    found: list[tuple[str, Parameters]] = []
    place = 0
    while place < len(value):
        name = _EXTENSION.match(value, place)
        if name is None:
            raise HandshakeError(f"malformed Sec-WebSocket-Extensions: {value!r}")
        place = name.end()
        parameters: Parameters = []
        while parameter := _PARAMETER.match(value, place):
            parameters.append((parameter[1], parameter[2] or parameter[3]))
            place = parameter.end()
        end = _BETWEEN.match(value, place)
        if end is None:
            raise HandshakeError(f"malformed Sec-WebSocket-Extensions: {value!r}")
        place = end.end()
        found.append((name[1], parameters))
    return found


class Agreement(NamedTuple):
    """What both sides agreed on. Windows are bits, 8 to 15."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = LARGEST
    client_max_window_bits: int = LARGEST


def _checked(parameters: Parameters, bare: bool) -> dict[str, str | None] | None:
    """Return parameters as a dict; None if one is unknown, twice there or of a wrong value.

    :param bare: `client_max_window_bits` may come without a value: in an offer, 7.1.2.2.
    """
    found = dict(parameters)
    if len(found) != len(parameters):
        return None
    for name, value in found.items():
        if name in _FLAGS:
            right = value is None
        elif name in _SIZES:
            right = (value is None and bare and name == _SIZES[1]) or (
                value is not None and _BITS.fullmatch(value) is not None
            )
        else:
            right = False
        if not right:
            return None
    return found


def check_options(options: Mapping[str, Any]) -> None:
    """Check what a program wants.

    :raises ValueError: an option is unknown, or its value is.
    """
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ValueError(f"unknown compression option {name!r}: known are {', '.join(sorted(_OPTIONS))}")
        if name in _SIZES and value not in range(_SMALLEST, LARGEST + 1):
            raise ValueError(f"{name} is a number of bits from {_SMALLEST} to {LARGEST}, got {value!r}")
        if name == "compression_level" and value not in range(-1, 10):
            raise ValueError(f"compression_level is -1 to 9, got {value!r}")
        if name == "mem_level" and value not in range(1, 10):
            raise ValueError(f"mem_level is 1 to 9, got {value!r}")


def accept(extensions: Iterable[tuple[str, Parameters]], options: Mapping[str, Any]) -> tuple[Agreement, str] | None:
    """Choose from a client's offers: the first that can be met.

    :param options: what the server wants.
    :returns: the agreement and what to answer, None if nothing suits.
    """
    for name, parameters in extensions:
        offer = _checked(parameters, bare=True) if name == NAME else None
        if offer is None:
            continue
        ours = min(int(offer.get("server_max_window_bits") or LARGEST), options.get("server_max_window_bits", LARGEST))
        if ours < _SMALLEST:
            continue
        theirs = LARGEST
        if "client_max_window_bits" in offer:  # else the client does not know the parameter, 7.1.2.2
            wanted = options.get("client_max_window_bits", LARGEST)
            theirs = min(int(offer["client_max_window_bits"] or LARGEST), wanted)
        agreed = Agreement(
            "server_no_context_takeover" in offer or bool(options.get("server_no_context_takeover")),
            "client_no_context_takeover" in offer or bool(options.get("client_no_context_takeover")),
            ours,
            theirs,
        )
        return agreed, _written(agreed)
    return None


def offer(options: Mapping[str, Any]) -> str:
    """Return what a client asks for. It always says that it can be told how large a window to use."""
    value = _written(Agreement(**{name: options[name] for name in Agreement._fields if name in options}))
    return value if "client_max_window_bits" in value else value + "; client_max_window_bits"


def agree(extensions: Iterable[tuple[str, Parameters]], options: Mapping[str, Any] | None) -> Agreement | None:
    """Check what a server has answered to `offer(options)`.

    :param options: None if nothing was offered.
    :returns: None if there is to be no compression.
    :raises HandshakeError: it is not what was offered.
    """
    agreed = None
    for name, parameters in extensions:
        if options is None or name != NAME or agreed is not None:
            raise HandshakeError(f"the server uses an extension that was not offered: {name}")
        found = _checked(parameters, bare=False)
        if found is None:
            raise HandshakeError(f"the server has answered {NAME} with wrong parameters: {parameters}")
        ours = int(found.get("client_max_window_bits") or LARGEST)
        theirs = int(found.get("server_max_window_bits") or LARGEST)
        if theirs > options.get("server_max_window_bits", LARGEST):
            raise HandshakeError(f"the server wants a window of 2^{theirs} bytes, which is more than was offered")
        if options.get("server_no_context_takeover") and "server_no_context_takeover" not in found:
            raise HandshakeError("the server keeps its context, which was not offered")
        ours = min(ours, options.get("client_max_window_bits", LARGEST))
        if ours < _SMALLEST:
            raise HandshakeError("the server wants a window of 2^8 bytes, which zlib cannot compress with")
        agreed = Agreement(
            "server_no_context_takeover" in found,
            "client_no_context_takeover" in found or bool(options.get("client_no_context_takeover")),
            theirs,
            ours,
        )
    return agreed


def _written(agreed: Agreement) -> str:
    parts = [NAME, *(name for name in _FLAGS if getattr(agreed, name))]
    parts += [f"{name}={getattr(agreed, name)}" for name in _SIZES if getattr(agreed, name) != LARGEST]
    return "; ".join(parts)


class Deflater:
    """Compresses messages.

    :param bits: of the window.
    :param takeover: keep the window from message to message.
    :param level: zlib's, -1 to 9; 6 is zlib's own choice and Tornado's.
    :param memory: zlib's `memLevel`, 1 to 9; the memory of a connection is 2^(bits + 2) + 2^(memory + 9) bytes.
    :ivar arguments: those with equal ones compress alike.
    """

    __slots__ = ("_object", "_takeover", "arguments")

    def __init__(self, bits: int, takeover: bool, level: int = 6, memory: int = 8) -> None:
        self.arguments = level, zlib.DEFLATED, -bits, memory
        self._takeover = takeover
        self._object: Any = None  # made with the first message

    def deflate(self, data: bytes) -> bytes:
        """Return the payload that stands for the message `data`."""
        if not data:
            return b"\x00"
        compressor = self._object
        if compressor is None:
            compressor = zlib.compressobj(*self.arguments)
            if self._takeover:
                self._object = compressor
        payload: bytes = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return payload.removesuffix(TAIL)

    def forget(self) -> None:
        """Begin anew: the next message is compressed by itself."""
        self._object = None


class Inflater:
    """Decompresses messages, as their payload comes.

    :param bits: of the peer's window.
    :param takeover: the peer keeps its window from message to message.
    """

    __slots__ = ("_bits", "_object", "_takeover")

    def __init__(self, bits: int, takeover: bool) -> None:
        self._bits = max(bits, _SMALLEST)
        self._takeover = takeover
        self._object: Any = None

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Return what a part of a payload stands for.

        :param limit: bytes that may come out.
        :raises ViolationError: it is no DEFLATE (1007), or more comes out (1009).
        """
        pieces = []
        while data:
            if self._object is None or self._object.eof:
                self._object = zlib.decompressobj(-self._bits)
            try:
                # One more than is allowed tells "just as much" from "too much"; 0 would mean "no limit".
                piece = self._object.decompress(data, limit + 1)
            except zlib.error as error:
                raise ViolationError(INVALID_DATA, f"a message is not compressed as was agreed: {error}") from None
            limit -= len(piece)
            if limit < 0:
                raise ViolationError(TOO_BIG, "the message is too big when decompressed")
            pieces.append(piece)
            data = self._object.unused_data if self._object.eof else self._object.unconsumed_tail
        return b"".join(pieces)

    def end(self, limit: int) -> bytes:
        """The payload is complete: return the rest. See `inflate`."""
        rest = self.inflate(TAIL, limit)
        if not self._takeover:
            self._object = None
        return rest
