"""`python -m benchmarks http`: requests of HTTP, or the price of idle connections."""

import argparse
import resource
from typing import Any

from benchmarks.bench import Bench, add_options, prepare
from benchmarks.http.cases import CASES
from benchmarks.http.peers import PEERS
from benchmarks.load.generator import Generator
from benchmarks.measure import MeasureError, resident, summary
from benchmarks.peer import Peer
from benchmarks.report import Series, Table, number
from benchmarks.server import ServerError


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "http",
        help="CPU per request: hello, json, path parameter; or memory per idle connection",
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
    tables = [bench.costs(bench.peers, CASES[name], "CPU us/request") for name in options.case]
    return bench.finish("http", "HTTP: CPU per request", tables)


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
