"""A contestant: a server's start command, and what must be there to run it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import compiled
from benchmarks.report import OURS


@dataclass(frozen=True, slots=True)
class Site:
    """What a start command may depend on: the port, the case's name, a file with a right answer, and our poller if one
    was named.
    """

    port: int
    case: str
    answer: Path
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One server.

    :param name: the word on the command line.
    :param command: makes the start command.
    :param distributions: what pip installs for it; the first one's version is shown.
    :param modules: must be importable.
    :param source: of a server in C.
    """

    name: str
    command: Callable[[Site], list[str]]
    distributions: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    source: Path | None = None

    def missing(self) -> str | None:
        """Return None if it can run here, else why not and what brings it."""
        if self.source is not None:
            return None if compiled(self.source) else "no C compiler (set CC, or install cc)"
        absent = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if not absent:
            return None
        what = "-e '.[web]'" if self.name.startswith(OURS) else " ".join(self.distributions)
        return f"{', '.join(absent)} is not installed (pip install {what})"
