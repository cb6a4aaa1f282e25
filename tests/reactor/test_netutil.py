"""`netutil` without a loop: addresses, binding, TLS options, sockets of systemd. Tornado's functions are the oracle."""

from __future__ import annotations

import errno
import gc
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.netutil
import trustme

from pollux import netutil
from pollux.testing.descriptors import nothing_left_open

BOTH = pytest.mark.parametrize("module", [netutil, tornado.netutil], ids=["pollux", "tornado"])


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    gc.collect()
    with nothing_left_open():
        yield
        gc.collect()


# Addresses

ADDRESSES = {
    "127.0.0.1": True,
    "4.4.4.4": True,
    "::1": True,
    "2620:0:1cfe:face:b00c::3": True,
    "::ffff:1.2.3.4": True,
    "www.example.com": False,
    "localhost": False,
    "4.4.4.4<": False,
    " 127.0.0.1": False,
    "": False,
    " ": False,
    "\n": False,
    "\x00": False,
    "127.0.0.1\x00": False,
    "a" * 100: False,
    "1.2.3.256": False,
    "1.2.3.4%lo": False,
    "[::1]": False,
    "١.1.1.1": False,  # noqa: RUF001  # a digit that is not ASCII
}
# getaddrinfo(3), which Tornado asks, reads these as inet_aton(3) does: "1" is 0.0.0.1. Others read them otherwise.
ONLY_TORNADO = ("1", "127.1", "0x7f.0.0.1")


@BOTH
@pytest.mark.parametrize("ip", ADDRESSES)
def test_is_valid_ip(module: Any, ip: str) -> None:
    assert module.is_valid_ip(ip) is ADDRESSES[ip]


@pytest.mark.parametrize("ip", ONLY_TORNADO)
def test_an_address_has_four_numbers(ip: str) -> None:
    assert tornado.netutil.is_valid_ip(ip)
    assert not netutil.is_valid_ip(ip)


def test_zones() -> None:
    """RFC 4007: of an IPv6 address, and not empty."""
    assert netutil.is_valid_ip("fe80::1%anything")
    assert not netutil.is_valid_ip("fe80::1%")


@pytest.mark.parametrize(
    ("address", "text"),
    [(("1.2.3.4", 80), "1.2.3.4:80"), (("::1", 80, 0, 0), "[::1]:80"), ("/run/s", "/run/s")],
)
def test_format_address(address: Any, text: str) -> None:
    assert netutil.format_address(address) == text


# Binding


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


@BOTH
def test_same_port_on_all_addresses(module: Any) -> None:
    sockets = module.bind_sockets(0, "")
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in sockets)
    assert not any(sock.getblocking() for sock in sockets)
    _close(sockets)


@BOTH
def test_order_of_parameters(module: Any) -> None:
    """Tornado's: port, address, family, backlog, flags, reuse_port."""
    sockets = module.bind_sockets(0, "127.0.0.1", socket.AF_INET, 10, socket.AI_NUMERICHOST, True)
    port = sockets[0].getsockname()[1]
    sockets += module.bind_sockets(port, "127.0.0.1", socket.AF_INET, 10, None, True)
    assert {sock.getsockname() for sock in sockets} == {("127.0.0.1", port)}
    _close(sockets)


@BOTH
def test_flags(module: Any) -> None:
    with pytest.raises(socket.gaierror):
        module.bind_sockets(0, "localhost", flags=socket.AI_NUMERICHOST)


@pytest.mark.parametrize("listening", [True, False])
def test_port_in_use(listening: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot bind 127.0.0.1:{port}") as raised:
            netutil.bind_sockets(port, "127.0.0.1")
        assert raised.value.errno == errno.EADDRINUSE


def test_port_taken_by_one_that_listens_later() -> None:
    """SO_REUSEADDR lets both bind; the second to listen is told, and what it had bound is closed."""
    first, second = netutil.reserve_sockets(0, "127.0.0.1"), []
    port = first[0].getsockname()[1]
    second = netutil.reserve_sockets(port, "127.0.0.1")
    netutil.listen_on(first)
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}") as raised:
        netutil.listen_on(second)
    assert raised.value.errno == errno.EADDRINUSE
    assert second[0].fileno() == -1
    _close(first)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        netutil.bind_sockets(0, "no.such.host.invalid", flags=socket.AI_NUMERICHOST)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0") as raised:
        netutil.bind_sockets(0, "192.0.2.1")
    assert raised.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("port", [-1, 65536, 88888])
def test_there_is_no_such_port(port: int) -> None:
    """Not what is left of the number in 16 bits, as getaddrinfo(3) has it."""
    with pytest.raises(ValueError, match=f"got {port}"):
        netutil.bind_sockets(port, "127.0.0.1")


def test_no_reuse_port_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="SO_REUSEPORT"):
        netutil.bind_sockets(0, "127.0.0.1", reuse_port=True)


def test_what_is_reserved_refuses_connections() -> None:
    """Also beside one that listens: the kernel gives connections to sockets that listen, and to no others."""
    held = netutil.reserve_sockets(0, "127.0.0.1", reuse_port=True)
    where = held[0].getsockname()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(where)
    listening = netutil.bind_sockets(where[1], "127.0.0.1", reuse_port=True)
    listening[0].setblocking(True)
    for _ in range(8):
        with socket.create_connection(where):
            listening[0].accept()[0].close()
    _close(held + listening)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_abstract_unix_socket(tmp_path: Path) -> None:
    name = f"\0{tmp_path}"
    with netutil.bind_unix_socket(name) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
        listening.accept()[0].close()
    assert not list(tmp_path.iterdir())


# TLS options


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate for 127.0.0.1 and localhost, its key, and its authority."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return {name: str(folder / f"{name}.pem") for name in ("key", "cert", "ca")}


@BOTH
@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("reqs", [None, ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_verification(module: Any, server_side: bool, reqs: ssl.VerifyMode | None, files: dict[str, str]) -> None:
    options: dict[str, Any] = {"certfile": files["cert"], "keyfile": files["key"]} if server_side else {}
    if reqs is not None:
        options["cert_reqs"] = reqs
    context = module.ssl_options_to_context({**options, "ca_certs": files["ca"]}, server_side=server_side)
    default = ssl.CERT_NONE if server_side else ssl.CERT_REQUIRED
    assert context.verify_mode == (default if reqs is None else reqs)
    assert context.check_hostname is (not server_side and reqs != ssl.CERT_NONE)
    assert len(context.get_ca_certs()) == 1
    assert context.options & ssl.OP_NO_COMPRESSION


@BOTH
def test_a_context_is_taken_as_it_is(module: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert module.ssl_options_to_context(context, server_side=False) is context


@BOTH
def test_ciphers(module: Any) -> None:
    options = {"ciphers": "ECDHE-RSA-AES256-GCM-SHA384"}
    names = [each["name"] for each in module.ssl_options_to_context(options, server_side=False).get_ciphers()]
    assert [name for name in names if not name.startswith("TLS_")] == [options["ciphers"]]


def test_a_client_trusts_the_systems_authorities(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files["ca"])
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    (authority,) = netutil.ssl_options_to_context({}).get_ca_certs()
    assert "trustme" in str(authority["subject"])
    assert netutil.ssl_options_to_context({"cert_reqs": ssl.CERT_NONE}).get_ca_certs() == []


def test_the_side_is_told_by_the_certificate(files: dict[str, str]) -> None:
    server = netutil.ssl_options_to_context({"certfile": files["cert"], "keyfile": files["key"]})
    assert server.protocol == ssl.PROTOCOL_TLS_SERVER
    assert netutil.ssl_options_to_context({}).protocol == ssl.PROTOCOL_TLS_CLIENT


@pytest.mark.parametrize(
    ("version", "lowest", "highest"),
    [
        (ssl.PROTOCOL_TLSv1_2, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        (ssl.PROTOCOL_TLS, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).minimum_version, ssl.TLSVersion.MAXIMUM_SUPPORTED),
    ],
)
def test_protocol_constants_of_old_programs(
    version: ssl._SSLMethod, lowest: ssl.TLSVersion, highest: ssl.TLSVersion
) -> None:
    context = netutil.ssl_options_to_context({"ssl_version": version}, server_side=False)
    assert (context.minimum_version, context.maximum_version) == (lowest, highest)
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_bad_options(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'cert_file'.*certfile"):
        netutil.ssl_options_to_context({"cert_file": files["cert"]})
    with pytest.raises(FileNotFoundError):
        netutil.ssl_options_to_context({"certfile": "/nonexistent"})
    with pytest.raises(ssl.SSLError):
        netutil.ssl_options_to_context({"certfile": files["cert"], "keyfile": files["cert"]})


@BOTH
def test_wrapping_both_ends(module: Any, files: dict[str, str]) -> None:
    ours, peer = socket.socketpair()
    server_options = {"certfile": files["cert"], "keyfile": files["key"]}

    def serve() -> None:
        with module.ssl_wrap_socket(peer, server_options, server_side=True) as server:
            server.sendall(server.recv(10))

    thread = threading.Thread(target=serve)
    thread.start()
    with module.ssl_wrap_socket(
        ours, {"ca_certs": files["ca"]}, server_hostname="localhost", server_side=False
    ) as client:
        client.sendall(b"both")
        assert client.recv(10) == b"both"
    thread.join()


# Sockets of systemd


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Two sockets that listen, passed as sd_listen_fds(3) has it, but from a descriptor on that is free here."""
    first = socket.create_server(("127.0.0.1", 0))
    os.dup2(first.fileno(), 500)
    with socket.create_server(("127.0.0.1", 0)) as another:
        os.dup2(another.fileno(), 501)
    second = socket.socket(fileno=501)
    monkeypatch.setattr(netutil, "LISTEN_FDS_START", 500)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "http:admin")
    yield [first, second]
    first.close()
    second.close()
    os.close(500)


def test_sockets_of_systemd(passed: list[socket.socket]) -> None:
    os.set_inheritable(500, True)
    for name, expected in ((None, passed), ("http", passed[:1]), ("admin", passed[1:]), ("ftp", [])):
        for _ in range(2):  # as often as one likes: what was passed stays open
            found = netutil.systemd_sockets(name)
            assert [sock.getsockname() for sock in found] == [sock.getsockname() for sock in expected]
            assert not any(sock.getblocking() or sock.get_inheritable() for sock in found)
            _close(found)
    assert not os.get_inheritable(500)


def test_no_names(passed: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """sd_listen_fds_with_names(3) calls them "unknown"."""
    monkeypatch.delenv("LISTEN_FDNAMES")
    found = netutil.systemd_sockets("unknown")
    assert len(found) == 2
    _close(found)


@pytest.mark.parametrize("pid", [None, "1"])
def test_passed_to_nobody_or_somebody_else(
    pid: str | None, passed: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LISTEN_PID")
    if pid is not None:
        monkeypatch.setenv("LISTEN_PID", pid)
    assert netutil.systemd_sockets() == []


@pytest.mark.parametrize(
    ("variable", "value"), [("LISTEN_PID", "me"), ("LISTEN_FDS", "-1"), ("LISTEN_FDS", "²"), ("LISTEN_FDNAMES", "http")]
)
def test_malformed_environment(
    variable: str, value: str, passed: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}: expected .*got '{value}'"):
        netutil.systemd_sockets()


def test_bad_descriptors(passed: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named, and the good ones before it are closed again."""
    monkeypatch.setenv("LISTEN_FDNAMES", "http:odd")
    with open(os.devnull) as file:
        for replacement, problem, number in (
            (file.fileno(), "is not a socket", errno.ENOTSOCK),
            (socket.socket().detach(), "does not listen", errno.EINVAL),
        ):
            os.dup2(replacement, 501)
            if replacement != file.fileno():
                os.close(replacement)
            with pytest.raises(OSError, match=rf"descriptor 501 \('odd'\).*{problem}") as raised:
                netutil.systemd_sockets()
            assert raised.value.errno == number
    monkeypatch.setattr(netutil, "LISTEN_FDS_START", 501)
    with pytest.raises(OSError, match=r"descriptor 502 \('odd'\).*is not open") as raised:
        monkeypatch.setenv("LISTEN_FDNAMES", "x:odd")
        os.dup2(passed[0].fileno(), 501)
        netutil.systemd_sockets()
    assert raised.value.errno == errno.EBADF


def test_a_server_that_systemd_starts() -> None:
    """With the real descriptor 3."""
    script = """
        import os, sys
        from pollux import IOLoop
        from pollux.netutil import systemd_sockets
        from pollux.tcpserver import TCPServer

        class Hello(TCPServer):
            def handle_stream(self, stream, address):
                stream.send(b"hello")
                stream.close()
                IOLoop.current().stop()

        os.environ["LISTEN_PID"] = str(os.getpid())
        server = Hello()
        server.add_sockets(systemd_sockets())
        IOLoop.current().start()
        server.stop()
        IOLoop.current().close()
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        starter = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        command = [sys.executable, "-c", starter, str(listening.fileno()), "-W", "error", "-c", textwrap.dedent(script)]
        environment = {**os.environ, "LISTEN_FDS": "1"}
        with subprocess.Popen(
            command, env=environment, pass_fds=[listening.fileno()], stderr=subprocess.PIPE
        ) as server:
            with socket.create_connection(listening.getsockname()) as client:
                assert client.recv(10) == b"hello"
            assert server.communicate()[1] == b""
    assert server.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="hold_off() is Linux's socket filter")
def test_what_is_held_off_goes_to_who_shares_the_port() -> None:
    """None of the clients is reset, though half of them came to the socket that closes."""
    with socket.socket() as leaving, socket.socket() as staying:
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        staying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        leaving.bind(("127.0.0.1", 0))
        staying.bind(leaving.getsockname())
        staying.settimeout(20)
        leaving.listen()
        staying.listen()
        assert netutil.hold_off(leaving)
        clients = [socket.socket() for _ in range(20)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(leaving.getsockname())
        leaving.setblocking(False)
        with pytest.raises(BlockingIOError):
            leaving.accept()
        leaving.close()
        for _ in clients:
            staying.accept()[0].close()
        for client in clients:
            client.settimeout(20)
            assert client.recv(1) == b""
            client.close()
