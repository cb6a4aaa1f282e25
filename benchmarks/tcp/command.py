"""`python -m benchmarks tcp`: each case on each server that has the interface."""

import argparse
from typing import Any

from benchmarks.bench import add_options, prepare
from benchmarks.tcp.cases import CASES
from benchmarks.tcp.peers import IOSTREAMS, PEERS


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "tcp",
        help="CPU per echo: asyncio's Protocol and streams, IOStream, beside asyncio, uvloop, rloop and tornado",
        description="CPU microseconds of the server per message echoed, closed loop, one message in flight on each "
        "connection. Each round starts every server afresh, checks its echo, warms it up for half a second and "
        "measures.",
    )
    add_options(parser, CASES, PEERS, reference="uvloop", connections=32)
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    bench = prepare(options, PEERS)
    tables = []
    for case in (CASES[name] for name in options.case):
        peers = [peer for peer in bench.peers if not (case.name.startswith("protocol") and peer.name in IOSTREAMS)]
        if peers:
            tables.append(bench.costs(peers, case, "CPU us/message"))
    return bench.finish("tcp", "TCP echo: CPU per message", tables)
