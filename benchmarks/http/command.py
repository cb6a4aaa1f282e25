"""`python -m benchmarks http`: alternate over the servers and write the tables."""

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.http.cases import CASES, Case
from benchmarks.http.generator import Generator, GeneratorError, generator, program
from benchmarks.http.peers import PEERS, Peer, Site
from benchmarks.measure import Cores, MeasureError, alternate, core_busy, cores, cpu, resident, summary
from benchmarks.options import progress, stem, words
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
        type=words("case", CASES),
        default=list(CASES),
        metavar="A,B",
        help=f"of {', '.join(CASES)} (all; hello with --idle)",
    )
    parser.add_argument(
        "--peers",
        type=words("peer", PEERS),
        default=list(PEERS),
        metavar="A,B",
        help=f"of {', '.join(PEERS)} (all)",
    )
    parser.add_argument(
        "--reference", default="socketify", choices=PEERS, metavar="PEER", help="ratios are to this one (socketify)"
    )
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


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement: CPU microseconds per request, requests per second, and the shares of the server's core that
    the server used and that others took from it (its caches suffer: a disturbed round is a dear one).
    """

    micros: float
    rate: float
    busy: float
    others: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Settings of one run, and the servers and notes it ends with."""

    options: argparse.Namespace
    cores: Cores
    generator: list[str]
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

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

    def request(self, session: int, load: Generator) -> Cost:
        """Measure for `--seconds`."""
        others, before = core_busy(self.cores.server), cpu(session)
        done = load.run(self.options.seconds)
        used, busy = cpu(session).since(before), core_busy(self.cores.server) - others
        return Cost(
            micros=used / 1e3 / done.requests,
            rate=done.requests / done.seconds,
            busy=used / 1e9 / done.seconds,
            others=max(0.0, (busy - used) / 1e9 / done.seconds),
        )

    def rounds(self, peers: list[Peer], case: Case, measure: Callable[[Peer, int, Generator], None]) -> None:
        """Call `measure` for every peer in every round. A peer that fails is left out of all tables, with a note."""
        failed: set[str] = set()
        for round_, peer in alternate(peers, self.options.rounds):
            if peer.name in failed:
                continue
            progress(f"{case.name}: round {round_ + 1} of {self.options.rounds}, {peer.name}")
            try:
                with self.serving(peer, case) as (session, load):
                    measure(peer, session, load)
            except (ServerError, GeneratorError) as error:
                failed.add(peer.name)
                progress("")
                print(f"{peer.name}: left out: {error}", file=sys.stderr)
                self.failures.append(f"{peer.name} failed on {case.name}: {str(error).splitlines()[0]}")


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    _check(options)
    bench = Bench(options, cores(), program(options.python))
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
    if not report.tables:
        raise MeasureError("no server answered as it should: nothing to report")
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if bench.failures else 0


def _check(options: argparse.Namespace) -> None:
    if options.rounds < 1 or options.connections < 1 or options.idle < 0 or options.seconds <= 0:
        raise MeasureError("--rounds and --connections must be at least 1, --seconds above 0, --idle not negative")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = options.idle + options.connections + 64  # and what an interpreter and its server have open anyhow
    if most != resource.RLIM_INFINITY and needed > most:
        raise MeasureError(f"{options.idle} idle connections need {needed} descriptors: raise the hard limit of {most}")


def _method(bench: Bench) -> str:
    o = bench.options
    return (
        f"CPU time of the server (user and system, all threads and processes) on a core of its own; the load comes "
        f"from another core over {o.connections} keep-alive connections, one request in flight on each. "
        f"{o.rounds} rounds of {o.seconds:g} s, the servers alternating. `core busy` (median) tells whether a server "
        f"was saturated, `others` what else ran on its core: beyond a few percent, run again."
    )


def _requests(bench: Bench, peers: list[Peer]) -> Report:
    tables = []
    for case in (CASES[name] for name in bench.options.case):
        costs: dict[str, list[Cost]] = {peer.name: [] for peer in peers}

        def measure(peer: Peer, session: int, load: Generator, costs: dict[str, list[Cost]] = costs) -> None:
            costs[peer.name].append(bench.request(session, load))

        bench.rounds(peers, case, measure)
        found = {peer.name: Series(peer.name, [cost.micros for cost in costs[peer.name]]) for peer in peers}
        for peer in peers:
            if costs[peer.name]:
                found[peer.name].notes = _columns(peer, costs[peer.name])
        tables.append(_table(bench, case.summary, "CPU us/request", found))
    return _report(bench, "http", "HTTP: CPU per request", tables)


def _columns(peer: Peer, costs: list[Cost]) -> dict[str, str]:
    return {
        "requests/s": f"{summary([cost.rate for cost in costs]).median:,.0f}",
        "core busy": f"{summary([cost.busy for cost in costs]).median:.0%}",
        "others, worst": f"{max(cost.others for cost in costs):.0%}",
        "version": version(peer.distributions[0]) if peer.distributions else "",
    }


def _idle(bench: Bench, peers: list[Peer]) -> Report:
    n = bench.options.idle
    case = CASES["hello"]
    memory = {peer.name: Series(peer.name) for peer in peers}
    beside = {peer.name: Series(peer.name) for peer in peers}
    alone: dict[str, list[float]] = {peer.name: [] for peer in peers}

    def measure(peer: Peer, session: int, load: Generator) -> None:
        before = bench.request(session, load).micros
        rss = resident(session)
        load.hold(n)
        grown = resident(session) - rss
        micros = bench.request(session, load).micros
        held = load.alive()
        if held < n:
            raise ServerError(f"{peer.name} closed {n - held} of {n} idle connections while it was measured")
        memory[peer.name].values.append(grown / 1024 / n)
        alone[peer.name].append(before)
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
    return _report(bench, "http-idle", "HTTP: idle connections", tables)


def _report(bench: Bench, subject: str, title: str, tables: list[Table]) -> Report:
    told = [table for table in tables if table.series]
    return Report(stem(subject), title, _method(bench), told, bench.notes + bench.failures)


def _table(bench: Bench, title: str, unit: str, found: dict[str, Series]) -> Table:
    whole = [series for series in found.values() if len(series.values) == bench.options.rounds]
    return Table(title, unit, bench.options.reference, whole)
