"""Accounting and statistics."""

import subprocess
import sys

import pytest

from benchmarks.measure import (
    CpuSample,
    MeasureError,
    Summary,
    alternate,
    cores,
    cpu,
    processes,
    ratio,
    resident,
    summary,
)

BURN = """
import sys, threading, time
def burn():
    while time.thread_time() < 0.05:
        pass
other = threading.Thread(target=lambda: (burn(), sys.stdin.readline()))
other.start()
burn()
while time.process_time() < 0.1:
    pass
print(time.process_time_ns(), flush=True)
other.join()
"""


def test_median_and_extremes() -> None:
    assert summary([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)


def test_no_measurement_is_an_error() -> None:
    with pytest.raises(MeasureError, match="at least one round"):
        summary([])


def test_ratio_is_taken_round_by_round() -> None:
    # The machine was half as fast in the second round: the medians move, the ratio does not.
    assert ratio([1.0, 2.0, 1.0], [2.0, 4.0, 2.0]) == Summary(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("ours", "reference", "words"),
    [([1.0], [1.0, 2.0], "1 rounds cannot be compared with 2"), ([1.0], [0.0], "measured as zero")],
)
def test_ratio_refuses(ours: list[float], reference: list[float], words: str) -> None:
    with pytest.raises(MeasureError, match=words):
        ratio(ours, reference)


def test_each_round_starts_one_further() -> None:
    assert list(alternate("abc", 4)) == [
        *((0, "a"), (0, "b"), (0, "c")),
        *((1, "b"), (1, "c"), (1, "a")),
        *((2, "c"), (2, "a"), (2, "b")),
        *((3, "a"), (3, "b"), (3, "c")),
    ]


def test_new_threads_count_from_their_start() -> None:
    assert CpuSample({1: 150, 2: 30}, 0).since(CpuSample({1: 100}, 0)) == 80


def test_an_ended_thread_is_counted_by_ticks() -> None:
    assert CpuSample({1: 150}, 900).since(CpuSample({1: 100, 2: 400}, 200)) == 700


def test_server_and_load_are_apart_where_they_can() -> None:
    chosen = cores()
    assert chosen.shared == (chosen.server == chosen.load)


def test_all_threads_of_a_session_are_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reported = int(process.stdout.readline())
        sample = cpu(process.pid)
        assert processes(process.pid) == [process.pid]
        assert resident(process.pid) > 1_000_000
        assert len(sample.threads) == 2
        # Both at rest now, and the kernel counts in both figures what the process has read off itself.
        assert sum(sample.threads.values()) >= reported * 0.9
        assert all(used >= 0.04e9 for used in sample.threads.values())
        process.stdin.write("\n")
    assert cpu(process.pid) == CpuSample({}, 0)
