"""Who echoes. Compression is off everywhere, and limits on a message's size allow the largest."""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peer import Peer, Site

SERVERS = Path(__file__).with_name("servers")


def _script(name: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        backend = [site.backend] if site.backend and name.startswith("pollux") else []
        return [sys.executable, str(SERVERS / name), str(site.port), *backend]

    return command


def _asgi(server: str, *options: str) -> Callable[[Site], list[str]]:
    return lambda site: [
        *(sys.executable, "-m", server, "--host", "127.0.0.1", "--port", str(site.port)),
        *(*options, "asgi_echo:app"),
    ]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "pollux", _script("pollux_echo.py"), ("pollux", "websockets"), ("pollux", "pollux_websocket", "httptools")
        ),
        Peer("pollux-async", _script("pollux_async_echo.py"), ("pollux",), ("pollux", "pollux_websocket", "httptools")),
        Peer("picows", _script("picows_echo.py"), ("picows", "uvloop"), ("picows", "uvloop")),
        Peer("aiohttp", _script("aiohttp_echo.py"), ("aiohttp", "uvloop"), ("aiohttp", "uvloop")),
        Peer("websockets", _script("websockets_echo.py"), ("websockets", "uvloop"), ("websockets", "uvloop")),
        Peer("socketify", _script("socketify_echo.py"), ("socketify",), ("socketify",)),
        Peer(
            "uvicorn",
            _asgi(
                *(
                    "uvicorn",
                    "--loop",
                    "uvloop",
                    "--ws",
                    "websockets-sansio",
                    "--no-access-log",
                    "--log-level",
                    "error",
                ),
                *(
                    "--ws-per-message-deflate",
                    "false",
                    "--ws-ping-interval",
                    "3600",
                    "--lifespan",
                    "off",
                    "--app-dir",
                    str(SERVERS),
                ),
            ),
            ("uvicorn", "uvloop", "websockets"),
            ("uvicorn", "uvloop", "websockets"),
        ),
        Peer(
            "granian",
            _asgi(
                *("granian", "--interface", "asgi", "--loop", "uvloop", "--workers", "1", "--no-access-log"),
                *("--log-level", "error", "--working-dir", str(SERVERS)),
            ),
            ("granian", "uvloop"),
            ("granian", "uvloop"),
        ),
        Peer("tornado", _script("tornado_echo.py"), ("tornado",), ("tornado",)),
    )
}
