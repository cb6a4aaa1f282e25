"""`python -m benchmarks ws --broadcast N`: one message that a server sends to N connections, over and over.

The first connection sends a message, the server sends it to all, and when all have read it the next one follows. The
readers are one Python process on a core of its own; it is slower than the fast servers, but their CPU time is all that
counts.
"""

import argparse
import os
import resource
import select
import socket
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench import prepare
from benchmarks.measure import MeasureError, alternate, cpu, resident, summary
from benchmarks.options import progress, stem
from benchmarks.peer import Peer, Site
from benchmarks.report import Report, Series, Table, version
from benchmarks.server import ServerError, free_port, running
from benchmarks.ws.cases import CASES, OPENING, Case

SERVERS = Path(__file__).with_name("servers")
LARGEST = 16 * 1024  # bytes of a message: 1 MiB for 10,000 would be 10 GB
PATIENCE = 30.0  # seconds for all to have read one


def _peer(name: str, *distributions: str) -> Peer:
    def command(site: Site) -> list[str]:
        backend = [site.backend] if site.backend and name == "pollux" else []
        return [sys.executable, str(SERVERS / f"{name}_broadcast.py"), str(site.port), *backend]

    modules = ("pollux", "pollux_websocket", "httptools") if name == "pollux" else distributions
    return Peer(name, command, distributions, modules)


BROADCASTERS = {
    peer.name: peer
    for peer in (
        _peer("pollux", "pollux", "websockets"), _peer("picows", "picows", "uvloop"),
        _peer("aiohttp", "aiohttp", "uvloop"), _peer("websockets", "websockets", "uvloop"), _peer("tornado", "tornado"),
    )
}  # fmt: skip


class Audience:
    """`count` connections to 127.0.0.1:`port`.

    :raises ServerError: the server does not take so many.
    """

    def __init__(self, port: int, count: int, case: Case) -> None:
        self._request, self._answer = case.request(port), case.answer()
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(count):
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                self._sockets[connection.fileno()] = connection
                connection.sendall(OPENING)
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    data = connection.recv(4096)
                    if not data:
                        raise ConnectionError(f"it ended within {head!r}")
                    head += data
            except OSError as error:
                raise ServerError(f"connection {len(self._sockets)} of {count}: {error}") from None
            connection.setblocking(False)
            self._poll.register(connection, select.EPOLLIN)

    def hear(self) -> None:
        """Have a message sent to all, and read it.

        :raises ServerError: somebody has read something else, or nothing.
        """
        next(iter(self._sockets.values())).sendall(self._request)
        missing = dict.fromkeys(self._sockets, b"")
        while missing:
            events = self._poll.poll(PATIENCE)
            if not events:
                raise ServerError(f"{len(missing)} of {len(self._sockets)} have not read all after {PATIENCE:.0f} s")
            for fd, _ in events:
                data = self._sockets[fd].recv(65536)
                got = missing.pop(fd, b"") + data
                if data and len(got) < len(self._answer):
                    missing[fd] = got
                elif got != self._answer:
                    raise ServerError(f"{got[:60]!r} ({len(got)} bytes) came for a message of {len(self._answer)}")

    def close(self) -> None:
        """Close all."""
        for connection in self._sockets.values():
            connection.close()
        self._poll.close()


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--broadcast`."""
    parser.add_argument(
        "--broadcast", type=int, nargs="?", const=10_000, metavar="N",
        help="instead: a message sent to N connections (10000); messages above 16 KiB are left out",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if a server that is installed failed.

    :raises MeasureError: the options make no sense, or there is nothing to report.
    """
    count: int = options.broadcast
    if count < 1:
        raise MeasureError(f"--broadcast must be at least 1, not {count}")
    options.peers = [name for name in options.peers if name in BROADCASTERS]
    cases = [CASES[name] for name in options.case if len(CASES[name].message) <= LARGEST]
    bench = prepare(options, BROADCASTERS)
    note = _raise_limit(count + 64)  # and what an interpreter has open anyhow
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {bench.cores.load})
    try:
        tables = [_table(case, bench.peers, count, options, bench.cores.server, bench.failures) for case in cases]
    finally:
        os.sched_setaffinity(0, affinity)
    progress("")
    tables = [table for table in tables if table.series]
    if not tables:
        raise MeasureError("no server sent what it should: nothing to report")
    method = (
        f"CPU time of the server for each connection that a message is sent to, of {count:,} that are open, on a core "
        f"of its own. {options.rounds} rounds of {options.seconds:g} s or one message, the servers alternating. "
        f"`each` is the median of seconds from one message to the next, all having read it; `KiB` what the server's "
        f"memory has grown by for each connection."
    )
    report = Report(stem("ws-broadcast"), "WebSocket broadcast", method, tables, [*bench.notes, note, *bench.failures])
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if bench.failures else 0


def _raise_limit(needed: int) -> str:
    """Let this process open `needed` descriptors; return what was done. Servers have their limit raised, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise MeasureError(f"{needed} descriptors are needed: raise the hard limit of {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return f"soft limit of descriptors raised from {soft} to {needed}; hard limit {hard}"
    return f"soft limit of descriptors {soft}, hard limit {hard}"


def _table(
    case: Case, peers: list[Peer], count: int, options: argparse.Namespace, core: int, failures: list[str]
) -> Table:
    found = {peer.name: Series(peer.name) for peer in peers}
    paces: dict[str, list[float]] = {peer.name: [] for peer in peers}
    memory: dict[str, list[float]] = {peer.name: [] for peer in peers}
    failed: set[str] = set()
    for round_, peer in alternate(peers, options.rounds):
        if peer.name in failed:
            continue
        progress(f"{case.name}: round {round_ + 1} of {options.rounds}, {peer.name}")
        port = free_port()
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                command = peer.command(Site(port, case.name, folder, options.backend))
                with running(peer.name, command, port, core, folder) as session:
                    before = resident(session)
                    audience = Audience(port, count, case)
                    try:
                        audience.hear()
                        memory[peer.name].append((resident(session) - before) / 1024 / count)
                        start, used, messages = time.monotonic(), cpu(session), 0
                        while not messages or time.monotonic() - start < options.seconds:
                            audience.hear()
                            messages += 1
                        pace = (time.monotonic() - start) / messages
                        found[peer.name].values.append(cpu(session).since(used) / 1e3 / messages / count)
                        paces[peer.name].append(pace)
                    finally:
                        audience.close()
        except (ServerError, OSError) as error:
            failed.add(peer.name)
            progress("")
            print(f"{peer.name}: left out: {error}", file=sys.stderr)
            failures.append(f"{peer.name} failed on {case.name}: {str(error).splitlines()[0]}")
    for peer in peers:
        if paces[peer.name]:
            found[peer.name].notes = {
                "each": f"{summary(paces[peer.name]).median:.3f}",
                "KiB": f"{summary(memory[peer.name]).median:.1f}",
                "version": version(peer.distributions[0]),
            }
    whole = [series for series in found.values() if len(series.values) == options.rounds]
    return Table(f"{case.summary} to {count:,}", "CPU us/connection", options.reference, whole)
