"""`Listening`: what `pollux serve` listens on, as one process or as several.

Several workers each listen on a socket of their own (SO_REUSEPORT, socket(7)), which is bound in the worker: the kernel
deals connections out evenly, and a worker that dies takes only its own queue along. Until they do, and while they are
replaced, the supervisor holds the port by sockets that are bound and do not listen. What cannot be bound twice (a Unix
socket, an inherited descriptor) is opened once and shared. So is the port of `--reload`: a client that comes while the
worker starts again then waits instead of being refused.
"""

from __future__ import annotations

import errno
import os
import socket

from pollux.errors import PolluxError
from pollux.netutil import bind_sockets, bind_unix_socket, bound_socket, listen_on, reserve_sockets

UDS_MODE = 0o666  # a proxy in front usually runs as another user; the directory decides who gets there


class ListenError(PolluxError):
    """The address cannot be listened on."""


class Listening:
    """Open sockets, or sockets that hold the port.

    :param own: each worker is to have sockets of its own, where that is possible.
    :raises ListenError: what was asked for cannot be listened on.
    """

    def __init__(self, host: str, port: int, uds: str | None = None, fd: int | None = None, own: bool = False) -> None:
        self._uds = uds
        self._held: list[socket.socket] = []  # bound, not listening
        self._open: list[socket.socket] = []
        self._file: tuple[int, int] | None = None
        try:
            if fd is not None:
                self._open = [_inherited(fd)]
            elif uds:
                self._open = [bind_unix_socket(uds, UDS_MODE)]
                self._file = _identity(uds)
            elif own:
                self._held = reserve_sockets(port, host, reuse_port=True)
            else:
                self._open = bind_sockets(port, host)
        except UnicodeError:  # from the IDNA codec
            raise ListenError(f"cannot listen on {host!r}: it is no host name") from None
        except OSError as error:
            raise _explained(error, uds or f"{host} port {port}", "--uds" if uds else "--port") from None

    @property
    def own(self) -> bool:
        """Whether each worker has sockets of its own."""
        return bool(self._held)

    def sockets(self) -> list[socket.socket]:
        """Return sockets that listen, for the process that calls.

        :raises ListenError: somebody else listens on the port by now.
        """
        if self._held:
            try:
                self._open = [bound_socket(held.family, held.getsockname(), reuse_port=True) for held in self._held]
                listen_on(self._open)
            except OSError as error:
                raise _explained(error, f"port {self._held[0].getsockname()[1]}", "--port") from None
        return self._open

    def close(self) -> None:
        """Close everything, and remove the Unix socket's file if it is still ours: a successor may listen there."""
        for sock in (*self._open, *self._held):
            sock.close()
        if self._file is not None and self._uds and _identity(self._uds) == self._file:
            os.unlink(self._uds)


def _explained(error: OSError, where: str, other: str) -> ListenError:
    reasons = {
        errno.EADDRINUSE: f"it is in use: stop who listens there, or choose another with {other}",
        errno.EACCES: "permission denied: ports below 1024 need privileges",
        errno.EADDRNOTAVAIL: "it is no address of this machine",
    }
    return ListenError(f"cannot listen on {where}: {reasons.get(error.errno or 0, error.strerror or str(error))}")


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(
            f"cannot listen on descriptor {fd}: {error.strerror} (--fd takes an inherited socket)"
        ) from None
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ListenError(f"cannot listen on descriptor {fd}: it is a socket that does not listen")
    sock.setblocking(False)
    return sock


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file at `path`; None if there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
