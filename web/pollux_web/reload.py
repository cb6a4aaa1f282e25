"""`FileWatch`: which Python file has changed, by looking at all of them. For `pollux serve --reload`, which watches
directories, and `pollux_web.autoreload`, which watches the modules that are loaded.

inotify and its kin would tell without looking, but each system has its own, network file systems and the mounts of
containers have none, and a look at a thousand files takes a few milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator

# Not the program's own source: environments (marked by pyvenv.cfg), what starts with a dot, and these.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})

State = tuple[int, int, int]  # time of change in nanoseconds, size, inode


class FileWatch:
    """Watches files.

    :param look: returns the files that matter now, by path: `below` or `loaded`.
    :param complete: a file that comes or goes is a change, too. Not so with modules: they are imported at any time, and
        an editor that saves a file may remove it for a moment.
    """

    def __init__(self, look: Callable[[], dict[str, State]], complete: bool = True) -> None:
        self._look = look
        self._complete = complete
        self._known = look()

    def __call__(self) -> str | None:
        """Return the path of a file that was changed, added or removed since the last call; None if there is none."""
        known, now = self._known, self._look()
        if self._complete:
            self._known = now
            paths = now.keys() | known.keys()
        else:
            self._known = {**known, **now}
            paths = now.keys() & known.keys()
        return next((path for path in paths if now.get(path) != known.get(path)), None)


def below(directories: Iterable[str]) -> Callable[[], dict[str, State]]:
    """Return what looks at the Python files in some directories and below."""
    roots = [os.path.abspath(directory) for directory in directories]
    return lambda: dict(item for root in roots for item in _files(root))


def loaded(others: Iterable[str] = ()) -> dict[str, State]:
    """Look at the files of the modules that are loaded, and at others."""
    paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    states = {}
    for path in (*paths, *others):
        if isinstance(path, str):
            try:
                states[path] = _state(os.stat(path))
            except (OSError, ValueError):  # there is none, as of modules in a zip file
                continue
    return states


def _state(status: os.stat_result) -> State:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _files(directory: str) -> Iterator[tuple[str, State]]:
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except OSError:  # it has just been removed, or is nobody's to read
        return
    if any(entry.name == "pyvenv.cfg" for entry in found):
        return
    for entry in found:
        try:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                    yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                yield entry.path, _state(entry.stat())
        except OSError:
            continue
