"""`ServerProtocol` and `ClientProtocol`: an open connection's frames, without I/O (RFC 6455 5 to 7).

Bytes go in, events come out: messages as str or bytes, and `Ping`, `Pong`, `Close`, `Failure`. Whatever comes, in
whatever pieces, `feed` raises nothing. After a Close or a Failure it returns nothing any more.

* `whole` is the common case, and keeps no state: a piece that is just one frame, and that one just one message. Where
  in doubt it returns None, and `feed` takes the same bytes. `feed` takes anything, and only it reports failures.
* Payload is taken as it comes: but for a frame's head and a control frame, 139 bytes, nothing incomplete is held, and
  what is held of a message is bounded by `max_message_size`, before memory is spent on it.
* A head that announces more is refused at once, be it 2^63 bytes.
"""

from __future__ import annotations

from pollux_websocket.assembly import Assembly
from pollux_websocket.deflate import Agreement, Deflater, Inflater
from pollux_websocket.errors import ViolationError
from pollux_websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL,
    CONTROL_SIZE,
    FIN,
    INVALID_DATA,
    PING,
    PROTOCOL_ERROR,
    RSV1,
    RSV2,
    RSV3,
    SHORT_HEADS,
    TEXT,
    TOO_BIG,
    Close,
    Failure,
    Ping,
    Pong,
    close_payload,
    head,
    masked_frame,
    parse_close,
)
from pollux_websocket.masking import mask

MAX_MESSAGE_SIZE = 10 * 1024 * 1024  # bytes: Tornado's limit
MAX_FRAGMENTS = 1 << 17  # frames of a message: empty ones cost the sender 6 bytes each. 4 MiB in 64 B are half of it.
WHOLE_SIZE = 1 << 16  # bytes: larger frames rarely come in one piece

Message = str | bytes
Event = Message | Ping | Pong | Close | Failure


class Protocol:
    """What both sides have in common. Use `ServerProtocol` or `ClientProtocol`.

    :param max_message_size: bytes of a message, uncompressed; text in UTF-8.
    :ivar deflater: compresses what is sent; None: nothing is compressed.
    :ivar ended: a Close or a Failure was reported.
    :ivar left: bytes of the present data frame's payload that have not come; -1: there is none.
    """

    __slots__ = (
        "_assembly", "_first", "_held", "_inflater", "_key", "_max_size", "_whole_size", "deflater", "ended", "left",
    )  # fmt: skip

    is_client: bool

    def __init__(
        self,
        max_message_size: int = MAX_MESSAGE_SIZE,
        deflater: Deflater | None = None,
        inflater: Inflater | None = None,
    ) -> None:
        self.deflater = deflater
        self._inflater = inflater
        self._max_size = max_message_size
        self._whole_size = min(max_message_size, WHOLE_SIZE)  # 0 while `whole` must not be used
        self._held = b""  # the beginning of a head, or of a control frame
        self.left = -1
        self._first = 0  # the first byte of that frame
        self._key: bytes | None = None  # its masking key, turned to the next byte
        self._assembly: Assembly | None = None  # the present message
        self.ended = False

    # Receiving

    def whole(self, data: bytes) -> Message | None:
        """Return the message that `data` is, None if it is not exactly one message or something is pending."""
        raise NotImplementedError

    def feed(self, data: bytes) -> list[Event]:
        """Take what has come; return what it is."""
        events: list[Event] = []
        if self.ended:
            return events
        if self._held:
            data = self._held + data
            self._held = b""
        try:
            self._parse(data, events)
        except ViolationError as error:
            self.ended = True
            events.append(Failure(error.code, str(error)))
        if self.ended:
            self._assembly = self._key = None
        idle = self.left < 0 and not self._held and self._assembly is None and not self.ended
        self._whole_size = min(self._max_size, WHOLE_SIZE) if idle else 0
        return events

    def _parse(self, data: bytes, events: list[Event]) -> None:
        place, size = 0, len(data)
        while place < size or self.left == 0:
            if self.left >= 0:
                place = self._take_payload(data, place, events)
                continue
            after = self._parse_head(data, place, events)
            if after < 0:
                self._held = data[place:]
                return
            if self.ended:
                return
            place = after

    def _parse_head(self, data: bytes, place: int, events: list[Event]) -> int:
        """Parse a head, and a control frame's payload; return the place behind, -1 if not all of it has come."""
        available = len(data) - place
        if available < 2:
            return -1
        first, second = data[place], data[place + 1]
        opcode = first & 0x0F
        length = second & 0x7F
        self._check(first, opcode, second, length)
        place += 2
        if length > 125:
            width = 2 if length == 126 else 8
            if available < 2 + width:
                return -1
            length = int.from_bytes(data[place : place + width], "big")
            if length < (126 if width == 2 else 1 << 16):
                raise ViolationError(PROTOCOL_ERROR, f"a length of {length} in {width} bytes")
            if length >= 1 << 63:
                raise ViolationError(PROTOCOL_ERROR, "a length of 2^63 or more")
            place += width
        key = None
        if second & 0x80:
            if len(data) - place < 4:
                return -1
            key = data[place : place + 4]
            place += 4
        if opcode & CONTROL:
            if len(data) - place < length:
                return -1
            payload = data[place : place + length]
            self._control(opcode, payload if key is None else mask(payload, key), events)
            return place + length
        assembly = self._assembly
        if assembly is None:
            if length <= len(data) - place and length <= self._max_size and first & (FIN | RSV1) == FIN:
                payload = data[place : place + length]
                events.append(_decoded(opcode, payload if key is None else mask(payload, key)))
                return place + length
            inflater = self._inflater if first & RSV1 else None
            assembly = self._assembly = Assembly(opcode == TEXT, inflater, self._max_size)
        assembly.announce(length)
        if assembly.fragments > MAX_FRAGMENTS:
            raise ViolationError(TOO_BIG, f"a message of more than {MAX_FRAGMENTS} frames")
        self._first, self.left, self._key = first, length, key
        return place

    def _check(self, first: int, opcode: int, second: int, length: int) -> None:
        """Check what the first two bytes of a frame say.

        :raises ViolationError: it is not allowed, or not here.
        """
        wrong = None
        if bool(second & 0x80) is self.is_client:
            wrong = "a masked frame from a server" if self.is_client else "an unmasked frame from a client"
        elif first & (RSV2 | RSV3):
            wrong = "a reserved bit without an extension that uses it"
        elif opcode & CONTROL:
            if opcode > 0xA:
                wrong = f"reserved opcode {opcode:#x}"
            elif not first & FIN:
                wrong = "a fragmented control frame"
            elif length > CONTROL_SIZE:
                wrong = f"a control frame of more than {CONTROL_SIZE} bytes"
            elif first & RSV1:
                wrong = "a compressed control frame"
        elif opcode > BINARY:
            wrong = f"reserved opcode {opcode:#x}"
        elif opcode == CONTINUATION:
            if self._assembly is None:
                wrong = "a continuation without a message"
            elif first & RSV1:
                wrong = "a continuation that says it is compressed"
        elif self._assembly is not None:
            wrong = "a new message within a fragmented one"
        elif first & RSV1 and self._inflater is None:
            wrong = "a compressed message without permessage-deflate"
        if wrong is not None:
            raise ViolationError(PROTOCOL_ERROR, wrong)

    def _take_payload(self, data: bytes, place: int, events: list[Event]) -> int:
        """Take what there is of the present data frame's payload; return the place behind."""
        left = self.left
        end = place + left
        piece = data if not place and end >= len(data) else data[place:end]
        got = len(piece)
        key = self._key
        if key is not None:
            piece = mask(piece, key)
            turn = got & 3
            if turn:
                self._key = key[turn:] + key[:turn]
        assembly = self._assembly
        if assembly is not None:  # always
            assembly.add(piece)
            self.left = left - got
            if got == left:
                self.left = -1
                self._key = None
                if self._first & FIN:
                    message = assembly.finish()
                    self._assembly = None
                    events.append(message)
        return place + got

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == CLOSE:
            events.append(parse_close(payload))
            self.ended = True
        else:
            events.append(Ping(payload) if opcode == PING else Pong(payload))

    # Sending

    def message(self, payload: bytes, binary: bool) -> bytes:
        """Return a frame that is a whole message.

        :param payload: if not `binary`, UTF-8.
        """
        raise NotImplementedError

    def shared_message(self, payload: bytes, binary: bool, frames: dict[object, bytes]) -> bytes:
        """Return a frame as `message` does, one that goes to many.

        :param frames: those that were made of this message, {} at first.
        """
        raise NotImplementedError

    def control(self, opcode: int, payload: bytes) -> bytes:
        """Return a Close, Ping or Pong.

        :raises ValueError: the payload has more than 125 bytes.
        """
        if len(payload) > CONTROL_SIZE:
            raise ValueError(f"a control frame has at most {CONTROL_SIZE} bytes, got {len(payload)}")
        first = FIN | opcode
        return masked_frame(first, payload) if self.is_client else head(first, len(payload)) + payload

    def close(self, code: int | None, reason: str = "") -> bytes:
        """Return a Close. See `frames.close_payload`."""
        return self.control(CLOSE, close_payload(code, reason))


def _decoded(opcode: int, payload: bytes) -> Message:
    """Return a message that has come in one piece."""
    if opcode == BINARY:
        return payload
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ViolationError(INVALID_DATA, "a text message is not UTF-8") from None


class ServerProtocol(Protocol):
    """The side that was connected to: what comes is masked, what goes is not."""

    __slots__ = ()

    is_client = False

    def whole(self, data: bytes) -> Message | None:
        """See `Protocol.whole`."""
        size = len(data)
        if 6 <= size <= self._whole_size:
            if size < 132:
                if data[1] != size + 122:  # mask bit and length: 0x80 + size - 6
                    return None
                payload = mask(data[6:], data[2:6])
            elif data[1] == 254 and (data[2] << 8) + data[3] == size - 8:
                payload = mask(data[8:], data[4:8])
            else:
                return None
            first = data[0]
            if first == 0x82:
                return payload
            if first == 0x81:
                try:
                    return payload.decode()
                except UnicodeDecodeError:
                    pass
        return None

    def message(self, payload: bytes, binary: bool) -> bytes:
        """See `Protocol.message`."""
        length = len(payload)
        if self.deflater is not None:
            payload = self.deflater.deflate(payload)
            return head(FIN | RSV1 | (BINARY if binary else TEXT), len(payload)) + payload
        if length < 126:
            return SHORT_HEADS[binary][length] + payload
        return head(FIN | (BINARY if binary else TEXT), length) + payload

    def shared_message(self, payload: bytes, binary: bool, frames: dict[object, bytes]) -> bytes:
        """See `Protocol.shared_message`."""
        deflater = self.deflater
        kind = None
        if deflater is not None:
            # Compressed by itself. The peer's window has it then, and ours, wherever it was compressed, has not.
            deflater.forget()
            kind = deflater.arguments
        frame = frames.get(kind)
        if frame is None:
            frame = frames[kind] = self.message(payload, binary)
            if deflater is not None:
                deflater.forget()
        return frame


class ClientProtocol(Protocol):
    """The side that connects: what goes is masked, what comes is not."""

    __slots__ = ()

    is_client = True

    def whole(self, data: bytes) -> Message | None:
        """See `Protocol.whole`."""
        size = len(data)
        if 2 <= size <= self._whole_size:
            if size < 128:
                if data[1] != size - 2:
                    return None
                payload = data[2:]
            elif data[1] == 126 and (data[2] << 8) + data[3] == size - 4:
                payload = data[4:]
            else:
                return None
            first = data[0]
            if first == 0x82:
                return payload
            if first == 0x81:
                try:
                    return payload.decode()
                except UnicodeDecodeError:
                    pass
        return None

    def message(self, payload: bytes, binary: bool) -> bytes:
        """See `Protocol.message`."""
        first = FIN | (BINARY if binary else TEXT)
        if self.deflater is not None:
            payload = self.deflater.deflate(payload)
            first |= RSV1
        return masked_frame(first, payload)

    def shared_message(self, payload: bytes, binary: bool, frames: dict[object, bytes]) -> bytes:
        """See `Protocol.shared_message`. Nothing is shared: each frame has a key of its own."""
        return self.message(payload, binary)


def make_protocol(
    is_client: bool, max_message_size: int, agreement: Agreement | None, level: int = 6, memory: int = 8
) -> Protocol:
    """Make the protocol of a connection.

    :param agreement: about compression; None for none.
    :param level: of compression, and `memory`: see `Deflater`.
    """
    side = ClientProtocol if is_client else ServerProtocol
    if agreement is None:
        return side(max_message_size)
    server = agreement.server_max_window_bits, not agreement.server_no_context_takeover
    client = agreement.client_max_window_bits, not agreement.client_no_context_takeover
    ours, theirs = (client, server) if is_client else (server, client)
    return side(max_message_size, Deflater(*ours, level, memory), Inflater(*theirs))
