"""Starts the program again when one of its modules has changed, by Tornado's names (tornado.autoreload). For
development.

An `Application` with the setting `autoreload` or `debug` begins it by itself. As a command it wraps a program, and
also catches what goes wrong while that is imported:

    python -m pollux_web.autoreload [--until-success] program.py [arguments]
    python -m pollux_web.autoreload [--until-success] -m package.module [arguments]

Facts and decisions:

* execve(2) keeps the process, and so its terminal, its parent and its number; descriptors are closed as Python has made
  them (PEP 446). Buffers of the standard streams would be lost, so they are written out before; an interval timer would
  ring in the new program, so it is stopped.
* What is executed is what the interpreter was called with, `sys.orig_argv`: `-m`, `-X` and the rest come along, and it
  does not matter what the program has made of `sys.argv`.
* A worker process does not start itself again: that would be a second supervisor. Under `pollux serve` with `--workers`
  or `--reload` nothing happens here: the supervisor replaces workers.
"""

from __future__ import annotations

import logging
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from weakref import WeakSet

from pollux import IOLoop, PeriodicCallback
from pollux.log import gen_log
from pollux_web.reload import FileWatch, loaded

USAGE = "usage: python -m pollux_web.autoreload [--until-success] (-m module | program.py) [arguments]\n"

_loops: WeakSet[IOLoop] = WeakSet()  # those on which it runs
_watched: set[str] = set()
_hooks: list[Callable[[], object]] = []
_supervised = False


def start(check_time: float = 500) -> None:
    """Begin to look for changes, in the current loop; a second time does nothing.

    :param check_time: milliseconds between two looks.
    """
    loop = IOLoop.current()
    if _supervised or loop in _loops:
        return
    _loops.add(loop)
    watch_loaded = FileWatch(lambda: loaded(_watched), complete=False)

    def look() -> None:
        changed = watch_loaded()
        if changed is not None:
            gen_log.info("%s has changed: starting again", changed)
            _start_again()

    PeriodicCallback(look, check_time).start()


def watch(filename: str) -> None:
    """Look at this file, too; modules that are loaded are looked at anyway."""
    _watched.add(os.path.abspath(filename))


def add_reload_hook(fn: Callable[[], object]) -> None:
    """Call `fn` before the program is started again. Not needed to close files and sockets: they are closed."""
    _hooks.append(fn)


def wait() -> None:
    """Wait until a file has changed, and start the program again: for the end of a program that runs no loop."""
    loop = IOLoop(make_current=True)
    loop.add_callback(start)
    loop.start()


def leave_to_supervisor() -> None:
    """Do nothing from now on: this is a worker, and somebody else replaces it."""
    global _supervised
    _supervised = True


def _start_again() -> None:
    for hook in _hooks:
        try:
            hook()
        except Exception:
            gen_log.error("a reload hook failed: %r", hook, exc_info=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, or it is closed
            continue
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # there is no shell to want


def main() -> None:
    """Run a program, and again whenever one of its files changes."""
    words = sys.argv[1:]
    until_success = words[:1] == ["--until-success"]
    words = words[until_success:]
    is_module = words[:1] == ["-m"]
    words = words[is_module:]
    if not words or words[0].startswith("-"):
        sys.stderr.write(USAGE)
        raise SystemExit(2)
    good, said, error = _run(words, is_module)
    if not (good and until_success):
        loop = IOLoop(make_current=True)
        start()  # before it is said: who reads it may change the file at once
    gen_log.log(logging.INFO if good else logging.WARNING, "%s", said, exc_info=error)
    if not (good and until_success):
        loop.start()


def _run(words: list[str], is_module: bool) -> tuple[bool, str, Exception | None]:
    """Run a program to its end; return whether that was a good one, what to say of it, and what it raised."""
    sys.argv = words
    try:
        if is_module:
            _watch_module(words[0])
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            watch(words[0])
            sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code in (None, 0), f"{words[0]} has ended: {ended.code!r}", None
    except Exception as error:
        # What could not be imported is not among the modules that are loaded.
        for frame in traceback.extract_tb(error.__traceback__):
            watch(frame.filename)
        if isinstance(error, SyntaxError) and error.filename:
            watch(error.filename)
        return False, f"{words[0]} has failed", error
    return True, f"{words[0]} has ended", None


def _watch_module(name: str) -> None:
    """Watch the file of a module that is run: it is never among those that are loaded."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    if spec is not None and spec.origin is not None:
        watch(spec.origin)


if __name__ == "__main__":
    from pollux_web import autoreload  # the module that the program, too, imports: not this copy of it

    autoreload.main()
