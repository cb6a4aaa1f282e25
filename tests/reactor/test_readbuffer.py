"""`ReadBuffer` without sockets: every read whole and byte by byte, work that is counted, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollux.readbuffer import ReadBuffer, StreamBufferFullError, UnsatisfiableReadError

LIMIT = 1 << 30
MIB = 1 << 20

READS: dict[str, tuple[Callable[[ReadBuffer], Any], bytes, bytes]] = {
    "until": (lambda buffer: buffer.until(b"\r\n"), b"a\rb\r\n", b"a\rb\r\n"),
    "until_long": (lambda buffer: buffer.until(b"abcabd"), b"abcabcabd", b"abcabcabd"),
    "regex": (lambda buffer: buffer.until_regex(rb"\r?\n\r?\n"), b"head\r\n\r\n", b"head\r\n\r\n"),
    "regex_unbounded": (lambda buffer: buffer.until_regex(rb"a.*z"), b"xxa--z", b"xxa--z"),
    "regex_ahead": (lambda buffer: buffer.until_regex(rb"ab(?=cd)"), b"abc abcd", b"abc ab"),
    "regex_behind": (lambda buffer: buffer.until_regex(rb"(?<=ab)c"), b"ac bc abc", b"ac bc abc"),
    "regex_boundary": (lambda buffer: buffer.until_regex(rb"foo\B"), b"foo foox", b"foo foo"),
    "count": (lambda buffer: buffer.count(5), b"12345", b"12345"),
    "nothing": (lambda buffer: buffer.count(0), b"", b""),
}


def feed(buffer: ReadBuffer, chunks: list[bytes]) -> Any:
    for number, chunk in enumerate(chunks):
        answer = buffer.feed(chunk)
        if answer is not None:
            for rest in chunks[number + 1 :]:
                assert buffer.feed(rest) is None
            return answer
    return None


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_reads(name: str, size: int) -> None:
    """In pieces of each size, behind what is there already, and with more behind."""
    start, data, expected = READS[name]
    stream = data + b"\x00more"
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    buffer = ReadBuffer(LIMIT)
    answer = start(buffer)
    if answer is None:
        answer = feed(buffer, chunks)
    else:
        feed(buffer, chunks)
    assert answer == expected
    assert buffer.everything() == stream[len(expected) :]
    assert len(buffer) == 0
    feed(buffer, chunks)
    assert start(buffer) == expected
    assert len(buffer) == len(stream) - len(expected)


def test_a_chunk_that_is_the_answer_is_not_copied() -> None:
    buffer = ReadBuffer(LIMIT)
    line, body = b"line\n", b"x" * 100
    assert buffer.until(b"\n") is None
    assert buffer.feed(line) is line
    assert buffer.count(100) is None
    assert buffer.feed(body) is body
    assert buffer.count(1000, partial=True) is None
    assert buffer.feed(body) is body


def test_partial() -> None:
    buffer = ReadBuffer(LIMIT)
    assert buffer.count(3, partial=True) is None
    assert buffer.feed(b"12345") == b"123"
    assert buffer.count(3, partial=True) == b"45"


@pytest.mark.parametrize("partial", [True, False])
def test_into(partial: bool) -> None:
    buffer = ReadBuffer(LIMIT)
    target = bytearray(4)
    assert buffer.into(memoryview(target), partial) is None
    assert buffer.feed(b"ab") == (2 if partial else None)
    if not partial:
        assert target == bytearray(4)
        assert buffer.feed(b"cdef") == 4
        assert target == b"abcd"
        assert buffer.everything() == b"ef"
    assert buffer.into(memoryview(bytearray()), partial) == 0


def test_a_read_given_up_has_taken_nothing() -> None:
    for start, data, expected in READS.values():
        buffer = ReadBuffer(LIMIT)
        start(buffer)
        if len(data) > 1:
            assert buffer.feed(data[:-1] if expected == data else data[:2]) is None
            kept = len(buffer)
            buffer.forget()
            assert len(buffer) == kept
            assert buffer.feed(b"!") is None
            assert buffer.count(1) == data[:1]


@pytest.mark.parametrize("whole", [True, False])
def test_max_bytes(whole: bool) -> None:
    def try_reading(limit: int, data: bytes, regex: bool) -> Any:
        buffer = ReadBuffer(LIMIT)
        if not whole:
            assert (buffer.until_regex(rb"\n", limit) if regex else buffer.until(b"\n", limit)) is None
            return feed(buffer, [bytes([byte]) for byte in data])
        buffer.feed(data)
        return buffer.until_regex(rb"\n", limit) if regex else buffer.until(b"\n", limit)

    for regex in (False, True):
        assert try_reading(5, b"1234\n6789", regex) == b"1234\n"
        assert try_reading(5, b"12345", regex) is None
        with pytest.raises(UnsatisfiableReadError, match="within 5 bytes"):
            try_reading(5, b"12345\n", regex)
        with pytest.raises(UnsatisfiableReadError, match="within 5 bytes"):
            try_reading(5, b"123456", regex)


def test_bad_arguments_leave_the_buffer_as_it_is() -> None:
    buffer = ReadBuffer(LIMIT)
    buffer.feed(b"abc\n")
    bad: list[tuple[type[Exception], Callable[[], object]]] = [
        (TypeError, lambda: buffer.until("\n")),  # type: ignore[arg-type]
        (ValueError, lambda: buffer.until(b"")),
        (ValueError, lambda: buffer.until(b"\n", -1)),
        (TypeError, lambda: buffer.until_regex("\n")),  # type: ignore[arg-type]
        (TypeError, lambda: buffer.until_regex(re.compile("\n"))),  # type: ignore[arg-type]
        (re.error, lambda: buffer.until_regex(rb"(")),
        (ValueError, lambda: buffer.until_regex(rb"\n", -1)),
        (ValueError, lambda: buffer.count(-1)),
        (TypeError, lambda: buffer.count(1.5)),  # type: ignore[arg-type]
        (TypeError, lambda: buffer.count("1")),  # type: ignore[arg-type]
    ]
    for kind, start in bad:
        with pytest.raises(kind):
            start()
    delimiter: Any = bytearray(b"\n")
    assert buffer.until(delimiter) == b"abc\n"


def test_the_limit() -> None:
    buffer = ReadBuffer(100)
    assert buffer.until(b"\n") is None
    assert buffer.feed(b"x" * 60) is None
    assert buffer.feed(b"x" * 40) is None
    with pytest.raises(StreamBufferFullError, match="101 bytes, max_buffer_size is 100"):
        buffer.feed(b"\n")


class CountedBytes(bytearray):
    """Counts the bytes that `find` may look at."""

    looked_at = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
        self.looked_at += len(self) - start
        return super().find(sub, start)


class CountedPattern:
    """Counts the bytes that `search` may look at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._search = pattern.search
        self.pattern, self.flags = pattern.pattern, pattern.flags
        self.looked_at = 0

    def search(self, data: Any, start: int) -> Any:
        self.looked_at += len(data) - start
        return self._search(data, start)


CHUNK = 1000


def test_a_delimiter_is_searched_for_in_linear_work() -> None:
    """Over a buffer that grows to 10 MiB by 1,000 bytes: each byte once, and the overhang once per chunk."""
    buffer = ReadBuffer(LIMIT)
    data = buffer._data = CountedBytes()
    assert buffer.until(b"--end--") is None
    count = 10 * MIB // CHUNK
    for _ in range(count):
        assert buffer.feed(b"-" * CHUNK) is None
    assert len(buffer.feed(b"end--") or b"") == count * CHUNK + 5  # type: ignore[arg-type]
    assert 10 * MIB - CHUNK <= data.looked_at <= 10 * MIB + count * 6 + 100


@pytest.mark.parametrize(("regex", "linear"), [(rb"\r?\nend\b", True), (rb"\n.*end", False), (rb"end(?=!)", False)])
def test_a_bounded_regex_is_searched_for_in_linear_work(regex: bytes, linear: bool) -> None:
    """The others are searched from the start each time, as documented: quadratic."""
    buffer = ReadBuffer(LIMIT)
    pattern = re.compile(regex)
    assert buffer.until_regex(pattern) is None
    counted: Any = CountedPattern(pattern)
    buffer._regex = counted
    count = 200
    for _ in range(count):
        assert buffer.feed(b"-" * CHUNK) is None
    total = count * CHUNK
    assert feed(buffer, [b"\nend!"]) is not None
    assert counted.looked_at <= total + count * 10 if linear else counted.looked_at > total * 50


def test_lines_are_taken_from_the_head_in_linear_work() -> None:
    """100,000 lines out of one buffer: were the rest moved for each, this would be 40 GB of copying and time out."""
    buffer = ReadBuffer(LIMIT)
    buffer.feed(b"1234567\n" * 100_000)
    for _ in range(100_000):
        assert buffer.until(b"\n") == b"1234567\n"
    assert len(buffer) == 0


PATTERNS = [
    rb"ab",
    rb"a?b\b",
    rb"\Bab",
    rb"(?m)^ab",
    rb"a{2,3}$",
    rb"(?<=a)b",
    rb"a(?=b)",
    rb"(a)\1",
    rb"a+b",
    rb"(?!a)b",
]


@given(
    chunks=st.lists(st.text("ab\n ", max_size=4).map(str.encode), max_size=8),
    pattern=st.sampled_from(PATTERNS),
)
def test_resuming_finds_what_a_search_from_the_start_finds(chunks: list[bytes], pattern: bytes) -> None:
    """With each chunk: the answer is the one of a fresh search over all that has come."""
    buffer = ReadBuffer(LIMIT)
    assert buffer.until_regex(pattern) is None
    data = b""
    for chunk in chunks:
        if not chunk:
            continue
        data += chunk
        fresh = re.search(pattern, data)
        answer = buffer.feed(chunk)
        assert answer == (data[: fresh.end()] if fresh else None)
        if fresh:
            return


@given(
    data=st.text("ab\r\n", max_size=30).map(str.encode),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    delimiter=st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"]),
)
def test_lines_come_out_as_they_are_however_they_come_in(data: bytes, cuts: list[int], delimiter: bytes) -> None:
    buffer = ReadBuffer(LIMIT)
    found: list[Any] = []
    answer: Any = buffer.until(delimiter)
    rest, turn = data, 0
    while rest:
        size = cuts[turn % len(cuts)]
        turn += 1
        chunk, rest = rest[:size], rest[size:]
        answer = buffer.feed(chunk)
        while answer is not None:
            found.append(answer)
            answer = buffer.until(delimiter)
    *lines, last = data.split(delimiter)
    assert found == [line + delimiter for line in lines]
    assert buffer.everything() == last
