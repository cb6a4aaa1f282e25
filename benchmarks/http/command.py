"""`python -m benchmarks http`: requests of HTTP, or the price of idle connections."""

import argparse
import resource
from typing import Any

from benchmarks.bench import Bench, add_options, prepare
from benchmarks.http.cases import CASES, Case
from benchmarks.http.peers import PEERS
from benchmarks.load.generator import Generator, Paced
from benchmarks.measure import MeasureError, resident, summary
from benchmarks.peer import Peer
from benchmarks.report import Series, Table, number
from benchmarks.server import ServerError


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "http",
        help="CPU per request: hello, json, path parameter, 1 MiB; or memory per idle connection; or latency",
        description="CPU microseconds of the server per request, closed loop, no pipelining. Each round starts every "
        "server afresh, checks its answer, warms it up for half a second and measures.",
    )
    add_options(parser, CASES, PEERS, reference="socketify", connections=64)
    parser.add_argument(
        "--idle",
        type=int,
        default=0,
        metavar="N",
        help="instead of the cases: hold N idle connections, measure memory for each and CPU per request beside them",
    )
    parser.add_argument(
        "--latency", action="store_true", help="instead of CPU: latency at half of each server's own peak load"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    if options.idle < 0:
        raise MeasureError(f"--idle must not be negative, not {options.idle}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = options.idle + options.connections + 64  # and what an interpreter and its server have open anyhow
    if most != resource.RLIM_INFINITY and needed > most:
        raise MeasureError(f"{options.idle} idle connections need {needed} descriptors: raise the hard limit of {most}")
    bench = prepare(options, PEERS)
    if options.idle:
        return bench.finish("http-idle", "HTTP: idle connections", _idle(bench))
    if options.latency:
        tables = [_latency(bench, CASES[name]) for name in options.case]
        return bench.finish("http-latency", "HTTP: latency at half of peak load", tables, _LATENCY)
    tables = [bench.costs(_able(bench, CASES[name]), CASES[name], "CPU us/request") for name in options.case]
    return bench.finish("http", "HTTP: CPU per request", tables)


_LATENCY = (
    "Each server on a core of its own. In each round its peak is measured, over connections with one request in flight "
    "on each; then half as many requests a second are sent, evenly, whether or not those before are answered. A "
    "request's time runs from when it was due to when its answer was there."
)


def _able(bench: Bench, case: Case) -> list[Peer]:
    """Return who takes part: the floors send an answer in one piece, and take a request for one."""
    return [peer for peer in bench.peers if not (case.large and peer.name.endswith("-floor"))]


def _latency(bench: Bench, case: Case) -> Table:
    peers = _able(bench, case)
    found = {peer.name: Series(peer.name) for peer in peers}
    all_paced: dict[str, list[tuple[float, Paced]]] = {peer.name: [] for peer in peers}

    def measure(peer: Peer, session: int, load: Generator) -> None:
        peak = load.run(bench.options.seconds)
        rate = peak.requests / peak.seconds / 2
        paced = load.pace(rate, bench.options.seconds)
        found[peer.name].values.append(paced.p99)
        runs = all_paced[peer.name]
        runs.append((rate, paced))
        found[peer.name].notes = {
            "p50": number(summary([each.p50 for _, each in runs]).median),
            "greatest": number(max(each.worst for _, each in runs)),
            "requests/s": f"{summary([rate for rate, _ in runs]).median:,.0f}",
        }

    bench.rounds(peers, case, measure)
    return bench.table(f"{case.summary}: at half of its own peak", "us, 99th percentile", found)


def _idle(bench: Bench) -> list[Table]:
    n = bench.options.idle
    peers = bench.peers
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

    bench.rounds(peers, CASES["hello"], measure)
    return [
        bench.table(f"Memory per idle connection, {n:,} held after one request on each", "KiB", memory),
        bench.table(f"CPU per request beside {n:,} idle connections", "CPU us/request", beside),
    ]
