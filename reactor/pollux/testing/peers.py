"""Which watched descriptors wait for the world outside this process. This module only looks; it reads no byte.

What the kernel tells
---------------------
* A connected internet socket knows its peer's address (getpeername(2)). If a socket of this process has that address,
  the peer is here.
* A Unix socket knows the process that made its peer (SO_PEERCRED, unix(7); Linux). Elsewhere it is not known, and the
  socket counts as outside: refusing too much is seen, refusing too little is not.
* Both ends of a pipe are the same link below /proc/self/fd (proc(5)). If this process has two of them, both are here.

A listening socket, and a datagram socket without a peer, wait for nobody in particular: they count as inside.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Mapping

from pollux.poller import READ, WRITE


def outside(watched: Mapping[int, int]) -> list[int]:
    """Return the descriptors whose other end is not in this process, in order.

    :param watched: interest by descriptor; those without interest wait for nothing.
    """
    waiting = [fd for fd, events in watched.items() if events]
    if not waiting:
        return []
    links, addresses = _own()
    return sorted(fd for fd in waiting if not _inside(fd, links, addresses))


def describe(watched: Mapping[int, int], fds: Iterable[int]) -> str:
    """Name descriptors for an error message: number, interest, and what it is."""
    return ", ".join(f"fd {fd} ({_interest(watched[fd])}: {_what(fd)})" for fd in fds)


def _own() -> tuple[Counter[str], set[object]]:
    """The links of this process's pipes, and the addresses of its internet sockets."""
    links: Counter[str] = Counter()
    addresses: set[object] = set()
    for name in os.listdir("/dev/fd"):
        link = _link(int(name))
        links[link] += 1
        if (sock := _socket(int(name))) is not None:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                addresses.add(sock.getsockname()[:2])
            sock.detach()
    return links, addresses


def _inside(fd: int, links: Counter[str], addresses: set[object]) -> bool:
    sock = _socket(fd)
    if sock is None:
        link = _link(fd)
        return link.startswith("pipe:") and links[link] > 1
    try:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return True
        peer = _peer(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            return sock.type == socket.SOCK_DGRAM if peer is None else peer[:2] in addresses
        if sock.family == socket.AF_UNIX:
            if peer is None:
                return sock.type == socket.SOCK_DGRAM
            return _maker(sock) == os.getpid()
        return False
    finally:
        sock.detach()


def _maker(sock: socket.socket) -> int | None:
    """The process that made the peer of a Unix socket; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _socket(fd: int) -> socket.socket | None:
    """A socket object for `fd`, to be detached and not closed; None if it is no socket."""
    try:
        return socket.socket(fileno=fd)
    except OSError:
        return None


def _peer(sock: socket.socket) -> tuple[object, ...] | str | None:
    try:
        peer: tuple[object, ...] | str = sock.getpeername()
    except OSError:  # not connected, or no longer
        return None
    return peer


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # closed meanwhile, or there is no /proc
        return ""


def _interest(events: int) -> str:
    return " and ".join(word for bit, word in ((READ, "READ"), (WRITE, "WRITE")) if events & bit) or "ERROR"


def _what(fd: int) -> str:
    sock = _socket(fd)
    if sock is None:
        return _link(fd) or "closed"
    try:
        peer = _peer(sock)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"socket listening at {sock.getsockname()}"
        return f"socket at {sock.getsockname()!r}, " + ("not connected" if peer is None else f"peer {peer!r}")
    finally:
        sock.detach()
