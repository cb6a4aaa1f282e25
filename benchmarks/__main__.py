"""`python -m benchmarks SUBJECT`: one subcommand for each subject, each in a module with `configure` and `run`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import startup
from benchmarks.build import BuildError
from benchmarks.client import command as client
from benchmarks.http import command as http
from benchmarks.load.generator import GeneratorError
from benchmarks.loop import command as loop
from benchmarks.measure import MeasureError
from benchmarks.mongo import command as mongo
from benchmarks.mysql import command as mysql
from benchmarks.server import ServerError, interruptible
from benchmarks.tcp import command as tcp
from benchmarks.twisted import command as twisted
from benchmarks.ws import command as ws

SUBJECTS = (http, client, tcp, twisted, ws, mongo, mysql, loop, startup)


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="CPU time per operation of Pollux and its peers, alternating in one run. Needs Linux (/proc).",
        epilog="Peers run on this interpreter; `pip install -e '.[bench]'` brings them all, and one that is not "
        "installed is left out with a word. Each run writes a table (.md), every number (.json) and a plot (.png).",
    )
    subjects = result.add_subparsers(title="subjects", required=True, metavar="SUBJECT")
    for module in SUBJECTS:
        sub = module.configure(subjects)
        sub.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds to alternate over (5)")
        sub.add_argument(
            "--output",
            type=Path,
            default=Path(__file__).with_name("results"),
            metavar="DIR",
            help="where to write the results (benchmarks/results)",
        )
        sub.set_defaults(run=module.run)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subject; 0 on success, 1 with one line on stderr on failure, 130 on Ctrl-C or SIGTERM."""
    options = parser().parse_args(arguments)
    interruptible()
    try:
        return int(options.run(options))
    except (BuildError, GeneratorError, MeasureError, ServerError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; servers stopped, nothing written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
