"""`python -m benchmarks twisted`: Twisted's echo server on each reactor."""

import argparse
from typing import Any

from benchmarks.bench import add_options, prepare
from benchmarks.tcp.cases import BLOCK, LINE, Case
from benchmarks.twisted.peers import PEERS

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("echo", "64 B: Protocol.dataReceived -> transport.write", LINE),
        Case("echo-16k", "16 KiB: Protocol.dataReceived -> transport.write", BLOCK),
    )
}


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "twisted",
        help="CPU per echo of a Twisted server, on PolluxReactor beside Twisted's own reactors",
        description="CPU microseconds of a Twisted echo server per message, closed loop, one message in flight on each "
        "connection. Each round starts the server on every reactor afresh, checks its echo, warms it up for half a "
        "second and measures.",
    )
    add_options(parser, CASES, PEERS, reference="twisted-epoll", connections=32)
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    bench = prepare(options, PEERS)
    tables = [bench.costs(bench.peers, CASES[name], "CPU us/message") for name in options.case]
    return bench.finish("twisted", "Twisted's echo server: CPU per message", tables)
