"""The shipped descriptors: what listing them costs, and which one `auto` would take."""

import subprocess
import sys

from pollux.backend import Backend
from pollux_backends.plugin import pollux_backends


def test_the_words_and_their_order() -> None:
    backends: tuple[Backend, ...] = pollux_backends()
    priority = {backend.name: backend.priority for backend in backends}
    assert priority.keys() == {"epoll", "kqueue", "poll", "select", "io_uring"}
    assert priority.pop("io_uring") == 0, "only by name"
    assert min(priority["epoll"], priority["kqueue"]) > priority["poll"] > priority["select"] > 0


def test_listing_imports_no_poller_and_opens_nothing() -> None:
    program = (
        "import os, sys\n"
        "import pollux_backends.plugin as plugin\n"
        "import pollux.poller\n"
        "fds = lambda: len(os.listdir('/dev/fd'))\n"
        "before = fds()\n"
        "for backend in plugin.pollux_backends(): backend.check()\n"
        "assert fds() == before\n"
        "print(*(name for name in sys.modules if name.startswith('pollux_backends.io_')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
