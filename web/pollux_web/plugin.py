"""What the web room adds to Pollux through the plugin manager: the command `serve` and its settings.

Imported for every `pollux` command, so it imports nothing of the room. Each option of `serve` is a setting: it stands
here once, and may also be given in the environment and the config file.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pollux.config import Option
from pollux.hookspec import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pollux.hookspec import Subparsers

EXAMPLES = """\
examples:
  pollux serve app.py                       the application named app or application in app.py
  pollux serve app.py:site --port 8000      the one named site: Pollux, ASGI or WSGI
  pollux serve package.module:app --backend poll --access-log
  pollux serve project.asgi --workers 4     a process for each of four cores
  pollux serve app.py --reload              start again whenever a Python file changes
  pollux serve app.py --uds /run/app.sock --proxy-headers   behind a proxy

Every option may also stand in the environment (POLLUX_PORT=8000) or the config file: see 'pollux config'.
Ctrl-C or SIGTERM lets running requests finish; a second one stops at once. With --workers or --reload, SIGHUP replaces
the workers one by one.
"""

_FILE = "the path of a PEM file"
_FLAG = "true or false"
_COUNT = "a number above 0"
_SECONDS = "a number of seconds, 0 or more"


class _Above:
    """The numbers from `least` on."""

    def __init__(self, least: float) -> None:
        self.least = least

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and value >= self.least


SETTINGS = (
    Option("host", str, "127.0.0.1", "address to listen on; 0.0.0.0: all of IPv4", "a host name or address"),
    Option(
        "port", int, 8888, "TCP port; 0: any free one", "a port number from 0 to 65535 (0: any free one)", range(65536)
    ),
    Option("uds", str, None, "listen on this Unix socket instead of host and port", "a path"),
    Option("fd", int, None, "listen on this inherited descriptor instead", "a descriptor number", _Above(0)),
    Option("workers", int, 1, "processes, each with a loop of its own", _COUNT, _Above(1)),
    Option("reload", bool, False, "start again when a Python file changes; for development", _FLAG),
    Option("interface", str, "auto", "what the application is: auto, pollux, asgi or wsgi",
           "one of auto, pollux, asgi, wsgi", ("auto", "pollux", "asgi", "wsgi")),
    Option("factory", bool, False, "the target is a function that returns the application", _FLAG),
    Option("app_dir", str, None, "directory to import the target from", "a path"),
    Option("root_path", str, "", "path under which a proxy mounts an ASGI or WSGI application", "a path"),
    Option("lifespan", str, "auto", "ASGI lifespan: auto, on or off", "one of auto, on, off", ("auto", "on", "off")),
    Option("websocket_max_message_size", int, None, "bytes of a message to an ASGI application (10 MiB)", _COUNT,
           _Above(1)),
    Option("websocket_ping_interval", float, 20.0, "time between two Pings for an ASGI application; 0: none", _SECONDS,
           _Above(0)),
    Option("websocket_ping_timeout", float, None, "time to answer one (as long as the interval)", _SECONDS, _Above(0)),
    Option("websocket_compression", bool, False, "offer permessage-deflate for an ASGI application", _FLAG),
    Option("wsgi_threads", int, None, "threads that call a WSGI application", _COUNT, _Above(1)),
    Option("access_log", bool, False, "log every request", _FLAG),
    Option("ssl_certfile", str, None, "serve TLS with this certificate (and the chain behind it)", _FILE),
    Option("ssl_keyfile", str, None, "its private key, if it is not in the same file", _FILE),
    Option("ssl_keyfile_password", str, None, "the password of the private key", "a text"),
    Option("ssl_ca_certs", str, None, "ask clients for a certificate that one of these has signed", _FILE),
    Option("ssl_ciphers", str, None, "ciphers of TLS 1.2, in OpenSSL's notation", "a list of ciphers"),
    Option("proxy_headers", bool, False, "believe X-Forwarded-For and -Proto of trusted proxies", _FLAG),
    Option("forwarded_allow_ips", str, "127.0.0.1,::1", "the trusted proxies; '*': whoever connects",
           "IP addresses or networks, separated by commas, or '*'"),
    Option("proxy_protocol", bool, False, "connections begin with a PROXY protocol header", _FLAG),
    Option("limit_concurrency", int, None, "requests at once in a worker; more are answered 503", _COUNT, _Above(1)),
    Option("max_connections", int, None, "connections at once in a worker; idle ones make room", _COUNT, _Above(1)),
    Option("timeout_graceful_shutdown", float, 30.0, "time that running requests get to finish", _SECONDS, _Above(0)),
)  # fmt: skip

_METAVARS = {
    "host": "ADDRESS", "interface": "NAME", "lifespan": "MODE", "ssl_keyfile_password": "TEXT", "ssl_ciphers": "LIST",
    "forwarded_allow_ips": "LIST", "websocket_ping_interval": "SECONDS", "websocket_ping_timeout": "SECONDS",
    "timeout_graceful_shutdown": "SECONDS",
}  # fmt: skip


@hookimpl
def pollux_settings() -> Iterable[Option]:
    """Declare the settings of `serve`."""
    return SETTINGS


@hookimpl
def pollux_commands(subparsers: Subparsers) -> None:
    """Add `serve`."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a web application over HTTP",
        description="Serve a web application over HTTP: of Pollux, ASGI or WSGI.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="module:attr or path.py[:attr]; attr: app or application")
    parser.add_argument("--backend", metavar="NAME", help="the poller (auto); see 'pollux backends'")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical (info)")
    for option in SETTINGS:
        flag = "--" + option.name.replace("_", "-")
        if option.kind is bool:
            default = "on" if option.default else "off"
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=None, help=f"{option.summary} ({default})"
            )
        else:
            shown = f" ({option.default})" if option.default not in (None, "") else ""
            kind = {int: int, float: float}.get(option.kind, str)
            name = _METAVARS.get(option.name, "N" if option.kind is int else "PATH")
            parser.add_argument(flag, type=kind, metavar=name, help=f"{option.summary}{shown}".replace("%", "%%"))
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from pollux_web.serve import serve

    return serve(args)
