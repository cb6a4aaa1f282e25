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
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pollux.ioloop import IOLoop
from pollux.log import gen_log
from pollux.poller import READ
from pollux.resolver import (
    BlockingResolver,
    DefaultExecutorResolver,
    DefaultLoopResolver,
    ExecutorResolver,
    OverrideResolver,
    Resolver,
    ThreadedResolver,
    is_port,
)

__all__ = [
    "BlockingResolver",
    "DefaultExecutorResolver",
    "DefaultLoopResolver",
    "ExecutorResolver",
    "OverrideResolver",
    "Resolver",
    "ThreadedResolver",
    "add_accept_handler",
    "bind_sockets",
    "bind_unix_socket",
    "bound_socket",
    "format_address",
    "hold_off",
    "is_valid_ip",
    "listen_on",
    "reserve_sockets",
    "ssl_options_to_context",
    "ssl_wrap_socket",
    "systemd_sockets",
]

BACKLOG = (
    4096  # pending connections; the kernel cuts it to net.core.somaxconn. A burst of connects must not meet SYN drops.
)
ACCEPT_BATCH = 128  # connections accepted in one event, so that a flood of them leaves time for those already here
LISTEN_FDS_START = 3  # the first descriptor that systemd passes: SD_LISTEN_FDS_START of sd_listen_fds(3)
ACCEPT_PAUSE = 1.0  # seconds without accepting when not even the reserve helps

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind_sockets(
    port: int,
    address: str | None = None,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    backlog: int = BACKLOG,
    flags: int | None = None,
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Make listening TCP sockets for every address that `address` resolves to. This may block on the name.

    :param port: 0 lets the kernel choose one, the same for all addresses.
    :param address: a name or number; None or "" means all interfaces, IPv4 and IPv6.
    :param backlog: connections that wait to be accepted, see listen(2).
    :param flags: AI_* flags for getaddrinfo(3); None means AI_PASSIVE.
    :param reuse_port: SO_REUSEPORT (socket(7)): several processes may listen on one port, each with its own queue.
    :raises OSError: the name does not resolve, or an address cannot be bound (EADDRINUSE: the port is taken).
    :raises ValueError: there is no such port, or no SO_REUSEPORT here.
    """
    sockets = reserve_sockets(port, address, family, flags, reuse_port)
    listen_on(sockets, backlog)
    return sockets


def reserve_sockets(
    port: int,
    address: str | None = None,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    flags: int | None = None,
    reuse_port: bool = False,
) -> list[socket.socket]:
    """Bind sockets as `bind_sockets` does, but do not listen: no connection comes in by them."""
    if not is_port(port):
        raise ValueError(f"a port is 0 (any that is free) to 65535, got {port}")
    where_to = socket.AI_PASSIVE if flags is None else flags
    infos = socket.getaddrinfo(address or None, port, family, socket.SOCK_STREAM, 0, where_to)
    infos.sort(key=lambda info: info[0] != socket.AF_INET)
    sockets: list[socket.socket] = []
    try:
        for af, where in dict.fromkeys((info[0], info[4]) for info in infos):
            if port == 0 and sockets:
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            try:
                sockets.append(bound_socket(socket.AddressFamily(af), where, reuse_port))
            except OSError as error:
                # A kernel without IPv6 still resolves its addresses; one where it is switched off (containers) even
                # makes the socket. IPv4 serves.
                if error.errno == errno.EAFNOSUPPORT or (
                    error.errno == errno.EADDRNOTAVAIL and af == socket.AF_INET6 and sockets
                ):
                    continue
                raise
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bound_socket(family: socket.AddressFamily, where: Any, reuse_port: bool = False) -> socket.socket:
    """Make one TCP socket, not blocking, bound to `where` as `socket.getsockname` gives it; it does not listen yet.

    :raises OSError: with the address in its words.
    :raises ValueError: there is no SO_REUSEPORT here.
    """
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port=True: this platform has no SO_REUSEPORT")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Else the IPv6 wildcard also takes IPv4, and the socket that binds second fails.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(where)
        except OSError as error:
            raise OSError(error.errno, f"cannot bind {format_address(where)}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def listen_on(sockets: list[socket.socket], backlog: int = BACKLOG) -> None:
    """Let bound sockets listen; all are closed if one cannot (EADDRINUSE: another one listens there)."""
    try:
        for sock in sockets:
            sock.listen(backlog)
    except OSError as error:
        where = format_address(sock.getsockname())
        for sock in sockets:
            sock.close()
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from None


def format_address(address: Any) -> str:
    """Write a socket's address as people do: "127.0.0.1:80", "[::1]:80", or a path."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_valid_ip(ip: str) -> bool:
    """Return whether `ip` is an IPv4 or IPv6 address in full: four numbers (RFC 6943 section 3.1.1 says what becomes of
    those who allow fewer), or RFC 4291 section 2.2 with an optional zone (RFC 4007)."""
    address, percent, zone = ip.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        if percent and (not zone or family == socket.AF_INET):
            continue
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: a null byte, or not ASCII
            continue
        return True
    return False


_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # linux/filter.h: BPF_RET | BPF_K, keep 0 bytes of the packet


def hold_off(sock: socket.socket) -> bool:
    """Let the kernel ignore whoever asks this listening socket for a connection; return whether it does (Linux).

    To be called before a socket is closed that others share its port with (SO_REUSEPORT): a client that comes now asks
    again after a second, and then gets to one of the others, where it would have been reset. What has been connected
    before can still be accepted.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # which nobody else here needs

    code = ctypes.create_string_buffer(_DROP, len(_DROP))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
    except OSError:  # a sandbox without filters
        return False
    return True


def bind_unix_socket(file: str, mode: int = 0o600, backlog: int = BACKLOG) -> socket.socket:
    """Make a listening Unix socket at the path `file`; a socket left behind by a dead server is replaced.

    :param mode: the permissions of the socket file.
    :raises FileExistsError: something that is not a socket is there already.
    :raises OSError: EADDRINUSE: a server answers on that socket.
    """
    abstract = file.startswith("\0")  # unix(7): a Linux name outside the file system, with neither file nor mode
    if not abstract:
        _remove_stale_socket(file)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.bind(file)
        if not abstract:
            os.chmod(file, mode)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale_socket(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, "there is a file that is not a socket", path)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a server whose queue is full would keep us waiting (connect(2), EAGAIN)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
        raise OSError(errno.EADDRINUSE, "a server is listening there", path)


def systemd_sockets(name: str | None = None) -> list[socket.socket]:
    """Take the listening sockets that systemd, or whoever speaks sd_listen_fds(3), passed to this process.

    Each call returns new copies (dup(2)): closing them, as `TCPServer.stop` does, leaves the passed ones open, and
    clients that connect meanwhile wait for the next process.

    :param name: only those of this name (`FileDescriptorName=` of systemd.socket(5)); None means all.
    :returns: sockets that listen and do not block; empty if none were passed, or to another process than this one.
    :raises ValueError: LISTEN_PID or LISTEN_FDS is no number, or LISTEN_FDNAMES has not as many names.
    :raises OSError: EBADF: a descriptor is not open; ENOTSOCK: it is no socket; EINVAL: it does not listen.
    """
    if _number_in("LISTEN_PID") != os.getpid():
        return []
    count = _number_in("LISTEN_FDS")
    names = os.environ["LISTEN_FDNAMES"].split(":") if "LISTEN_FDNAMES" in os.environ else ["unknown"] * count
    if len(names) != count:
        raise ValueError(f"LISTEN_FDNAMES: expected {count} names (LISTEN_FDS), got {':'.join(names)!r}")
    sockets: list[socket.socket] = []
    try:
        for fd, each in enumerate(names, LISTEN_FDS_START):
            if name is None or each == name:
                sockets.append(_passed_socket(fd, each))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _passed_socket(fd: int, name: str) -> socket.socket:
    what = f"descriptor {fd} ({name!r}), passed by LISTEN_FDS,"
    try:
        os.set_inheritable(fd, False)  # it is passed to us, not to the programs that we start
        passed = socket.socket(fileno=fd)
        try:
            sock = passed.dup()
        finally:
            passed.detach()
    except OSError as error:
        problem = {errno.EBADF: "is not open", errno.ENOTSOCK: "is not a socket"}.get(error.errno or 0, error.strerror)
        raise OSError(error.errno, f"{what} {problem}") from None
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise OSError(errno.EINVAL, f"{what} does not listen: expected a stream socket, in its unit Accept=no")
    sock.setblocking(False)
    return sock


def _number_in(variable: str) -> int:
    text = os.environ.get(variable, "0")
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{variable}: expected a number, see sd_listen_fds(3), got {text!r}")
    return int(text)


def add_accept_handler(
    sock: socket.socket, callback: Callable[[socket.socket, Any], object], io_loop: IOLoop | None = None
) -> Callable[[], None]:
    """Call `callback(connection, address)` for each connection that arrives on `sock`.

    :param io_loop: where (up to Tornado 4); None means the current loop.
    :returns: a function that ends this; `sock` itself stays open.
    """
    return Acceptor(sock, callback, io_loop or IOLoop.current()).remove


class Acceptor:
    """A listener in the loop, and its reserve descriptor."""

    def __init__(self, sock: socket.socket, callback: Callable[[socket.socket, Any], object], io_loop: IOLoop) -> None:
        self.sock = sock
        self.callback = callback
        self.io_loop = io_loop
        self.timeout: Any = None
        self.removed = False
        self.reserve: int | None = None
        self.io_loop.add_handler(sock, self.accept, READ)
        self.reserve = _open_reserve()  # after what may fail

    def accept(self, sock: Any, events: int) -> None:
        """Accept what waits, up to `ACCEPT_BATCH` connections."""
        self.accept_arrived(ACCEPT_BATCH)

    def accept_arrived(self, limit: int = BACKLOG) -> None:
        """Accept the connections that the kernel has made already, up to `limit`; none while descriptors are out."""
        for _ in range(0 if self.timeout is not None else limit):
            if self.removed or self.sock.fileno() < 0:
                return  # by a callback
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
        self.removed = True
        if self.timeout is not None:
            self.timeout.cancel()
            self.timeout = None
        elif self.sock.fileno() >= 0:
            self.io_loop.remove_handler(self.sock)
        self.close_reserve()

    def close_reserve(self) -> None:
        if self.reserve is not None:
            os.close(self.reserve)
            self.reserve = None

    __del__ = close_reserve  # a loop may end before anybody has said `remove`


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
    socket: socket.socket,
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
    return context.wrap_socket(socket, server_hostname=server_hostname, server_side=side, **kwargs)
