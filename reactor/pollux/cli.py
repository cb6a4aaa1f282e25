"""The command `pollux`. It knows the registry and the settings; every other subcommand comes from a plugin.

Whatever the user got wrong is told in one line on stderr that starts with `pollux: ` (candidates may follow,
indented), with exit code 2 and without a traceback. Ctrl-C is exit code 130, as of a shell (128 + SIGINT), and says
nothing. An exception that is not a `PolluxError` is a bug, and keeps its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from pollux import config, registry
from pollux.errors import PolluxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pollux.hookspec import Subparsers

USAGE_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

EXAMPLES = """\
examples:
  pollux backends                        list the pollers and say which would be chosen
  POLLUX_BACKEND=poll pollux backends    the same, with another choice
  pollux config                          show each setting, its value and where it comes from
"""


class _UsageError(PolluxError):
    """The command line is malformed."""


class _Parser(argparse.ArgumentParser):
    """Reports errors as everything else here does, not with the usage in front."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}\n  see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 (the user's error), 130 (Ctrl-C) or the subcommand's own.

    :param argv: the arguments without the program's name; None: those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except PolluxError as error:
        print(f"pollux: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):  # before any plugin is asked: it must also work with a broken one
        print(_version())
        return 0
    parser, commands = _parser()
    # The options before the command take no values, so this is the command.
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command is not None and command not in commands.choices:
        parser.error(f"there is no command {command!r}{config.guess(command, list(commands.choices))}")
    try:
        namespace = parser.parse_args(arguments)
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
    if command is None:
        parser.error(f"expected a command: {', '.join(commands.choices)}")
    code = namespace.run(namespace)
    return 0 if code is None else int(code)


def _parser() -> tuple[argparse.ArgumentParser, Subparsers]:
    parser: argparse.ArgumentParser = _Parser(
        prog="pollux",
        description="One Python event loop, any poller.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    _add(
        commands,
        "backends",
        _backends,
        "list the pollers, and say which would be chosen and by what",
        "examples:\n  pollux backends\n  POLLUX_BACKEND=select pollux backends --json\n",
    )
    _add(
        commands,
        "config",
        _config,
        "show each setting, its value and where it comes from",
        "examples:\n  pollux config\n  POLLUX_PORT=9000 pollux config --json\n",
    )
    registry.add_commands(commands)
    return parser, commands


def _add(commands: Subparsers, name: str, run: Callable[[argparse.Namespace], int], does: str, epilog: str) -> None:
    parser = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)


def _backends(arguments: argparse.Namespace) -> int:
    choice = config.choose_backend()
    found = [(backend, registry.unusable(backend), registry.provider(backend)) for backend in registry.backends()]
    if arguments.json:
        _print_json(
            {
                "chosen": choice.backend.name,
                "origin": choice.origin,
                "disabled_plugins": registry.disabled(),
                "backends": [
                    {
                        "name": backend.name,
                        "summary": backend.summary,
                        "priority": backend.priority,
                        "available": reason is None,
                        "reason": reason,
                        "chosen": backend == choice.backend,
                        "plugin": plugin.name if plugin else None,
                        "distribution": plugin.distribution if plugin else None,
                    }
                    for backend, reason, plugin in found
                ],
            }
        )
        return 0
    rows = [("", "NAME", "AVAILABLE", "SUMMARY")]
    for backend, reason, _ in found:
        available = "no" if reason else "yes" if backend.priority else "by name"
        summary = f"{backend.summary} (not usable: {reason})" if reason else backend.summary
        rows.append(("*" if backend == choice.backend else "", backend.name, available, summary))
    _print_table(rows)
    print(f"\nbackend chosen: {choice.backend.name}, by {choice.origin}")
    if names := registry.disabled():
        print(f"disabled plugins: {', '.join(names)} ({registry.DISABLE})")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    options = config.options()
    settings = {name: _shown(name, config.setting(name)) for name in options}
    file = config.config_file()
    choice = config.choose_backend()
    if arguments.json:
        _print_json(
            {
                "file": file.path if file else None,
                "chosen": choice.backend.name,
                "origin": choice.origin,
                "settings": {name: {"value": found.value, "origin": found.origin} for name, found in settings.items()},
            }
        )
        return 0
    rows = [("NAME", "VALUE", "ORIGIN", "MEANING")]
    for name, found in settings.items():
        rows.append((name, _as_written(found.value), found.origin, options[name].summary))
    _print_table(rows)
    print(f"\nbackend chosen: {choice.backend.name}, by {choice.origin}")
    print(f"config file: {file.path}" if file else "config file: none from the current directory upward")
    return 0


def _shown(name: str, found: config.Setting) -> config.Setting:
    """Return what may be printed: logs and bug reports are no place for a secret."""
    return config.Setting("***", found.origin) if name.endswith("password") and found.value else found


def _as_written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "-" if value is None else str(value)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


def _version() -> str:
    from importlib import metadata

    try:
        return f"pollux {metadata.version('pollux')}"
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "pollux (not installed)"
