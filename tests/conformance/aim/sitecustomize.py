"""Puts our modules in the place of Tornado's, in every Python process that has this folder on its PYTHONPATH.

Python imports a module of this name when it starts (docs: site). So Tornado's tests get ours, and also the programs
that they run in processes of their own; those loops are on the backend that POLLUX_BACKEND names.

What stays Tornado's is its test kit, and HTTP: server, client, web framework and WebSocket thus run on our streams.
"""

from __future__ import annotations

import importlib
import os
import sys

import pollux
import pollux.log
from tests.conformance.foreign_suites import put_in_place

MODULES = ["concurrent", "gen", "iostream", "locks", "netutil", "process", "queues", "tcpclient", "tcpserver"]

# Private names that the rest of Tornado takes from these modules, by module.
LENT = {"netutil": ["_DEFAULT_BACKLOG", "_client_ssl_defaults"]}
# Private names that only its tests import. They get None: what tests these is no test of ours, and has to fail.
ABSENT = {"iostream": ["_StreamBuffer"], "tcpclient": ["_Connector", "_format_addr"]}


def aim() -> None:
    """Have `import tornado.gen` find `pollux.gen`, and so on."""
    import tornado.ioloop
    import tornado.log
    import tornado.platform.asyncio  # before the others, for it wants private names of Tornado's gen

    tornado.ioloop.IOLoop = pollux.IOLoop  # type: ignore[misc]
    tornado.ioloop.PeriodicCallback = pollux.PeriodicCallback  # type: ignore[assignment,misc]
    pollux.IOLoop.selector_loop = pollux.IOLoop.asyncio_loop  # type: ignore[attr-defined]  # private, of Tornado's
    tornado.log.app_log, tornado.log.gen_log = pollux.log.app_log, pollux.log.gen_log
    for name in MODULES:
        theirs, ours = (importlib.import_module(f"{package}.{name}") for package in ("tornado", "pollux"))
        for private in LENT.get(name, []):
            setattr(ours, private, getattr(theirs, private))
        for private in ABSENT.get(name, []):
            setattr(ours, private, None)
        sys.modules[f"tornado.{name}"] = ours
        setattr(tornado, name, ours)


put_in_place(os.environ["POLLUX_BACKEND"])
aim()
