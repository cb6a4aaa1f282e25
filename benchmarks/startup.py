"""`python -m benchmarks startup`: what an import costs, and how soon `pollux serve` answers.

Both are what a user waits for, so both are wall time, each in a fresh process, with byte code already compiled
(a first, unmeasured round sees to that).
"""

import argparse
import http.client
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import MeasureError, alternate, cores
from benchmarks.options import progress, stem
from benchmarks.report import Report, Series, Table
from benchmarks.server import ServerError, free_port, running

EXAMPLE = Path(__file__).parents[1] / "examples" / "01_getting_started.py"
IMPORTS = ("asyncio", "pollux", "pollux_web", "uvloop", "tornado.ioloop", "tornado.web", "aiohttp.web")
# What `import asyncio` has loaded is not counted again for the others.
TIMER = "import time{before}; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"


def configure(subjects: Any) -> argparse.ArgumentParser:
    """Add this subject to the command line."""
    parser: argparse.ArgumentParser = subjects.add_parser(
        "startup",
        help="milliseconds of `import pollux`, and of `pollux serve` until its first answer",
        description="Wall time of imports beyond `import asyncio`, and from the start of `pollux serve "
        "examples/01_getting_started.py` to its first answer.",
    )
    parser.add_argument("--backend", metavar="NAME", help="the poller of our server (its own choice)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure and report; 1 if something that is installed failed."""
    if options.rounds < 1:
        raise MeasureError(f"--rounds must be at least 1, not {options.rounds}")
    core = cores().server
    notes: list[str] = []
    names = []
    for name in IMPORTS:
        package = name.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            notes.append(f"{name} left out: not installed (pip install {'-e .' if 'pollux' in name else package})")
        else:
            names.append(name)
    found = {name: Series(name) for name in names}
    for number, name in alternate(names, options.rounds + 1):
        progress(f"import: round {number} of {options.rounds}, {name}")
        milliseconds = _import(name, core)
        if number > 0:
            found[name].values.append(milliseconds)
    tables = [Table("import, beyond import asyncio (asyncio: in full)", "ms", "asyncio", list(found.values()))]
    failed = False
    if "pollux" in names:
        try:
            tables.append(_first_answer(options, core))
        except ServerError as error:
            failed = True
            progress("")
            print(error, file=sys.stderr)
            notes.append(f"pollux serve failed: {str(error).splitlines()[0]}")
    progress("")
    method = f"Wall time of fresh processes pinned to one core, {options.rounds} rounds after one that is not counted."
    report = Report(stem("startup"), "Start-up", method, tables, notes)
    written = report.write(options.output)
    print(report.text())
    print("written:", *written, file=sys.stderr)
    return 1 if failed else 0


def _import(name: str, core: int) -> float:
    """Return the milliseconds one import takes in a fresh process.

    :raises MeasureError: the import failed; carries its words.
    """
    code = TIMER.format(name=name, before="" if name == "asyncio" else ", asyncio")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if done.returncode != 0:
        raise MeasureError(f"import {name} failed:\n{done.stderr.strip()}")
    return float(done.stdout) * 1e3


def _first_answer(options: argparse.Namespace, core: int) -> Table:
    """Measure from the start of the process to its first answer to GET /.

    :raises ServerError: it did not start, or did not answer 200.
    """
    series = Series("pollux serve")
    for number in range(options.rounds + 1):
        progress(f"serve: round {number} of {options.rounds}")
        port = free_port()
        command = [sys.executable, "-m", "pollux", "serve", str(EXAMPLE), "--port", str(port)]
        if options.backend is not None:
            command += ["--backend", options.backend]
        start = time.perf_counter()
        with running("pollux serve", command, port, core):
            status = _status(port)
            seconds = time.perf_counter() - start
            if status != 200:
                raise ServerError(f"pollux serve answered GET / with status {status}, expected 200")
        if number > 0:
            series.values.append(seconds * 1e3)
    return Table(f"pollux serve {EXAMPLE.name}: start of the process to the first answer", "ms", "", [series])


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"pollux serve did not answer GET /: {error!r}") from error
    finally:
        connection.close()
