"""Who runs Twisted's echo: Twisted's own reactors, and ours on each poller."""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peer import Peer, Site

SERVER = Path(__file__).with_name("servers") / "echo.py"


def _reactor(name: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        backend = site.backend or "" if name == "pollux" else ""
        return [sys.executable, str(SERVER), str(site.port), name, backend]

    return command


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pollux", _reactor("pollux"), ("pollux", "twisted"), ("pollux_twisted", "twisted.internet")),
        Peer("twisted-epoll", _reactor("epoll"), ("twisted",), ("twisted.internet",)),
        Peer("twisted-poll", _reactor("poll"), ("twisted",), ("twisted.internet",)),
        Peer("twisted-asyncio", _reactor("asyncio"), ("twisted",), ("twisted.internet",)),
    )
}
