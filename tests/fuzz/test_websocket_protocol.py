"""Fuzzing the WebSocket protocol.

Invariant: whatever comes, in whatever pieces, `feed` makes messages of it, Pings and Pongs, and at most one end: a
Close whose code may be sent, or a Failure with 1002, 1007 or 1009 that can be sent as a Close. It raises nothing, no
message is above the limit, and how the bytes were cut changes nothing, but for this: of two faults in one compressed
message (no DEFLATE, no UTF-8, too big) either may be met first.

The inputs are made in three ways: frames that are mostly right, from a seed; whatever Hypothesis thinks of; and, where
atheris is installed, what that finds (`websocket_atheris.py`).

`python -m tests.fuzz.test_websocket_protocol 1000000 [SEED]` runs that many inputs of the first kind.
"""

from __future__ import annotations

import random
import sys
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_websocket.deflate import Agreement
from pollux_websocket.frames import Close, Failure, Ping, Pong, may_be_sent
from pollux_websocket.protocol import Event, Protocol, make_protocol

LIMIT = 300
TEXTS = ["", "a", "ä€😀", "x" * 130, "\x00", "é" * 200]
BROKEN = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xce\xba\xe1", b"\xf0\x9f", b"\x80"]
FIRSTS = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0xC2, 0x41, 0x42]


def compressed(data: bytes, generator: random.Random) -> bytes:
    made = zlib.compressobj(generator.choice([0, 1, 9]), wbits=-generator.choice([9, 15]))
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[: generator.choice([-4, -4, -4, -3, 1000])]


def a_frame(generator: random.Random, masked: bool) -> bytes:
    """Return a frame that is mostly right, and sometimes in one way wrong."""
    first = generator.choice(FIRSTS) if generator.random() < 0.95 else generator.randrange(256)
    payload = generator.choice(TEXTS).encode()
    kind = generator.random()
    if kind < 0.1:
        payload += generator.choice(BROKEN)
    elif kind < 0.2:
        payload = generator.randbytes(generator.randrange(200))
    if first & 0x0F == 8 and generator.random() < 0.8:
        payload = generator.choice([1000, 1001, 1005, 3000, 4999, 999, 0]).to_bytes(2, "big") + payload[:100]
    if first & 0x40 and generator.random() < 0.8:
        payload = compressed(payload, generator)
    if first & 8 and generator.random() < 0.95:
        payload = payload[:125]
    masked ^= generator.random() < 0.01
    bit = 0x80 if masked else 0
    length = len(payload) if generator.random() < 0.97 else generator.choice([0, 125, 126, 1 << 16, 1 << 62, 1 << 63])
    form = generator.random()
    if length < 126 and form < 0.98:
        head = bytes([first, bit | length])
    elif length < 1 << 16 and form < 0.99:
        head = bytes([first, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = generator.randbytes(4)
    return head + key + bytes(byte ^ key[place & 3] for place, byte in enumerate(payload))


def an_input(generator: random.Random, masked: bool) -> bytes:
    """Return some frames, now and then with a byte changed, missing or too much."""
    data = b"".join(a_frame(generator, masked) for _ in range(generator.randrange(1, 5)))
    if data and generator.random() < 0.1:
        place = generator.randrange(len(data))
        data = data[:place] + generator.randbytes(generator.randrange(2)) + data[place + generator.randrange(2) :]
    return data


def pieces_of(data: bytes, generator: random.Random) -> list[bytes]:
    cuts = sorted(generator.randrange(len(data) + 1) for _ in range(generator.randrange(6)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [part for part in parts if part]


def taken(protocol: Protocol, pieces: list[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        message = protocol.whole(piece)
        events += protocol.feed(piece) if message is None else [message]
    return events


def check(events: list[Event]) -> None:
    for place, event in enumerate(events):
        if isinstance(event, str):
            assert len(event.encode()) <= LIMIT
        elif isinstance(event, bytes):
            assert len(event) <= LIMIT
        elif isinstance(event, Ping | Pong):
            assert len(event.payload) <= 125
        else:
            assert place == len(events) - 1, "nothing follows the end"
            if isinstance(event, Failure):
                assert event.code in (1002, 1007, 1009)
                make_protocol(False, LIMIT, None).close(event.code, event.reason)
            else:
                assert isinstance(event, Close)
                assert event.code is None or may_be_sent(event.code)


def comparable(events: list[Event], is_compressed: bool) -> list[Any]:
    """Leave out what may differ with the pieces: the words of a failure, and within compressed data which one it is."""
    return [
        ("failure", 1007 if is_compressed and event.code == 1009 else event.code)
        if isinstance(event, Failure)
        else event
        for event in events
    ]


def examine(seed: int) -> int:
    """Check one input; return a number for the kind of end it had."""
    generator = random.Random(seed)
    is_client = generator.random() < 0.5
    agreement = Agreement(*(generator.random() < 0.5 for _ in range(2))) if generator.random() < 0.6 else None

    data = an_input(generator, not is_client)
    cuts = [pieces_of(data, generator), *([[bytes([byte]) for byte in data]] if seed % 16 == 0 else [])]
    return examine_input(is_client, agreement, data, cuts)


def examine_input(is_client: bool, agreement: Agreement | None, data: bytes, cuts: list[list[bytes]]) -> int:
    """Check `data`, whole and in each way in which it is cut; return a number for the kind of end."""

    def make() -> Protocol:
        return make_protocol(is_client, LIMIT, agreement)

    whole = taken(make(), [data])
    check(whole)
    for pieces in cuts:
        events = taken(make(), pieces)
        check(events)
        assert comparable(events, agreement is not None) == comparable(whole, agreement is not None)
    last: Any = whole[-1] if whole else None
    return last.code if isinstance(last, Failure) else 1 if isinstance(last, Close) else 0


@pytest.mark.parametrize("batch", range(4))
def test_messages_or_a_close_with_the_right_code(batch: int) -> None:
    ends = {examine(seed) for seed in range(batch * 1000, (batch + 1) * 1000)}
    assert ends == {0, 1, 1002, 1007, 1009}, "every kind of end was met"


# A head with any first byte and length, with or without a key, and what follows: Hypothesis finds no frames by itself.
frames = st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    st.one_of(st.sampled_from(FIRSTS), st.integers(0, 255)),
    st.integers(0, 255),
    st.binary(max_size=140),
)
windows = st.integers(8, 15)
agreements = st.one_of(st.none(), st.builds(Agreement, st.booleans(), st.booleans(), windows, windows))


@given(
    pieces=st.lists(st.one_of(frames, st.binary(max_size=20)), max_size=6), is_client=st.booleans(), agreed=agreements
)
@settings(max_examples=400, deadline=None, database=None)
def test_whatever_comes(pieces: list[bytes], is_client: bool, agreed: Agreement | None) -> None:
    data = b"".join(pieces)
    examine_input(is_client, agreed, data, [[piece for piece in pieces if piece], [bytes([byte]) for byte in data]])


def one_input(data: bytes) -> None:
    """For atheris: the first byte chooses side and compression, the second where to cut."""
    if len(data) > 2:
        how, cut, data = data[0], data[1], data[2:]
        agreement = Agreement(bool(how & 2), bool(how & 4)) if how & 8 else None
        pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
        examine_input(bool(how & 1), agreement, data, [pieces])


if __name__ == "__main__":
    number, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    found: dict[int, int] = {}
    for seed in range(start, start + number):
        try:
            end = examine(seed)
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        found[end] = found.get(end, 0) + 1
    print(f"{number} inputs; how they ended (0: not, 1: Close): {dict(sorted(found.items()))}")
