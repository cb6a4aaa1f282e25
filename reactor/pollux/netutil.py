"""Listening sockets: how to make them, and how to accept from them without ever losing the listener. TLS options.

What the outside world fixes
----------------------------
* accept(2) fails with EMFILE or ENFILE when descriptors run out, and leaves the connection in the queue: a
  level-triggered poller reports the listener again at once, and the loop spins. (libuv #690, CPython #151615.)
* The way out, old and portable: keep one descriptor in reserve. When accept fails, give it up, accept the connection
  with the number that became free, close it (so the client learns at once that it will not be served), and take the
  reserve back. Only if even that fails does the listener pause.
* A client that does not verify its server is open to anyone on the way. OpenSSL loads no authorities by itself, so a
  verifying context without them fails always, and tempts into switching verification off. Contexts of clients made
  here verify, against the system's authorities unless others are named.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import Any

from pollux.ioloop import IOLoop
from pollux.log import gen_log
from pollux.poller import READ

BACKLOG = (
    4096  # pending connections; the kernel cuts it to net.core.somaxconn. A burst of connects must not meet SYN drops.
)
ACCEPT_BATCH = 128  # connections accepted in one event, so that a flood of them leaves time for those already here
ACCEPT_PAUSE = 1.0  # seconds without accepting when not even the reserve helps

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind_sockets(
    port: int,
    address: str | None = None,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Make listening TCP sockets for every address that `address` resolves to.

    :param port: 0 lets the kernel choose one, the same for all addresses.
    :param address: a name or number; None or "" means all interfaces, IPv4 and IPv6.
    :param reuse_port: SO_REUSEPORT (socket(7)): several processes may listen on one port, each with its own queue.
    :raises OSError: the name does not resolve, or an address cannot be bound (EADDRINUSE: the port is taken).
    """
    infos = socket.getaddrinfo(address or None, port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for af, kind, protocol, _, where in dict.fromkeys(sorted(infos, key=lambda info: info[0] != socket.AF_INET)):
            try:
                sock = socket.socket(af, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:  # a kernel without IPv6 still resolves its addresses
                    continue
                raise
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if af == socket.AF_INET6:
                # Else the IPv6 wildcard also takes IPv4, and the socket that binds second fails.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            try:
                sock.bind(where)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and af == socket.AF_INET6 and len(sockets) > 1:
                    sockets.pop().close()  # IPv6 is there but switched off (containers): IPv4 serves
                    continue
                raise
            sock.listen(backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bind_unix_socket(path: str, mode: int = 0o600, backlog: int = BACKLOG) -> socket.socket:
    """Make a listening Unix socket at `path`; a socket left behind by a dead server is replaced.

    :param mode: the permissions of the socket file.
    :raises FileExistsError: something that is not a socket is there already.
    :raises OSError: EADDRINUSE: a server answers on that socket.
    """
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        pass
    else:
        if not is_socket:
            raise FileExistsError(errno.EEXIST, "there is a file that is not a socket", path)
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, "a server is listening there", path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def add_accept_handler(sock: socket.socket, callback: Callable[[socket.socket, Any], object]) -> Callable[[], None]:
    """Call `callback(connection, address)` for each connection that arrives on `sock`.

    :returns: a function that ends this; `sock` itself stays open.
    """
    return _Acceptor(sock, callback).remove


class _Acceptor:
    """A listener in the loop, and its reserve descriptor."""

    def __init__(self, sock: socket.socket, callback: Callable[[socket.socket, Any], object]) -> None:
        self.sock = sock
        self.callback = callback
        self.io_loop = IOLoop.current()
        self.reserve = _open_reserve()
        self.timeout: Any = None
        self.io_loop.add_handler(sock, self.accept, READ)

    def accept(self, sock: Any, events: int) -> None:
        for _ in range(ACCEPT_BATCH):
            if self.sock.fileno() < 0:
                return  # a callback has stopped the server
            try:
                connection, address = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not self.turn_away(error):
                    return
                continue
            try:
                self.callback(connection, address)
            except BaseException:
                connection.close()
                raise

    def turn_away(self, error: OSError) -> bool:
        """Accept and close one connection with the reserve; return whether there may be more."""
        if self.reserve is not None:
            os.close(self.reserve)
            self.reserve = None
            done = empty = False
            try:
                connection, address = self.sock.accept()
            except BlockingIOError:
                empty = True  # accept(2) says EMFILE before it looks whether anybody is there
            except OSError:
                pass
            else:
                connection.close()
                gen_log.error("turned %s away: %s", address or "a client", error.strerror)
                done = True
            self.reserve = _open_reserve()
            if self.reserve is not None and (done or empty):
                return done
        gen_log.error("accepting pauses for %g s: %s", ACCEPT_PAUSE, error.strerror)
        self.io_loop.remove_handler(self.sock)
        self.timeout = self.io_loop.call_later(ACCEPT_PAUSE, self.resume)
        return False

    def resume(self) -> None:
        self.timeout = None
        self.reserve = self.reserve if self.reserve is not None else _open_reserve()
        self.io_loop.add_handler(self.sock, self.accept, READ)

    def remove(self) -> None:
        if self.timeout is not None:
            self.timeout.cancel()
            self.timeout = None
        elif self.sock.fileno() >= 0:
            self.io_loop.remove_handler(self.sock)
        if self.reserve is not None:
            os.close(self.reserve)
            self.reserve = None


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


_SSL_OPTIONS = ("ssl_version", "certfile", "keyfile", "cert_reqs", "ca_certs", "ciphers")
# Protocol constants of old programs that mean one version exactly; ssl.SSLContext no longer wants to be made with them.
_ONE_VERSION = {
    ssl.PROTOCOL_TLSv1: ssl.TLSVersion.TLSv1,
    ssl.PROTOCOL_TLSv1_1: ssl.TLSVersion.TLSv1_1,
    ssl.PROTOCOL_TLSv1_2: ssl.TLSVersion.TLSv1_2,
}


def ssl_options_to_context(
    ssl_options: Mapping[str, Any] | ssl.SSLContext, server_side: bool | None = None
) -> ssl.SSLContext:
    """Make an `ssl.SSLContext` of a dict of options; a context is returned as it is.

    :param ssl_options: any of `certfile` and `keyfile` (PEM files), `cert_reqs` (`ssl.CERT_NONE`, `CERT_OPTIONAL`,
        `CERT_REQUIRED`), `ca_certs` (PEM file of authorities), `ciphers` (OpenSSL's list, for TLS 1.2 and older) and
        `ssl_version` (`ssl.PROTOCOL_*`).
    :param server_side: which side the context is for. None: a server's if there is a `certfile`, else a client's.
        A client verifies certificate and host name unless `cert_reqs` is `CERT_NONE`, against `ca_certs` or else the
        authorities of the system. A server asks for no certificate unless `cert_reqs` says so.
    :raises ValueError: an option has no such name.
    :raises OSError: a file cannot be read; its subclass `ssl.SSLError`: it holds no certificate or key, or not a pair.
    """
    if isinstance(ssl_options, ssl.SSLContext):
        return ssl_options
    for name in ssl_options:
        if name not in _SSL_OPTIONS:
            raise ValueError(f"unknown option {name!r} in ssl_options; known: {', '.join(_SSL_OPTIONS)}")
    certfile, ca_certs = ssl_options.get("certfile"), ssl_options.get("ca_certs")
    version = ssl_options.get("ssl_version")
    if server_side is None:
        server_side = certfile is not None
    if version in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(version)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    if version in _ONE_VERSION:
        context.minimum_version = context.maximum_version = _ONE_VERSION[version]
    if certfile is not None:
        context.load_cert_chain(certfile, ssl_options.get("keyfile"))
    if ssl_options.get("cert_reqs") is not None:
        if ssl_options["cert_reqs"] == ssl.CERT_NONE:
            context.check_hostname = False  # ssl refuses to verify nothing and yet check the name
        context.verify_mode = ssl_options["cert_reqs"]
    if ca_certs is not None:
        context.load_verify_locations(ca_certs)
    elif context.verify_mode != ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH if server_side else ssl.Purpose.SERVER_AUTH)
    if ssl_options.get("ciphers") is not None:
        context.set_ciphers(ssl_options["ciphers"])
    context.options |= ssl.OP_NO_COMPRESSION  # compressed secrets can be guessed by their length (CRIME)
    return context


def ssl_wrap_socket(
    sock: socket.socket,
    ssl_options: Mapping[str, Any] | ssl.SSLContext,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    **kwargs: Any,
) -> ssl.SSLSocket:
    """Wrap a connected socket in TLS, as a client unless `server_side` is true.

    :param ssl_options: see `ssl_options_to_context`.
    :param server_hostname: the name that the server's certificate must bear, also sent to it (SNI, RFC 6066).
    :param kwargs: further arguments of `ssl.SSLContext.wrap_socket`.
    """
    side = bool(server_side)
    context = ssl_options_to_context(ssl_options, server_side=side)
    return context.wrap_socket(sock, server_hostname=server_hostname, server_side=side, **kwargs)
