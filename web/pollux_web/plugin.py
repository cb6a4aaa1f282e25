"""What the web room adds to Pollux through the plugin manager: the command `serve`.

Imported for every `pollux` command, so it imports nothing of the room.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pollux.hookspec import hookimpl

if TYPE_CHECKING:
    from pollux.hookspec import Subparsers

EXAMPLES = """\
examples:
  pollux serve app.py                       the Application named app or application in app.py
  pollux serve app.py:site --port 8000      the one named site
  pollux serve package.module:app --backend poll --access-log
  pollux serve app.py --uds /run/app.sock   a Unix socket, for a proxy in front

Every option may also stand in the environment (POLLUX_PORT=8000) or the config file: see 'pollux config'.
Ctrl-C or SIGTERM lets running requests finish; a second one stops at once.
"""


@hookimpl
def pollux_commands(subparsers: Subparsers) -> None:
    """Add `serve`."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a web application over HTTP",
        description="Serve a web application over HTTP.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="module:attr or path.py[:attr]; attr: app or application")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1); 0.0.0.0: all of IPv4")
    parser.add_argument("--port", type=int, metavar="N", help="TCP port (8888); 0: any free one")
    parser.add_argument("--uds", metavar="PATH", help="listen on this Unix socket instead")
    parser.add_argument("--backend", metavar="NAME", help="the poller (auto); see 'pollux backends'")
    parser.add_argument(
        "--access-log", action=argparse.BooleanOptionalAction, default=None, help="log every request (off)"
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical (info)")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from pollux_web.serve import serve

    return serve(args)
