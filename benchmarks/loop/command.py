"""`python -m benchmarks loop`: each case on each loop, in a fresh process pinned to a core, alternating."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.loop.cases import CASES, REPEATS
from benchmarks.measure import MeasureError, alternate, cores
from benchmarks.options import progress, stem, words
from benchmarks.report import Report, Series, Table

LOOPS = {"pollux": "-e .", "asyncio": "", "uvloop": "uvloop", "rloop": "rloop"}
SCRIPT = Path(__file__).with_name("cases.py")


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "loop",
        help="nanoseconds per call_soon, timer, task, beside asyncio, uvloop and rloop",
        description="CPU nanoseconds per operation of event loops. Each measurement is a fresh process on one core.",
    )
    parser.add_argument(
        "--case",
        type=words("case", CASES),
        default=list(CASES),
        metavar="A,B",
        help=f"of {', '.join(CASES)} (all)",
    )
    parser.add_argument(
        "--peers", type=words("loop", LOOPS), default=list(LOOPS), metavar="A,B", help=f"of {', '.join(LOOPS)} (all)"
    )
    parser.add_argument("--reference", default="uvloop", choices=LOOPS, help="ratios are to this one (uvloop)")
    parser.add_argument("--backend", metavar="NAME", help="the poller of our loop (its own choice)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a loop that is installed failed."""
    core = cores().server
    loops, notes, failed = [], [], set()
    for name in options.peers:
        if importlib.util.find_spec(name) is None:
            notes.append(f"{name} left out: not installed (pip install {LOOPS[name]})")
            print(notes[-1], file=sys.stderr)
        else:
            loops.append(name)
    if not loops or options.rounds < 1:
        raise MeasureError("nothing to measure: at least one round and one installed loop are needed")
    tables = []
    for case in options.case:
        _, title, operations = CASES[case]
        found = {name: Series(name) for name in loops}
        for number, name in alternate(loops, options.rounds):
            if (case, name) in failed:
                continue
            progress(f"{case}: round {number + 1} of {options.rounds}, {name}")
            try:
                found[name].values.append(_measure(name, case, operations, core, options.backend))
            except MeasureError as error:
                failed.add((case, name))
                progress("")
                print(error, file=sys.stderr)
                notes.append(f"{name} failed on {case}: {str(error).splitlines()[-1]}")
        whole = [series for series in found.values() if len(series.values) == options.rounds]
        if whole:
            tables.append(Table(title, "CPU ns/operation", options.reference, whole))
    progress("")
    if not tables:
        raise MeasureError("no loop finished a case")
    method = (
        f"CPU time (user and system) of a process pinned to one core, per operation; a fresh process for each of "
        f"{options.rounds} rounds, the loops alternating, and the least of {REPEATS} repeats in each. Medians of the "
        f"rounds; our ratio with its lowest and highest round."
    )
    report = Report(stem("loop"), "Event loops: CPU per operation", method, tables, notes, as_matrix=True)
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if failed else 0


def _measure(loop: str, case: str, operations: int, core: int, backend: str | None) -> float:
    """Return CPU nanoseconds per operation, measured in a process of its own.

    :raises MeasureError: the process failed; carries its words.
    """
    name = f"{loop}:{backend}" if loop == "pollux" and backend else loop
    try:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), name, case, str(operations)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{name} on {case} did not end within 120 s") from None
    if done.returncode != 0:
        raise MeasureError(f"{name} on {case} ended with status {done.returncode}:\n{done.stderr.strip()}")
    return float(done.stdout)
