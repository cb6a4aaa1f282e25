"""Run the Autobahn Testsuite against our server or our client, and say how it went. No part of the pytest suite.

    python -m tests.websocket.autobahn server|client --wstest "PYTHON2 WSTEST" [--backend NAME] [--cases 1.*,2.*]

`wstest` (autobahntestsuite on PyPI) needs Python 2.7:

    python2.7 -m pip install --target AB autobahntestsuite && touch AB/zope/__init__.py
    PYTHONPATH=AB python -m tests.websocket.autobahn server --wstest "python2.7 AB/bin/wstest"

All 517 cases take some minutes on a quiet machine. The exit status is 0 if no case has FAILED, is NON-STRICT or ended
UNCLEAN. INFORMATIONAL cases have no right answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pollux
from pollux_http import HTTPServer
from pollux_web import Application
from pollux_websocket import HandshakeError, WebSocketHandler, websocket_connect

LARGEST = 64 * 1024 * 1024  # bytes: case 9.* sends 16 MiB
GOOD = {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}
AGENT = "pollux"


class Echo(WebSocketHandler):
    """Sends back each message, compressed if the client can."""

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, isinstance(message, bytes))

    def get_compression_options(self) -> dict[str, Any]:
        return {}


@contextmanager
def testsuite(command: str, mode: str, spec: dict[str, Any], directory: Path) -> Any:
    """Run `wstest`."""
    file = directory / "spec.json"
    file.write_text(json.dumps(spec))
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen([*shlex.split(command), "-m", mode, "-s", str(file)], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


async def serve(options: argparse.Namespace, directory: Path) -> None:
    """Let the testsuite's client test our server."""
    server = HTTPServer(Application([("/", Echo)], websocket_max_message_size=LARGEST))
    server.listen(0, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    spec = {
        "outdir": str(directory), "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/"}],
        "cases": options.cases, "exclude-cases": options.exclude, "exclude-agent-cases": {},
    }  # fmt: skip
    with testsuite(options.wstest, "fuzzingclient", spec, directory) as process:
        await asyncio.get_running_loop().run_in_executor(None, process.wait)
    await server.shutdown(5)


async def connect(address: str, process: subprocess.Popen[bytes]) -> Any:
    """Connect, as often as it takes until the testsuite listens.

    :raises SystemExit: it has ended.
    """
    while process.poll() is None:
        try:
            return await websocket_connect(address, compression_options={}, max_message_size=LARGEST)
        except (OSError, HandshakeError):
            await asyncio.sleep(0.1)
    raise SystemExit(f"the testsuite ended with status {process.returncode} before it listened on {address}")


async def visit(options: argparse.Namespace, directory: Path) -> None:
    """Let our client be tested by the testsuite's server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"ws://127.0.0.1:{free.getsockname()[1]}"
    spec = {
        "url": base, "outdir": str(directory), "cases": options.cases, "exclude-cases": options.exclude,
        "exclude-agent-cases": {},
    }  # fmt: skip
    with testsuite(options.wstest, "fuzzingserver", spec, directory) as process:
        counting = await connect(f"{base}/getCaseCount", process)
        count = int(await counting.read_message())
        async for _ in counting:
            pass
        for number in range(1, count + 1):
            print(f"\r{number} of {count}", end="", file=sys.stderr)
            connection = await connect(f"{base}/runCase?case={number}&agent={AGENT}", process)
            async for message in connection:
                if connection._connection.is_closing:
                    break
                await connection.write_message(message, isinstance(message, bytes))
        async for _ in await connect(f"{base}/updateReports?agent={AGENT}", process):
            pass


def main() -> int:
    """Run, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["server", "client"], help="which of ours is tested")
    parser.add_argument("--wstest", default="wstest", help="the command (wstest)")
    parser.add_argument("--backend", help="the poller (the best there is)")
    parser.add_argument("--cases", type=lambda text: text.split(","), default=["*"], help="such as 1.*,7.1.1 (all)")
    parser.add_argument("--exclude", type=lambda text: text.split(","), default=[], help="such as 9.*,12.*,13.*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        pollux.run((serve if options.side == "server" else visit)(options, directory), backend=options.backend)
        index = directory / "index.json"
        if not index.exists():
            print((directory / "log").read_text()[-2000:], file=sys.stderr)
            return 1
        cases = json.loads(index.read_text())[AGENT]
    behavior = Counter(case["behavior"] for case in cases.values())
    closing = Counter(case["behaviorClose"] for case in cases.values())
    print(f"\n{options.side}: {len(cases)} cases; behavior {dict(behavior)}; closing {dict(closing)}")
    wrong = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in cases.items()
        if not {case["behavior"], case["behaviorClose"]} <= GOOD
    }
    for name, how in wrong.items():
        print(name, *how)
    return 1 if wrong or "UNIMPLEMENTED" in behavior else 0


if __name__ == "__main__":
    sys.exit(main())
