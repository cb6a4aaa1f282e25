"""Who echoes: asyncio's two interfaces on each loop, IOStream of ours and of Tornado, and a bare epoll loop."""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peer import Peer, Site

SERVERS = Path(__file__).with_name("servers")
IOSTREAMS = ("pollux-iostream", "tornado")  # have no Protocol


def _script(name: str, *arguments: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        backend = [site.backend] if site.backend and arguments[:1] == ("pollux",) else []
        return [sys.executable, str(SERVERS / name), str(site.port), site.case, *arguments, *backend]

    return command


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pollux", _script("asyncio_echo.py", "pollux"), ("pollux",), ("pollux",)),
        Peer("pollux-iostream", _script("iostream_echo.py", "pollux"), ("pollux",), ("pollux",)),
        Peer("asyncio", _script("asyncio_echo.py", "asyncio")),
        Peer("uvloop", _script("asyncio_echo.py", "uvloop"), ("uvloop",), ("uvloop",)),
        Peer("rloop", _script("asyncio_echo.py", "rloop"), ("rloop",), ("rloop",)),
        Peer("tornado", _script("iostream_echo.py", "tornado"), ("tornado",), ("tornado",)),
        Peer("python-floor", _script("epoll_echo.py")),
    )
}
