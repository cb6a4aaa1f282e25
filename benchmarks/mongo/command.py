"""`python -m benchmarks mongo`: our client and the driver alone, on our loop, on uvloop and on asyncio's."""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.load.generator import generator, program
from benchmarks.measure import Cores, MeasureError, alternate, cores, ratio
from benchmarks.mongo.finds import DATABASE, REPEATS
from benchmarks.options import progress, stem, words
from benchmarks.peer import Peer
from benchmarks.report import Report, Series, Table
from benchmarks.server import free_port, running

CASES = ("one", "sixteen", "memory", "lag")
AT_ONCE = {"one": 1, "sixteen": 16}
UNITS = {"memory": "MiB", "lag": "ms, p99"}
TITLES = {
    "one": "find_one, one at a time",
    "sixteen": "find_one, sixteen at a time",
    "memory": "Memory taken by async for over a long result",
    "lag": "Lag of a loop that streams a long result and serves 64 clients meanwhile",
}
CLIENTS = {
    peer.name: peer
    for peer in (
        Peer("pollux", lambda site: [], ("pymongo",), ("pymongo",)),
        Peer("bare-pollux", lambda site: [], ("pymongo",), ("pymongo",)),
        Peer("bare-uvloop", lambda site: [], ("pymongo", "uvloop"), ("pymongo", "uvloop")),
        Peer("bare-asyncio", lambda site: [], ("pymongo",), ("pymongo",)),
    )
}
STREAMING = ("pollux", "bare-pollux")  # whose loop can tell its lag
HERE = Path(__file__).parent
LONG_BYTES = 300  # of a document of `long`: 100,000 are 30 MB


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "mongo",
        help="CPU per find of MongoDB clients; memory and lag of long results",
        description="CPU microseconds of a client's process per find_one of a short document, the driver alone beside "
        "ours; then a result of 100,000 documents and 30 MB: memory, and the loop's lag. Needs secantusdb.",
    )
    for option, what, known in (("--case", "case", CASES), ("--peers", "client", tuple(CLIENTS))):
        text = f"of {', '.join(known)} (all)"
        parser.add_argument(option, type=words(what, known), default=list(known), metavar="A,B", help=text)
    parser.add_argument("--reference", default="bare-pollux", choices=CLIENTS, help="ratios are to this (bare-pollux)")
    parser.add_argument("--finds", type=int, default=1000, help="finds in one repeat (1000)")
    parser.add_argument("--documents", type=int, default=100_000, help="documents of the long result (100,000)")
    parser.add_argument("--seconds", type=float, default=4.0, help="for how long the lag is watched (4)")
    parser.add_argument("--backend", metavar="NAME", help="the poller of our loop (its own choice)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a client that is installed failed."""
    if options.rounds < 1 or options.finds < 16 or options.documents < 1000 or options.seconds <= 0:
        raise MeasureError("--rounds must be at least 1, --finds 16, --documents 1000, --seconds above 0")
    server = Path(sys.executable).with_name("secantusd-rs")
    if not server.exists():
        raise MeasureError("secantusd-rs, the server, is not installed (pip install secantusdb==0.6.0b17)")
    clients, notes = [], []
    for name in options.peers:
        if (reason := CLIENTS[name].missing()) is None:
            clients.append(name)
        else:
            notes.append(f"{name} left out: {reason}")
            print(notes[-1], file=sys.stderr)
    if not clients:
        raise MeasureError("none of the clients asked for is installed (pip install -e '.[bench]' brings them all)")
    where, failures = cores(), list[str]()
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    if options.backend:
        environment["POLLUX_BACKEND"] = options.backend
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        command = [str(server), "--port", str(port), "--storage-path", f"{scratch}/data", "--log-level", "WARNING"]
        with running("secantusd-rs", command, port, where.load, Path(scratch)):
            _fill(port, options.documents)
            for case in options.case:
                asked = [name for name in clients if case != "lag" or name in STREAMING]
                measure = _measure(case, options, port, where, environment)
                tables += _table(case, asked, options, measure, failures)
    progress("")
    if not tables:
        raise MeasureError("no client finished a case")
    method = (
        f"Each client in a fresh process on a core of its own, secantusd-rs on another; {options.rounds} rounds, the "
        f"clients alternating. Finds: CPU time (user and system) per find_one by _id, the least of {REPEATS} repeats "
        f"of {options.finds} in each round. Memory: most resident while {options.documents:,} documents of "
        f"{LONG_BYTES} bytes are read, above what it was. Lag: how long the loop was busy between two polls, the 99th "
        "percentile from `loop.statistics()` (its powers of two, upwards), while the same result streams again and "
        "again through an HTTP handler, and 64 clients are served a short page."
    )
    report = Report(stem("mongo"), "MongoDB clients", method, tables, notes + failures)
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if failures else 0


def _table(
    case: str, clients: list[str], options: argparse.Namespace, measure: Callable[[str], float], failures: list[str]
) -> list[Table]:
    """Measure a case; return its table, or none if nobody finished."""
    found = {name: Series(name) for name in clients}
    failed: set[str] = set()
    for number, name in alternate(clients, options.rounds) if clients else ():
        if name in failed:
            continue
        progress(f"{case}: round {number + 1} of {options.rounds}, {name}")
        try:
            found[name].values.append(measure(name))
        except MeasureError as error:
            failed.add(name)
            progress("")
            print(error, file=sys.stderr)
            failures.append(f"{name} failed on {case}: {str(error).splitlines()[-1]}")
    whole = [series for series in found.values() if len(series.values) == options.rounds]
    uvloop = next((series for series in whole if series.name == "bare-uvloop"), None)
    for series in whole if uvloop is not None and case in AT_ONCE else ():
        series.notes["/ bare-uvloop"] = f"{ratio(series.values, uvloop.values).median:.2f}x" if uvloop else ""
    return [Table(TITLES[case], UNITS.get(case, "CPU us/find"), options.reference, whole)] if whole else []


def _measure(
    case: str, options: argparse.Namespace, port: int, where: Cores, environment: dict[str, str]
) -> Callable[[str], float]:
    """Return what measures a client.

    :raises MeasureError: from that: the client's process failed; carries its words.
    """

    def finds(name: str) -> float:
        numbers = ["find_one", str(AT_ONCE[case]), str(options.finds)] if case in AT_ONCE else ["memory"]
        command = [sys.executable, str(HERE / "finds.py"), name, str(port), *numbers]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                env=environment,
                preexec_fn=lambda: os.sched_setaffinity(0, {where.server}),
            )
        except subprocess.TimeoutExpired:
            raise MeasureError(f"{name} did not end within 300 s") from None
        if done.returncode != 0:
            raise MeasureError(f"{name} ended with status {done.returncode}:\n{done.stderr.strip()}")
        return float(done.stdout)

    def lag(name: str) -> float:
        return _lag(name, port, options.seconds, where, environment)

    return lag if case == "lag" else finds


def _lag(name: str, port: int, seconds: float, where: Cores, environment: dict[str, str]) -> float:
    """Return the 99th percentile of a loop's lag, in milliseconds."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "handlers.py"), name, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, {where.server}),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise MeasureError(f"{name} did not start:\n{process.communicate()[1].strip()}")
            http_port = int(line)
            enough = threading.Event()
            streams = threading.Thread(target=_stream, args=(http_port, enough))
            streams.start()
            try:
                request = b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                with generator(program(False), http_port, 64, request, where.load) as load:
                    load.run(seconds)
            finally:
                enough.set()
                streams.join()
            said, errors = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise MeasureError(f"{name} ended with status {process.returncode}:\n{errors.strip()}")
    counts: list[tuple[float, int]] = json.loads(said)
    left = sum(count for _, count in counts) * 0.99
    for bound, count in counts:
        left -= count
        if left <= 0:
            return bound * 1000
    raise MeasureError(f"{name}: the loop has told of no lag: {said}")


def _stream(port: int, enough: threading.Event) -> None:
    """Read the long result again and again, from the first to the last byte of each."""
    while not enough.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", "/all")
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        connection.close()


def _fill(port: int, documents: int) -> None:
    """Make the collections."""
    import pymongo

    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", port) as client:
        database = client[DATABASE]
        database.short.insert_many([{"_id": number, "text": "x" * 50} for number in range(100)])
        for start in range(0, documents, 10_000):
            several = range(start, min(start + 10_000, documents))
            database.long.insert_many([{"_id": number, "text": "x" * (LONG_BYTES - 40)} for number in several])
