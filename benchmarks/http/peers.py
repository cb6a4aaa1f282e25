"""Who is measured: each server's start command, and what it needs to be there.

All run as one worker process with their access log off, on the interpreter that runs the benchmark, and with idle
timeouts long enough that held connections live.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.build import compiled
from benchmarks.peer import Peer, Site

SERVERS = Path(__file__).with_name("servers")
FLOOR = SERVERS / "floor.c"


def _script(name: str, *arguments: str) -> Callable[[Site], list[str]]:
    return lambda site: [sys.executable, str(SERVERS / name), str(site.port), *arguments]


def _pollux(app: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        words = [sys.executable, "-m", "pollux", "serve", f"{SERVERS / app}.py:app", "--port", str(site.port)]
        return words if site.backend is None else [*words, "--backend", site.backend]

    return command


def _granian(interface: str) -> Callable[[Site], list[str]]:
    # backpressure is the number of connections it takes at once: its default of 1,024 would refuse to hold more.
    options = "--loop uvloop --workers 1 --no-ws --no-access-log --log-level error --backlog 4096 --backpressure 65536"
    return lambda site: [
        *(sys.executable, "-m", "granian", "--interface", interface, "--host", "127.0.0.1", "--port", str(site.port)),
        *(*options.split(), "--working-dir", str(SERVERS), f"{interface}_app:app"),
    ]


def _uvicorn(app: str) -> Callable[[Site], list[str]]:
    options = "--loop uvloop --http httptools --ws none --lifespan off --no-access-log --log-level error"
    return lambda site: [
        *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(site.port), *options.split()),
        *("--timeout-keep-alive", "3600", "--backlog", "4096", "--app-dir", str(SERVERS), f"{app}:app"),
    ]


def _c_floor(site: Site) -> list[str]:
    return [str(compiled(FLOOR)), str(site.port), str(site.answer)]


def _python_floor(site: Site) -> list[str]:
    return [sys.executable, str(SERVERS / "python_floor.py"), str(site.port), str(site.answer)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pollux", _pollux("pollux_app"), ("pollux",), ("pollux", "pollux_web", "httptools")),
        Peer("pollux-asgi", _pollux("asgi_app"), ("pollux",), ("pollux", "pollux_web", "httptools")),
        Peer(
            "pollux-starlette",
            _pollux("starlette_app"),
            ("pollux", "starlette"),
            ("pollux", "pollux_web", "httptools", "starlette"),
        ),
        Peer("socketify", _script("socketify_app.py"), ("socketify",), ("socketify",)),
        Peer("socketify-pool", _script("socketify_app.py", "200000"), ("socketify",), ("socketify",)),
        Peer("granian-rsgi", _granian("rsgi"), ("granian", "uvloop"), ("granian", "uvloop")),
        Peer("granian-asgi", _granian("asgi"), ("granian", "uvloop"), ("granian", "uvloop")),
        Peer("uvicorn", _uvicorn("asgi_app"), ("uvicorn", "uvloop", "httptools"), ("uvicorn", "uvloop", "httptools")),
        Peer(
            "uvicorn-starlette",
            _uvicorn("starlette_app"),
            ("uvicorn", "uvloop", "httptools", "starlette"),
            ("uvicorn", "uvloop", "httptools", "starlette"),
        ),
        Peer("aiohttp", _script("aiohttp_app.py"), ("aiohttp", "uvloop"), ("aiohttp", "uvloop")),
        Peer("tornado", _script("tornado_app.py"), ("tornado",), ("tornado",)),
        Peer("python-floor", _python_floor, ("httptools",), ("httptools",)),
        Peer("c-floor", _c_floor, source=FLOOR),
    )
}
