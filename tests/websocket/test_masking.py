"""The masking function: that it is the fast one, that both are the same, and that a key has four bytes."""

from __future__ import annotations

import random

import pytest
import websockets.speedups

from pollux_websocket.masking import mask, mask_with_integers


def test_the_c_function_is_used() -> None:
    """If this fails, a release of websockets has moved its function: masks then cost forty times as much."""
    assert mask is websockets.speedups.apply_mask


def test_rfc_example() -> None:
    """RFC 6455 5.7: a masked "Hello"."""
    for function in (mask, mask_with_integers):
        assert function(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"


def test_both_are_the_same_and_read_no_further() -> None:
    """Sizes around every word and vector length, each at every alignment, between bytes that must not matter."""
    generator = random.Random(7)
    for size in [*range(70), 127, 128, 129, 1000, 4095, 4096, 4097, 65537]:
        key, whole = generator.randbytes(4), generator.randbytes(size + 16)
        for start in range(9):
            data = whole[start : start + size]
            expected = bytes(byte ^ key[place % 4] for place, byte in enumerate(data))
            assert mask(data, key) == mask_with_integers(data, key) == expected
            assert mask(memoryview(whole)[start : start + size], key) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_a_key_has_four_bytes(key: bytes) -> None:
    """A shorter one would let C read beyond it (Tornado CVE-2026-49854)."""
    for function in (mask, mask_with_integers):
        with pytest.raises(ValueError, match=r"4|four"):
            function(b"abc", key)
