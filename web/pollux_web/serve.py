"""The command `pollux serve`: one process, or a supervisor and its workers."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
from typing import Any

from pollux.config import choose_backend, setting
from pollux.errors import PolluxError
from pollux.supervisor import Link, Supervisor
from pollux_web import autoreload
from pollux_web.listening import Listening
from pollux_web.plugin import SETTINGS
from pollux_web.reload import FileWatch, below
from pollux_web.worker import CLEAN_UP, Worker

RELOAD_GRACE = 1.0  # seconds: a developer waits for the new code, not for what the old one is busy with
USAGE_ERROR = 2  # the command line's code for a mistake of the user's


def serve(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    names = ["log_level", *(option.name for option in SETTINGS)]
    options: dict[str, Any] = {name: setting(name, getattr(args, name)).value for name in names}
    several = options["workers"] > 1
    logging.basicConfig(
        level=options["log_level"].upper(),
        format=f"%(asctime)s {'[%(process)d] ' if several else ''}%(levelname)s %(message)s",
    )
    if several and options["reload"]:
        raise PolluxError("--reload runs one worker: leave out --workers")
    choice = choose_backend(args.backend)
    _raise_descriptor_limit()
    listening = Listening(options["host"], options["port"], options["uds"], options["fd"], own=several)
    try:
        if not several and not options["reload"]:
            return Worker(args.target, options, choice, listening).run()
        watch = None
        if options["reload"]:
            options["timeout_graceful_shutdown"] = min(RELOAD_GRACE, options["timeout_graceful_shutdown"])
            place = args.target.partition(":")[0]
            beside = [os.path.dirname(os.path.abspath(place))] if place.endswith(".py") else []
            watch = FileWatch(below({options["app_dir"] or os.getcwd(), *beside}))

        def work(link: Link) -> int:
            autoreload.leave_to_supervisor()
            try:
                return Worker(args.target, options, choice, listening, link).run()
            except PolluxError as error:
                sys.stderr.write(f"pollux: {error}\n")
                return USAGE_ERROR

        grace = options["timeout_graceful_shutdown"] + 2 * CLEAN_UP
        return Supervisor(work, options["workers"], grace, watch).run()
    finally:
        listening.close()


def _raise_descriptor_limit() -> None:
    """Raise the soft limit on open descriptors to the hard one: each connection is one, and the usual limit is
    1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # macOS refuses "unlimited"; the limit that is will do
