"""What the subjects' command lines have in common: lists of words, the results' names, the line of progress."""

import argparse
import sys
from collections.abc import Callable, Iterable


def words(what: str, known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return an argparse type that reads `a,b,c` and refuses what is not `known`, naming the choices."""
    choices = list(known)

    def parse(text: str) -> list[str]:
        found = [word for word in text.split(",") if word]
        for word in found:
            if word not in choices:
                raise argparse.ArgumentTypeError(f"unknown {what} {word!r}: choose from {', '.join(choices)}")
        if not found:
            raise argparse.ArgumentTypeError(f"no {what} given: choose from {', '.join(choices)}")
        return found

    return parse


def stem(subject: str) -> str:
    """Return the result files' name: one for each subject and Python version."""
    return f"{subject}-py{sys.version_info[0]}.{sys.version_info[1]}"


def progress(line: str) -> None:
    """Show where the run is, on a terminal only; an empty line wipes it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
