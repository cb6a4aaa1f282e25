"""`FileWatch`: which Python file has changed, by looking at all of them.

inotify and its kin would tell without looking, but each system has its own, network file systems and the mounts of
containers have none, and a look at a thousand files takes a few milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

# Not the program's own source: environments (marked by pyvenv.cfg), what starts with a dot, and these.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class FileWatch:
    """Watches the Python files below some directories.

    :param directories: also those below them.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self.directories = [os.path.abspath(directory) for directory in directories]
        self._known = self._look()

    def __call__(self) -> str | None:
        """Return the path of a file that was changed, added or removed since the last call; None if there is none."""
        now = self._look()
        changed = next(
            (path for path in now.keys() | self._known.keys() if now.get(path) != self._known.get(path)), None
        )
        self._known = now
        return changed

    def _look(self) -> dict[str, tuple[int, int, int]]:
        return dict(item for directory in self.directories for item in _files(directory))


def _files(directory: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
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
                status = entry.stat()
                yield entry.path, (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            continue
