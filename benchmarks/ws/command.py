"""`python -m benchmarks ws`: echo of messages of three sizes; or one message to many connections."""

import argparse
from typing import Any

from benchmarks.bench import add_options, prepare
from benchmarks.ws import broadcast
from benchmarks.ws.cases import CASES
from benchmarks.ws.peers import PEERS


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "ws",
        help="CPU per WebSocket message echoed: 64 B, 16 KiB, 1 MiB",
        description="CPU microseconds of the server per message echoed, closed loop, one message in flight on each "
        "connection, one frame for each message. Each round starts every server afresh, checks its echo, warms it up "
        "for half a second and measures.",
    )
    add_options(parser, CASES, PEERS, reference="picows", connections=32)
    broadcast.add_option(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed."""
    if options.broadcast is not None:
        return broadcast.run(options)
    bench = prepare(options, PEERS)
    tables = [bench.costs(bench.peers, CASES[name], "CPU us/message") for name in options.case]
    return bench.finish("ws", "WebSocket echo: CPU per message", tables)
