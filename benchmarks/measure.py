"""CPU time, memory, cores and statistics: what every subject measures with.

CPU time comes from `/proc/PID/task/TID/schedstat`, whose first field is the thread's time on a core in nanoseconds
(Documentation/scheduler/sched-stats.rst). `/proc/PID/stat` counts user and system time in clock ticks of 10 ms, which
is half a percent of a two-second window; but it remembers threads that have ended, which schedstat does not. So
schedstat is used, and the ticks only for a window in which a thread ended.

A running thread's schedstat is brought up to date at the next tick or switch: read it while the process is at rest.
"""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PROC = Path("/proc")


class MeasureError(Exception):
    """What is asked cannot be measured on this machine or with these arguments."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the server, and the one of the load generator and of this process."""

    server: int
    load: int

    @property
    def shared(self) -> bool:
        """Whether there is only one core: CPU time still counts the server alone, on caches it shares."""
        return self.server == self.load


def cores() -> Cores:
    """Choose two of the cores this process may use: the last for the server, the first for the load.

    The first core tends to serve the machine's interrupts.

    :raises MeasureError: not on Linux.
    """
    if not hasattr(os, "sched_getaffinity") or not (PROC / "self/schedstat").exists():
        raise MeasureError("the benchmarks pin processes and read /proc/PID/schedstat: they need Linux")
    usable = sorted(os.sched_getaffinity(0))
    return Cores(server=usable[-1], load=usable[0])


def processes(session: int) -> list[int]:
    """Return the living processes of a session (setsid(2)): a server with all its workers."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended since we listed it
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


@dataclass(frozen=True, slots=True)
class CpuSample:
    """CPU time of a session so far: nanoseconds of each thread, and the ticks of all, in nanoseconds."""

    threads: dict[int, int]
    ticks: int

    def since(self, before: "CpuSample") -> int:
        """Return the nanoseconds used after `before`."""
        if before.threads.keys() - self.threads.keys():
            return self.ticks - before.ticks
        return sum(self.threads.values()) - sum(before.threads.values())


def cpu(session: int) -> CpuSample:
    """Read the CPU time of all threads of all processes of a session."""
    threads: dict[int, int] = {}
    ticks = 0
    for pid in processes(session):
        try:
            # utime, stime, and those of children that were waited for: fields 14-17 of proc_pid_stat(5).
            fields = (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            for task in (PROC / f"{pid}/task").iterdir():
                threads[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return CpuSample(threads, ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def resident(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes (kernel socket buffers not included).

    From smaps_rollup, which counts pages: the figures of status and statm are kept per core and may lag behind.
    """
    total = 0
    for pid in processes(session):
        try:
            lines = (PROC / f"{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))
    return total


def core_busy(core: int) -> int:
    """Return the nanoseconds a core was not idle since boot: whoever used it, and what the hypervisor stole of it."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    raise MeasureError(f"/proc/stat has no line for cpu{core}")


def alternate(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield `(round, item)`, every item once in each round, each round starting one item further.

    A machine that grows slower or warmer thus meets all of them alike.
    """
    for number in range(rounds):
        start = number % len(items)
        for item in (*items[start:], *items[:start]):
            yield number, item


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and extremes of a few measurements."""

    median: float
    low: float
    high: float


def summary(values: Sequence[float]) -> Summary:
    """Summarise measurements.

    :raises MeasureError: there are none.
    """
    if not values:
        raise MeasureError("no measurement to summarise: at least one round is needed")
    return Summary(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], reference: Sequence[float]) -> Summary:
    """Summarise `ours / reference` round by round: a round in which the whole machine is slow cancels out.

    :raises MeasureError: they have not the same number of rounds, or a reference value is not positive.
    """
    if len(ours) != len(reference):
        raise MeasureError(f"{len(ours)} rounds cannot be compared with {len(reference)}")
    if min(reference, default=0) <= 0:
        raise MeasureError("the reference was measured as zero: make the window longer (--seconds)")
    return summary([a / b for a, b in zip(ours, reference, strict=True)])
