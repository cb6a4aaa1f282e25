"""`python -m benchmarks client`: fetches on connections that stand, from a cheap server on another core."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.client.fetches import REPEATS
from benchmarks.http.cases import CASES as REQUESTS
from benchmarks.http.peers import PEERS as SERVERS
from benchmarks.measure import MeasureError, alternate, cores
from benchmarks.options import progress, stem, words
from benchmarks.peer import Peer, Site
from benchmarks.report import Report, Series, Table
from benchmarks.server import free_port, running

CASES = {"one": (1, "one at a time"), "sixteen": (16, "sixteen at a time")}
CLIENTS = {
    peer.name: peer
    for peer in (
        Peer("pollux", lambda site: [], ("pollux",), ("httptools",)),
        Peer("aiohttp", lambda site: [], ("aiohttp",), ("aiohttp",)),
        Peer("aiohttp-uvloop", lambda site: [], ("aiohttp", "uvloop"), ("aiohttp", "uvloop")),
        Peer("httpx", lambda site: [], ("httpx",), ("httpx",)),
        Peer("tornado", lambda site: [], ("tornado",), ("tornado",)),
    )
}
SCRIPT = Path(__file__).with_name("fetches.py")


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "client",
        help="CPU per fetch of HTTP clients",
        description="CPU microseconds of a client's process per fetch of 12 bytes, on connections that stand.",
    )
    for option, what, known in (("--case", "case", CASES), ("--peers", "client", CLIENTS)):
        text = f"of {', '.join(known)} (all)"
        parser.add_argument(option, type=words(what, known), default=list(known), metavar="A,B", help=text)
    parser.add_argument("--reference", default="aiohttp", choices=CLIENTS, help="ratios are to this one (aiohttp)")
    parser.add_argument("--fetches", type=int, default=2000, help="fetches in one repeat (2000)")
    parser.add_argument("--backend", metavar="NAME", help="the poller of our client (its own choice)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a client that is installed failed."""
    if options.rounds < 1 or options.fetches < max(number for number, _ in CASES.values()):
        raise MeasureError("--rounds must be at least 1, --fetches at least 16")
    clients, notes, failed = [], [], set()
    for name in options.peers:
        if (reason := CLIENTS[name].missing()) is None:
            clients.append(name)
        else:
            notes.append(f"{name} left out: {reason}")
            print(notes[-1], file=sys.stderr)
    if not clients:
        raise MeasureError("none of the clients asked for is installed (pip install -e '.[bench]' brings them all)")
    where = cores()
    server = SERVERS["python-floor" if SERVERS["c-floor"].missing() else "c-floor"]
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer"
        answer.write_bytes(REQUESTS["hello"].answer())
        port = free_port()
        with running(server.name, server.command(Site(port, "hello", answer)), port, where.load, Path(scratch)):
            for case in options.case:
                at_once, title = CASES[case]
                found = {name: Series(name) for name in clients}
                for number, name in alternate(clients, options.rounds):
                    if (case, name) in failed:
                        continue
                    progress(f"{case}: round {number + 1} of {options.rounds}, {name}")
                    try:
                        micros = _measure(name, port, at_once, options.fetches, where.server, options.backend)
                        found[name].values.append(micros)
                    except MeasureError as error:
                        failed.add((case, name))
                        progress("")
                        print(error, file=sys.stderr)
                        notes.append(f"{name} failed on {case}: {str(error).splitlines()[-1]}")
                whole = [series for series in found.values() if len(series.values) == options.rounds]
                if whole:
                    tables.append(Table(f"Fetches, {title}", "CPU us/fetch", options.reference, whole))
    progress("")
    if not tables:
        raise MeasureError("no client finished a case")
    method = (
        f"CPU time (user and system) of the client's process on a core of its own, per fetch of 12 bytes from "
        f"{server.name} on another core; a fresh process for each of {options.rounds} rounds, the clients alternating, "
        f"and the least of {REPEATS} repeats of {options.fetches} fetches in each. Tornado's client connects for each."
    )
    report = Report(stem("client"), "HTTP clients: CPU per fetch", method, tables, notes)
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if failed else 0


def _measure(name: str, port: int, at_once: int, fetches: int, core: int, backend: str | None) -> float:
    """Return CPU microseconds per fetch, measured in a process of its own.

    :raises MeasureError: the process failed; carries its words.
    """
    command = [sys.executable, str(SCRIPT), name, f"http://127.0.0.1:{port}/", str(at_once), str(fetches)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "POLLUX_BACKEND": backend} if backend else None,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{name} did not end within 300 s") from None
    if done.returncode != 0:
        raise MeasureError(f"{name} ended with status {done.returncode}:\n{done.stderr.strip()}")
    return float(done.stdout)
