"""The hooks a plugin may implement. This file and `pollux.poller` are all a backend's author needs.

A plugin is a module named by an entry point in the group `pollux`, and its functions marked `@hookimpl` are the hooks
it implements:

    [project.entry-points.pollux]           # pyproject.toml of the plugin's distribution
    my_plugin = "my_package.plugin"

    from pollux import hookimpl             # my_package/plugin.py

    @hookimpl
    def pollux_backends():
        return [Backend(name="mine", summary="my poller", create=create_mine)]

The module is imported by whoever lists the backends, so importing it must be quick, must not import anything heavy
and must open nothing. Pollux's own backends and commands register in the same way.

The registry calls each plugin by itself, to be able to name the one at fault; hook wrappers (`wrapper=True`) are
therefore refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction
    from collections.abc import Iterable

    from pollux.backend import Backend
    from pollux.config import Option

    Subparsers = _SubParsersAction[ArgumentParser]

hookspec = HookspecMarker("pollux")
hookimpl = HookimplMarker("pollux")


@hookspec
def pollux_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """Return the backends this plugin brings: an iterable of `pollux.Backend`, which may be empty.

    Called once per process. List a backend also where it cannot run: its `check` says why not, and the user who
    asks for it is told. Names must be unique among all installed plugins.
    """


@hookspec
def pollux_settings() -> Iterable[Option]:  # type: ignore[empty-body]
    """Return the settings this plugin brings: an iterable of `pollux.config.Option`, which may be empty.

    They may then stand in the environment and the config file, `pollux config` shows them, and
    `pollux.config.setting(name, argument)` looks them up. Called once per process. Names are lower case, and unique
    among all installed plugins.
    """


@hookspec
def pollux_commands(subparsers: Subparsers) -> None:
    """Add subcommands to the `pollux` command line.

    :param subparsers: what `argparse.ArgumentParser.add_subparsers` returns. For each command call
        `parser = subparsers.add_parser(name, help=..., description=...)` and then
        `parser.set_defaults(run=function)`, where `function(args: argparse.Namespace) -> int | None` is the command
        and returns its exit code (None: 0). A `pollux.errors.PolluxError` it raises is shown as one line, exit code
        2.

    Called for every invocation of `pollux` except `--version`: import what the command needs in `function`.
    """
