"""permessage-deflate: its negotiation, and what must not come of compressed data."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest

from pollux_websocket.deflate import Agreement, accept, agree, check_options, offer, parse_extensions
from pollux_websocket.errors import HandshakeError
from pollux_websocket.frames import Failure
from pollux_websocket.protocol import make_protocol
from tests.websocket.wire import MASK, frame

LIMIT = 100_000


def squeezed(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", [("a", [])]),
        ("a, b", [("a", []), ("b", [])]),
        (" a ;x ; y=1;z = \"2\" ,,b,", [("a", [("x", None), ("y", "1"), ("z", "2")]), ("b", [])]),
        ("", []),
    ],
)  # fmt: skip
def test_extensions(value: str, expected: Any) -> None:
    assert parse_extensions(value) == expected


@pytest.mark.parametrize("value", [";", "a;", "a;x=", "a b", 'a;x="', 'a;x="1', 'a;x="1 2"', "a;x=1=2", "é", "a;=1"])
def test_malformed_extensions(value: str) -> None:
    with pytest.raises(HandshakeError, match="Sec-WebSocket-Extensions"):
        parse_extensions(value)


PMD = "permessage-deflate"


@pytest.mark.parametrize(
    ("asked", "options", "answer"),
    [
        (PMD, {}, PMD),
        ("x-webkit-deflate-frame", {}, None),
        (f"{PMD}; client_max_window_bits", {}, PMD),
        (f"{PMD}; client_max_window_bits", {"client_max_window_bits": 10}, f"{PMD}; client_max_window_bits=10"),
        (f"{PMD}; client_max_window_bits=9", {"client_max_window_bits": 12}, f"{PMD}; client_max_window_bits=9"),
        (f"{PMD}; client_max_window_bits=8", {}, f"{PMD}; client_max_window_bits=8"),
        (PMD, {"client_max_window_bits": 10}, PMD),
        (f"{PMD}; server_max_window_bits=10", {}, f"{PMD}; server_max_window_bits=10"),
        (f"{PMD}; server_max_window_bits=12", {"server_max_window_bits": 9}, f"{PMD}; server_max_window_bits=9"),
        (f"{PMD}; server_max_window_bits=8", {}, None),
        (f"{PMD}; server_max_window_bits=8, {PMD}", {}, PMD),
        (f"{PMD}; server_no_context_takeover", {}, f"{PMD}; server_no_context_takeover"),
        (f"{PMD}; client_no_context_takeover", {}, f"{PMD}; client_no_context_takeover"),
        (PMD, {"server_no_context_takeover": True}, f"{PMD}; server_no_context_takeover"),
        (f'{PMD}; server_max_window_bits="10"', {}, f"{PMD}; server_max_window_bits=10"),
    ],
)
def test_offers(asked: str, options: Any, answer: str | None) -> None:
    found = accept(parse_extensions(asked), options)
    assert (found and found[1]) == answer
    if found:
        assert isinstance(found[0], Agreement)
        if "client_max_window_bits=8" not in found[1]:  # a client of ours would not have offered that
            assert agree(parse_extensions(found[1]), {}) == found[0]


@pytest.mark.parametrize(
    "parameter",
    [
        "unknown", "server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=16",
        "server_max_window_bits=08", "server_max_window_bits=+9", "client_max_window_bits=0",
        "server_no_context_takeover=1", "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
    ],
)  # fmt: skip
def test_wrong_parameters_are_declined(parameter: str) -> None:
    assert accept(parse_extensions(f"{PMD}; {parameter}"), {}) is None
    with pytest.raises(HandshakeError):
        agree(parse_extensions(f"{PMD}; {parameter}"), {})


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        (PMD, None),
        ("other", {}),
        (f"{PMD}, {PMD}", {}),
        (f"{PMD}; client_max_window_bits", {}),
        (f"{PMD}; client_max_window_bits=8", {}),
        (f"{PMD}; server_max_window_bits=12", {"server_max_window_bits": 10}),
        (PMD, {"server_max_window_bits": 10}),
        (PMD, {"server_no_context_takeover": True}),
    ],
)
def test_answers_that_were_not_offered(answer: str, options: Any) -> None:
    with pytest.raises(HandshakeError):
        agree(parse_extensions(answer), options)


def test_what_a_client_offers() -> None:
    assert offer({}) == f"{PMD}; client_max_window_bits"
    assert offer({"client_max_window_bits": 10, "mem_level": 1}) == f"{PMD}; client_max_window_bits=10"
    assert offer({"server_no_context_takeover": True, "server_max_window_bits": 9}) == (
        f"{PMD}; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits"
    )
    assert agree([], {}) is None


@pytest.mark.parametrize(
    "options",
    [{"window": 9}, {"mem_level": 0}, {"compression_level": 10}, {"server_max_window_bits": 8}],
)
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        check_options(options)


@pytest.mark.parametrize("server_bits", [9, 12, 15])
@pytest.mark.parametrize("client_bits", [9, 15])
@pytest.mark.parametrize("takeover", [False, True])
def test_both_ways(server_bits: int, client_bits: int, takeover: bool) -> None:
    agreement = Agreement(not takeover, not takeover, server_bits, client_bits)
    server, client = (make_protocol(is_client, LIMIT, agreement, 9, 1) for is_client in (False, True))
    generator = random.Random(server_bits)
    for size in (0, 0, 1, 10, 1000, 1000, 40_000, 3, 0):
        noise = generator.randbytes(size)
        for message in (noise, b"a" * size, noise.hex().encode()[:size]):
            data = client.message(message, True)
            assert [event for byte in data for event in server.feed(bytes([byte]))] == [message]
            assert client.feed(server.message(message, True)) == [message]
            assert client.feed(server.message(message.hex().encode(), False)) == [message.hex()]
    sizes = {len(client.message(b"the same again and again", True)) for _ in range(3)}
    assert (len(sizes) > 1) is takeover


def failed(payload: bytes, *, pieces: bool) -> int:
    """The code with which a compressed text fails."""
    protocol = make_protocol(False, LIMIT, Agreement())
    data = frame(0xC1, payload, MASK)
    events: list[Any] = []
    for piece in [bytes([byte]) for byte in data] if pieces else [data]:
        events += protocol.feed(piece)
    (event,) = events
    assert isinstance(event, Failure)
    return event.code


@pytest.mark.parametrize("pieces", [False, True])
def test_what_is_wrong_inside(pieces: bool) -> None:
    assert failed(b"\xff\xff\xff", pieces=pieces) == 1007
    assert failed(squeezed(b"\xff"), pieces=pieces) == 1007
    assert failed(squeezed(b"\xc3"), pieces=pieces) == 1007
    assert failed(squeezed(b"a" * (LIMIT + 1)), pieces=pieces) == 1009


def test_just_as_much_as_is_allowed() -> None:
    for message in (b"a" * LIMIT, random.Random(1).randbytes(LIMIT)):
        protocol = make_protocol(False, LIMIT, Agreement())
        assert protocol.feed(frame(0xC2, squeezed(message), MASK)) == [message]


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = frame(0xC2, squeezed(bytes(64 << 20)), MASK)
    protocol = make_protocol(False, LIMIT, Agreement())
    tracemalloc.start()
    (event,) = protocol.feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(event, Failure)
    assert event.code == 1009
    assert peak < len(bomb) * 3 + LIMIT * 4


def test_compressed_data_that_stands_for_nothing_is_bounded() -> None:
    """Empty blocks inflate to nothing, for ever."""
    protocol = make_protocol(False, LIMIT, Agreement())
    block = frame(0x42, b"\x00\x00\x00\xff\xff" * 1000, MASK)
    events = protocol.feed(block)
    for _ in range(30):
        events += protocol.feed(frame(0x00, b"\x00\x00\x00\xff\xff" * 1000, MASK))
    (event,) = events
    assert isinstance(event, Failure)
    assert event.code == 1009


def test_a_final_block_within_a_message() -> None:
    """RFC 7692 7.2.3.4: BFINAL set, and a byte of padding behind it; 7.2.3.5: two blocks; 7.2.3.3: no compression."""
    protocol = make_protocol(True, LIMIT, Agreement())
    final = bytes.fromhex("f348cdc9c9070000")
    assert protocol.feed(frame(0xC1, final, None)) == ["Hello"]
    two = bytes.fromhex("f248050000 00ffff cac9c90700".replace(" ", ""))
    assert protocol.feed(frame(0xC1, two, None)) == ["Hello"]
    stored = bytes.fromhex("000500faff48656c6c6f00")
    assert protocol.feed(frame(0xC1, stored, None)) == ["Hello"]
    assert protocol.feed(frame(0xC1, bytes.fromhex("f248cdc9c90700"), None)) == ["Hello"]
    assert protocol.feed(frame(0xC1, bytes.fromhex("f200110000"), None)) == ["Hello"]  # the window was kept, 7.2.3.2
