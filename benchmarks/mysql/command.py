"""`python -m benchmarks mysql`: queries on a connection that stands, to a MariaDB server on another core."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import MeasureError, alternate, cores
from benchmarks.mysql.queries import CASES, REPEATS
from benchmarks.options import progress, stem, words
from benchmarks.peer import Peer
from benchmarks.report import Report, Series, Table
from benchmarks.server import free_port, running

TITLES = {"one": "SELECT 1", "rows": "A thousand rows of four columns"}
CLIENTS = {
    peer.name: peer
    for peer in (
        Peer("pollux", lambda site: [], ("pollux",), ("asyncmy", "twisted")),
        Peer("asyncmy-uvloop", lambda site: [], ("asyncmy", "uvloop"), ("asyncmy", "uvloop")),
        Peer("asyncmy-pollux", lambda site: [], ("asyncmy", "pollux"), ("asyncmy",)),
        Peer("aiomysql-uvloop", lambda site: [], ("aiomysql", "uvloop"), ("aiomysql", "uvloop")),
    )
}
SCRIPT = Path(__file__).with_name("queries.py")


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "mysql",
        help="CPU per query of MySQL clients",
        description="CPU microseconds of a client's process per query, on a connection that stands. Needs mariadbd.",
    )
    for option, what, known in (("--case", "case", CASES), ("--peers", "client", CLIENTS)):
        text = f"of {', '.join(known)} (all)"
        parser.add_argument(option, type=words(what, known), default=list(known), metavar="A,B", help=text)
    parser.add_argument("--reference", default="asyncmy-uvloop", choices=CLIENTS, help="ratios are to this one")
    parser.add_argument("--queries", type=int, default=3000, help="of SELECT 1 in one repeat (3000); of rows, a 30th")
    parser.add_argument("--backend", metavar="NAME", help="the poller of our client (its own choice)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a client that is installed failed."""
    if options.rounds < 1 or options.queries < 30:
        raise MeasureError("--rounds must be at least 1, --queries at least 30")
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
    tables = []
    with _mariadb(where.load) as port:
        for case in options.case:
            found = {name: Series(name) for name in clients}
            queries = options.queries if case == "one" else options.queries // 30
            for number, name in alternate(clients, options.rounds):
                if (case, name) in failed:
                    continue
                progress(f"{case}: round {number + 1} of {options.rounds}, {name}")
                try:
                    found[name].values.append(_measure(name, port, case, queries, where.server, options.backend))
                except MeasureError as error:
                    failed.add((case, name))
                    progress("")
                    print(error, file=sys.stderr)
                    notes.append(f"{name} failed on {case}: {str(error).splitlines()[-1]}")
            whole = [series for series in found.values() if len(series.values) == options.rounds]
            if whole:
                tables.append(Table(TITLES[case], "CPU us/query", options.reference, whole))
    progress("")
    if not tables:
        raise MeasureError("no client finished a case")
    method = (
        f"CPU time (user and system) of the client's process on a core of its own, per query to MariaDB on another, "
        f"one at a time; a new process for each of {options.rounds} rounds, the clients alternating, and the least of "
        f"{REPEATS} repeats in each. `pollux` is pollux_txmysql's runQuery, which prepares its statements; the others "
        "are drivers with a cursor for each query, as their documentation shows it."
    )
    report = Report(stem("mysql"), "MySQL clients: CPU per query", method, tables, notes)
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if failed else 0


@contextmanager
def _mariadb(core: int) -> Iterator[int]:
    """Run a server that lets anybody in, in a folder of its own; yield its port."""
    server = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    maker = shutil.which("mariadb-install-db")
    if server is None or maker is None:
        raise MeasureError("mariadbd is not installed: apt-get install mariadb-server")
    with tempfile.TemporaryDirectory() as folder:
        data, port = f"--datadir={folder}/data", free_port()
        common = [f"--tmpdir={folder}", "--innodb-log-file-size=16M", *(["--user=root"] if os.geteuid() == 0 else [])]
        made = subprocess.run([maker, "--no-defaults", *common, data], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise MeasureError(f"mariadb-install-db failed:\n{made.stderr.strip()[-1000:]}")
        command = [
            *(server, "--no-defaults", *common, data, "--skip-grant-tables", "--skip-name-resolve", "--skip-log-bin"),
            *(f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", f"--pid-file={folder}/pid"),
        ]
        with running("mariadbd", command, port, core):
            yield port


def _measure(name: str, port: int, case: str, queries: int, core: int, backend: str | None) -> float:
    """Return CPU microseconds per query, measured in a process of its own.

    :raises MeasureError: the process failed; carries its words.
    """
    try:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), name, str(port), case, str(queries)],
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
