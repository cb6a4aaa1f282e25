"""Servers under a closed loop of requests, the contestants alternating: what `http`, `tcp` and `ws` have in common."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.load.generator import Generator, GeneratorError, generator, program
from benchmarks.measure import Cores, MeasureError, alternate, core_busy, cores, cpu, summary
from benchmarks.options import progress, stem, words
from benchmarks.peer import Peer, Site
from benchmarks.report import Report, Series, Table, version
from benchmarks.server import ServerError, free_port, running

WARM_SECONDS = 0.5


class Case(Protocol):
    """What is asked of every server: one request, over and over."""

    @property
    def name(self) -> str:
        """The word on the command line."""

    @property
    def summary(self) -> str:
        """One line for the table."""

    @property
    def echo(self) -> bool:
        """Whether the right answer is `answer()`, byte for byte, and not any response of HTTP. Such a case may have an
        `opening`: the request of an Upgrade, which each connection begins with."""

    def request(self, port: int) -> bytes:
        """Return the bytes to send to 127.0.0.1:`port`."""

    def answer(self) -> bytes:
        """Return the bytes of a right answer."""

    def fault(self, port: int) -> str | None:
        """Ask the server on 127.0.0.1:`port` once; return what is wrong with its answer, or None."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement: CPU microseconds per request, requests per second, and the shares of the server's core that
    the server used and that others took from it (its caches suffer: a disturbed round is a dear one).
    """

    micros: float
    rate: float
    busy: float
    others: float


def add_options(
    parser: argparse.ArgumentParser, cases: Iterable[str], peers: Iterable[str], reference: str, connections: int
) -> None:
    """Add the options of a subject with these cases and peers, and these defaults."""
    cases, peers = list(cases), list(peers)
    for option, what, known in (("--case", "case", cases), ("--peers", "peer", peers)):
        text = f"of {', '.join(known)} (all)"
        parser.add_argument(option, type=words(what, known), default=known, metavar="A,B", help=text)
    parser.add_argument(
        "--reference", default=reference, choices=peers, metavar="PEER", help=f"ratios are to this one ({reference})"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument(
        "--connections", type=int, default=connections, metavar="N", help=f"connections kept open ({connections})"
    )
    parser.add_argument("--backend", metavar="NAME", help="the poller of our server (its own choice)")
    parser.add_argument("--python", action="store_true", help="use the Python load generator, not the C one")


@dataclass(frozen=True, slots=True)
class Bench:
    """Settings of one run, the contestants that can take part, and the notes it ends with."""

    options: argparse.Namespace
    cores: Cores
    generator: list[str]
    peers: list[Peer]
    notes: list[str]
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self, peer: Peer, case: Case) -> Iterator[tuple[int, Generator]]:
        """Run a server and the generator on it; yield the server's session and the generator, warmed up.

        :raises ServerError: it does not start or answers wrongly.
        """
        port, connections = free_port(), self.options.connections
        with tempfile.TemporaryDirectory() as scratch:
            answer = Path(scratch) / "answer"
            answer.write_bytes(case.answer())
            command = peer.command(Site(port, case.name, answer, self.options.backend))
            with running(peer.name, command, port, self.cores.server, Path(scratch)) as session:
                fault = case.fault(port)
                if fault is not None:
                    raise ServerError(f"{peer.name} answers wrongly: {fault}")
                request = case.request(port)
                expected = case.answer() if case.echo else None
                opening = getattr(case, "opening", b"")
                with generator(
                    self.generator, port, connections, request, self.cores.load, answer=expected, opening=opening
                ) as load:
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

    def costs(self, peers: list[Peer], case: Case, unit: str) -> Table:
        """Measure a case; return its table."""
        costs: dict[str, list[Cost]] = {peer.name: [] for peer in peers}

        def measure(peer: Peer, session: int, load: Generator) -> None:
            costs[peer.name].append(self.request(session, load))

        self.rounds(peers, case, measure)
        found = {peer.name: Series(peer.name, [cost.micros for cost in costs[peer.name]]) for peer in peers}
        for peer in peers:
            if costs[peer.name]:
                found[peer.name].notes = _columns(peer, costs[peer.name])
        return self.table(case.summary, unit, found)

    def table(self, title: str, unit: str, found: dict[str, Series]) -> Table:
        """Return a table of those who finished every round."""
        whole = [series for series in found.values() if len(series.values) == self.options.rounds]
        return Table(title, unit, self.options.reference, whole)

    def finish(self, subject: str, title: str, tables: list[Table], method: str | None = None) -> int:
        """Write and print the report; return the exit status, 1 if a server that is installed failed.

        :param method: how it was measured, if that was not CPU time under a closed loop.
        :raises MeasureError: there is nothing to report.
        """
        o = self.options
        told = [table for table in tables if table.series]
        progress("")
        if not told:
            raise MeasureError("no server answered as it should: nothing to report")
        method = method or (
            f"CPU time of the server (user and system, all threads and processes) on a core of its own; the load comes "
            f"from another core over {o.connections} connections that stay open, one request in flight on each. "
            f"{o.rounds} rounds of {o.seconds:g} s, the servers alternating. `core busy` (median) tells whether a "
            f"server was saturated, `others` what else ran on its core: beyond a few percent, run again."
        )
        report = Report(stem(subject), title, method, told, self.notes + self.failures)
        written = report.write(o.output)
        print(report.text())
        print("written:", *written, file=sys.stderr)
        return 1 if self.failures else 0


def prepare(options: argparse.Namespace, peers: Mapping[str, Peer]) -> Bench:
    """Check the options and leave out who is missing, with a word.

    :raises MeasureError: the options make no sense, or nobody is left.
    """
    if options.rounds < 1 or options.connections < 1 or options.seconds <= 0:
        raise MeasureError("--rounds and --connections must be at least 1, --seconds above 0")
    found, notes = [], []
    for name in options.peers:
        reason = peers[name].missing()
        if reason is None:
            found.append(peers[name])
        else:
            notes.append(f"{name} left out: {reason}")
            print(notes[-1], file=sys.stderr)
    if not found:
        raise MeasureError("none of the servers asked for is installed (pip install -e '.[bench]' brings them all)")
    bench = Bench(options, cores(), program(options.python), found, notes)
    if len(bench.generator) > 1:
        notes.append("load from the Python generator: the fast servers wait for it, and poll more often for that")
    if bench.cores.shared:
        notes.append("one core only: server and load share it, and its caches")
    return bench


def _columns(peer: Peer, costs: list[Cost]) -> dict[str, str]:
    return {
        "requests/s": f"{summary([cost.rate for cost in costs]).median:,.0f}",
        "core busy": f"{summary([cost.busy for cost in costs]).median:.0%}",
        "others, worst": f"{max(cost.others for cost in costs):.0%}",
        "version": version(peer.distributions[0]) if peer.distributions else "",
    }
