"""`python -m benchmarks http`: alternate over the servers and write the tables."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.http.cases import CASES, Case
from benchmarks.http.generator import Generator, GeneratorError, generator, program
from benchmarks.http.peers import PEERS, Peer, Site
from benchmarks.measure import Cores, MeasureError, alternate, cores, cpu, resident, summary
from benchmarks.report import Report, Series, Table, number, version
from benchmarks.server import ServerError, free_port, running

WARM_SECONDS = 0.5


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "http",
        help="CPU per request: hello, json, path parameter; or memory per idle connection",
        description="CPU microseconds of the server per request, closed loop, no pipelining. Each round starts every "
        "server afresh, checks its answer, warms it up for half a second and measures.",
    )
    parser.add_argument(
        "--case",
        type=_words("case", list(CASES)),
        default=list(CASES),
        metavar="A,B",
        help=f"of {', '.join(CASES)} (all; hello with --idle)",
    )
    parser.add_argument(
        "--peers",
        type=_words("peer", list(PEERS)),
        default=list(PEERS),
        metavar="A,B",
        help=f"of {', '.join(PEERS)} (all)",
    )
    parser.add_argument("--reference", default="socketify", metavar="PEER", help="ratios are to this one (socketify)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--connections", type=int, default=64, metavar="N", help="keep-alive connections (64)")
    parser.add_argument("--backend", metavar="NAME", help="the poller of our server (its own choice)")
    parser.add_argument(
        "--idle",
        type=int,
        default=0,
        metavar="N",
        help="instead: hold N idle connections, measure memory for each and CPU per request beside them",
    )
    parser.add_argument("--python", action="store_true", help="use the Python load generator, not the C one")
    return parser


def _words(what: str, known: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"unknown {what} {word!r}: choose from {', '.join(known)}")
        return words

    return parse


@dataclass(frozen=True, slots=True)
class Bench:
    """Settings of one run, and the servers and notes it ends with."""

    options: argparse.Namespace
    cores: Cores
    generator: list[str]
    notes: list[str]

    @contextmanager
    def serving(self, peer: Peer, case: Case) -> Iterator[tuple[int, Generator]]:
        """Run a server and the generator on it; yield the server's session and the generator, warmed up.

        :raises ServerError: it does not start or answers wrongly.
        """
        port = free_port()
        with tempfile.TemporaryDirectory() as scratch:
            answer = Path(scratch) / "answer"
            answer.write_bytes(case.answer())
            command = peer.command(Site(port, answer, self.options.backend))
            with running(peer.name, command, port, self.cores.server, Path(scratch)) as session:
                fault = case.fault(port)
                if fault is not None:
                    raise ServerError(f"{peer.name} answers wrongly: {fault}")
                request = case.request(port)
                with generator(self.generator, port, self.options.connections, request, self.cores.load) as load:
                    load.run(WARM_SECONDS)
                    yield session, load

    def request(self, session: int, load: Generator) -> tuple[float, float, float]:
        """Return CPU microseconds per request, requests per second, and the share of its core the server used."""
        before = cpu(session)
        done = load.run(self.options.seconds)
        used = cpu(session).since(before)
        return used / 1e3 / done.requests, done.requests / done.seconds, used / 1e9 / done.seconds

    def rounds(self, peers: list[Peer], case: Case, measure: Callable[[Peer, int, Generator], None]) -> None:
        """Call `measure` for every peer in every round. A peer that fails is left out of all tables, with a note."""
        failed: set[str] = set()
        for number_, peer in alternate(peers, self.options.rounds):
            if peer.name in failed:
                continue
            progress(f"{case.name}: round {number_ + 1} of {self.options.rounds}, {peer.name}")
            try:
                with self.serving(peer, case) as (session, load):
                    measure(peer, session, load)
            except (ServerError, GeneratorError) as error:
                failed.add(peer.name)
                progress("")
                print(f"{peer.name}: left out: {error}", file=sys.stderr)
                self.notes.append(f"{peer.name} failed on {case.name}: {str(error).splitlines()[0]}")


def progress(line: str) -> None:
    """Show where the run is, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    bench = Bench(options, cores(), program(options.python), [])
    _check(options)
    peers = []
    for name in options.peers:
        reason = PEERS[name].missing()
        if reason is None:
            peers.append(PEERS[name])
        else:
            bench.notes.append(f"{name} left out: {reason}")
            print(bench.notes[-1], file=sys.stderr)
    if not peers:
        raise MeasureError("none of the servers asked for is installed (pip install -e '.[bench]' brings them all)")
    if len(bench.generator) > 1:
        bench.notes.append("load from the Python generator: the fast servers wait for it, and poll more often for that")
    if bench.cores.shared:
        bench.notes.append("one core only: server and load share it, and its caches")
    report = _idle(bench, peers) if options.idle else _requests(bench, peers)
    progress("")
    report.tables = [table for table in report.tables if table.series]
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if any(" failed on " in note for note in bench.notes) else 0


def _check(options: argparse.Namespace) -> None:
    if options.rounds < 1 or options.connections < 1 or options.idle < 0 or options.seconds <= 0:
        raise MeasureError("--rounds and --connections must be at least 1, --seconds above 0, --idle not negative")
    if options.reference not in PEERS:
        raise MeasureError(f"--reference {options.reference!r} is no peer: choose from {', '.join(PEERS)}")


def _stem(name: str) -> str:
    return f"{name}-py{sys.version_info[0]}.{sys.version_info[1]}"


def _method(bench: Bench) -> str:
    o = bench.options
    return (
        f"CPU time of the server (user and system, all threads and processes) on a core of its own; the load comes "
        f"from another core over {o.connections} keep-alive connections, one request in flight on each. {o.rounds} rounds of "
        f"{o.seconds:g} s, the servers alternating. Requests per second and the share of its core the server was busy "
        f"are shown for the last round only to tell that it was saturated."
    )


def _requests(bench: Bench, peers: list[Peer]) -> Report:
    tables = []
    for case in (CASES[name] for name in bench.options.case):
        found: dict[str, Series] = {peer.name: Series(peer.name) for peer in peers}

        def measure(
            peer: Peer, session: int, load: Generator, found: dict[str, Series] = found
        ) -> None:  # `found` bound now: each case has its own
            micros, rate, busy = bench.request(session, load)
            series = found[peer.name]
            series.values.append(micros)
            series.notes = {
                "requests/s": f"{rate:,.0f}",
                "core busy": f"{busy:.0%}",
                "version": version(peer.distributions[0]) if peer.distributions else "",
            }

        bench.rounds(peers, case, measure)
        tables.append(_table(bench, case.summary, "CPU us/request", found))
    return Report(_stem("http"), "HTTP: CPU per request", _method(bench), tables, bench.notes)


def _idle(bench: Bench, peers: list[Peer]) -> Report:
    n = bench.options.idle
    case = CASES["hello"]
    memory = {peer.name: Series(peer.name) for peer in peers}
    beside = {peer.name: Series(peer.name) for peer in peers}
    alone: dict[str, list[float]] = {peer.name: [] for peer in peers}

    def measure(peer: Peer, session: int, load: Generator) -> None:
        alone_micros, _, _ = bench.request(session, load)
        rss = resident(session)
        load.hold(n)
        grown = resident(session) - rss
        micros, _, _ = bench.request(session, load)
        held = load.alive()
        if held < n:
            raise ServerError(f"{peer.name} closed {n - held} of {n} idle connections while it was measured")
        memory[peer.name].values.append(grown / 1024 / n)
        alone[peer.name].append(alone_micros)
        beside[peer.name].values.append(micros)
        against = summary([b / a for a, b in zip(alone[peer.name], beside[peer.name].values, strict=True)])
        beside[peer.name].notes = {
            "with none": number(summary(alone[peer.name]).median),
            "/ with none": f"{against.median:.2f}x ({number(against.low)} .. {number(against.high)})",
        }

    bench.rounds(peers, case, measure)
    tables = [
        _table(bench, f"Memory per idle connection, {n:,} held after one request on each", "KiB", memory),
        _table(bench, f"CPU per request beside {n:,} idle connections", "CPU us/request", beside),
    ]
    return Report(_stem("http-idle"), "HTTP: idle connections", _method(bench), tables, bench.notes)


def _table(bench: Bench, title: str, unit: str, found: dict[str, Series]) -> Table:
    whole = [series for series in found.values() if len(series.values) == bench.options.rounds]
    return Table(title, unit, bench.options.reference, whole)
