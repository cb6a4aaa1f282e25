"""The protocol without I/O: each case whole and byte by byte, for both roles."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from pollux_websocket.frames import CLOSE, PING, Close, Failure, Ping, Pong, close_payload
from pollux_websocket.protocol import MAX_FRAGMENTS, ClientProtocol, Event, Protocol, ServerProtocol
from tests.websocket.wire import MASK, frame

LIMIT = 100_000
LONG = b"\x00\xff" * 40_000

SIDES = {"server": (ServerProtocol, MASK), "client": (ClientProtocol, None)}


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Any:
    return SIDES[request.param]


def taken(protocol: Protocol, pieces: Iterable[bytes]) -> list[Event]:
    """What a connection makes of the pieces: `whole` first."""
    events: list[Event] = []
    for piece in pieces:
        message = protocol.whole(piece)
        events += protocol.feed(piece) if message is None else [message]
    return events


def in_all_ways(side: Any, data: bytes) -> list[Event]:
    """Parse whole, byte by byte, and in two pieces; all must be the same."""
    kind, _ = side
    whole = taken(kind(LIMIT), [data])
    assert taken(kind(LIMIT), [bytes([byte]) for byte in data]) == whole
    step = max(1, len(data) // 40)
    for cut in [*range(1, min(20, len(data))), *range(20, len(data), step)]:
        assert taken(kind(LIMIT), [data[:cut], data[cut:]]) == whole
    return whole


def f(side: Any, *frames: tuple[int, bytes]) -> bytes:
    return b"".join(frame(first, payload, side[1]) for first, payload in frames)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 124, 125, 126, 127, 128, 65535, 65536, 70000])
@pytest.mark.parametrize("first", [0x81, 0x82])
def test_messages_of_every_length(side: Any, first: int, length: int) -> None:
    payload = (b"\xc3\xa9" * length)[: length - length % 2] + b"." * (length % 2)
    data = f(side, (first, payload))
    assert in_all_ways(side, data) == [payload.decode() if first == 0x81 else payload]


def test_what_is_built_is_what_was_meant(side: Any) -> None:
    other = ClientProtocol() if side[0] is ServerProtocol else ServerProtocol()
    for length in (0, 1, 125, 126, 127, 65535, 65536):
        payload = b"x" * length
        assert side[0]().feed(other.message(payload, True)) == [payload]
        assert side[0]().feed(other.message(payload, False)) == [payload.decode()]
        if length < 126:
            assert side[0]().feed(other.control(PING, payload)) == [Ping(payload)]
    built = other.message(b"x" * 64, True)
    if not other.is_client:
        assert built == frame(0x82, b"x" * 64, None)
    else:
        assert built[:2] == bytes((0x82, 0x80 | 64))
        assert other.message(b"x" * 64, True) != built, "a masking key is new each time"


def test_many_in_one_piece_and_fragments_with_control_frames_between(side: Any) -> None:
    data = f(
        side,
        (0x81, b"a"), (0x82, b"b"), (0x01, b"c\xc3"), (0x89, b"ping"), (0x00, b""), (0x8A, b"pong"), (0x80, b"\xa9d"),
        (0x02, b""), (0x80, b""), (0x01, b"x" * 300), (0x80, b"y" * 70000), (0x81, b"\r\n\r"), (0x88, b""),
    )  # fmt: skip
    assert in_all_ways(side, data) == [
        "a", b"b", Ping(b"ping"), Pong(b"pong"), "céd", b"", "x" * 300 + "y" * 70000, "\r\n\r", Close(None, "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(0x83, b"")], 1002), ([(0x87, b"")], 1002), ([(0x8B, b"")], 1002), ([(0x8F, b"")], 1002),
        ([(0xC1, b"a")], 1002), ([(0xA1, b"a")], 1002), ([(0x91, b"a")], 1002), ([(0xC9, b"")], 1002),
        ([(0x09, b"")], 1002), ([(0x08, b"")], 1002), ([(0x89, b"x" * 126)], 1002), ([(0x88, b"x" * 126)], 1002),
        ([(0x80, b"")], 1002), ([(0x00, b"")], 1002), ([(0x01, b"a"), (0x81, b"b")], 1002),
        ([(0x01, b"a"), (0x02, b"b")], 1002), ([(0x01, b"a"), (0xC0, b"b")], 1002),
        ([(0x88, b"\x03")], 1002), ([(0x88, b"\x03\xe8\xff")], 1007),
        ([(0x81, b"\xff")], 1007), ([(0x81, b"\xc3")], 1007), ([(0x81, b"\xed\xa0\x80")], 1007),
        ([(0x81, b"\xf4\x90\x80\x80")], 1007), ([(0x81, b"\xc0\x80")], 1007),
        ([(0x01, b"\xc3"), (0x80, b"")], 1007), ([(0x01, b"\xc3"), (0x80, b"\xc3")], 1007),
        ([(0x82, b"x" * (LIMIT + 1))], 1009), ([(0x02, b"x" * LIMIT), (0x80, b"x")], 1009),
    ],
)  # fmt: skip
def test_violations(side: Any, frames: list[tuple[int, bytes]], code: int) -> None:
    events = in_all_ways(side, f(side, (0x82, b"before"), *frames))
    assert events[0] == b"before"
    assert isinstance(events[-1], Failure)
    assert (len(events), events[-1].code) == (2, code)
    close_payload(code, events[-1].reason)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_are_never_sent(side: Any, code: int) -> None:
    (event,) = in_all_ways(side, f(side, (0x88, code.to_bytes(2, "big"))))
    assert isinstance(event, Failure)
    assert event.code == 1002
    with pytest.raises(ValueError, match=str(code)):
        side[0]().close(code)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999])
def test_close_codes(side: Any, code: int) -> None:
    assert in_all_ways(side, f(side, (0x88, code.to_bytes(2, "big") + b"why"))) == [Close(code, "why")]


def test_a_close_is_the_end(side: Any) -> None:
    assert in_all_ways(side, f(side, (0x88, b"\x03\xe8"), (0x81, b"after"), (0x83, b""))) == [Close(1000, "")]


def test_a_long_reason_is_cut_between_two_characters() -> None:
    payload = close_payload(1000, "é" * 100)
    assert len(payload) == 124
    assert payload[2:].decode() == "é" * 61
    with pytest.raises(ValueError, match="needs a code"):
        close_payload(None, "why")
    with pytest.raises(ValueError, match="126"):
        ServerProtocol().control(CLOSE, b"x" * 126)


@pytest.mark.parametrize("kind", [ServerProtocol, ClientProtocol])
def test_only_clients_mask(kind: Any) -> None:
    wrong = None if kind is ServerProtocol else MASK
    for data in (frame(0x81, b"abc", wrong), frame(0x81, b"", wrong), frame(0x89, b"a" * 5, wrong)):
        for pieces in ([data], [bytes([byte]) for byte in data]):
            (event,) = taken(kind(), pieces)
            assert isinstance(event, Failure)
            assert event.code == 1002


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\xff\x00\x7d", 1002),  # 125 in two bytes
        (b"\x00" * 7 + b"\x7d", 1002),
        ((65535).to_bytes(8, "big"), 1002),
        ((1 << 63).to_bytes(8, "big"), 1002),
        (b"\xff" * 8, 1002),
        (((1 << 63) - 1).to_bytes(8, "big"), 1009),
        ((LIMIT + 1).to_bytes(8, "big"), 1009),
    ],
)
def test_lengths_are_refused_before_anything_is_held(side: Any, head: bytes, code: int) -> None:
    bit = 0 if side[1] is None else 0x80
    head = bytes([0x82, bit | 126]) + head[1:] if len(head) == 3 else bytes([0x82, bit | 127]) + head
    (event,) = in_all_ways(side, head + (side[1] or b""))
    assert isinstance(event, Failure)
    assert event.code == code


@pytest.mark.parametrize(
    ("good", "bad"),
    [(b"\xce\xba\xcf\x8c", b"\xff"), (b"\xce\xba", b"\xed\xa0"), (b"\xf0\x9f\x98", b"\x28"), (b"", b"\xf4\x90")],
)
def test_text_fails_at_the_first_byte_that_cannot_be_right(side: Any, good: bytes, bad: bytes) -> None:
    """Within a frame of which more is to come, and within a message of which more is to come."""
    for first in (0x81, 0x01):
        whole = frame(first, good + bad + b"x" * 500, side[1])
        head = len(whole) - 500
        protocol = side[0]()
        assert taken(protocol, [whole[: head - len(bad)]]) == []
        (event,) = taken(protocol, [whole[head - len(bad) : head]])
        assert isinstance(event, Failure)
        assert event.code == 1007


def test_tiny_reads_hold_little(side: Any) -> None:
    """What is held of a message is about its size, however many pieces it came in."""
    for first in (0x02, 0x01):
        protocol = side[0](LIMIT)
        data = frame(first, b"x" * 60_000, side[1])
        tracemalloc.start()
        for byte in data[:-1]:
            protocol.feed(bytes([byte]))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held < 2 * 60_000


def test_fragments_are_bounded(side: Any) -> None:
    protocol = side[0]()
    many = frame(0x00, b"", side[1]) * 1024
    assert protocol.feed(frame(0x02, b"", side[1])) == []
    for _ in range(MAX_FRAGMENTS // 1024 - 1):
        assert protocol.feed(many) == []
    (event,) = protocol.feed(many)
    assert isinstance(event, Failure)
    assert event.code == 1009


def test_a_small_limit_holds_on_the_fast_way(side: Any) -> None:
    for size, fails in ((9, False), (10, False), (11, True)):
        (event,) = taken(side[0](10), [frame(0x82, b"x" * size, side[1])])
        assert isinstance(event, Failure) is fails
