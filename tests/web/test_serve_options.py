"""`pollux serve` with an ASGI or WSGI application, and its options: each from the command line or elsewhere."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
import textwrap
from pathlib import Path

import pytest
import trustme

from pollux_web.listening import ListenError, Listening
from pollux_web.reload import FileWatch, below
from tests.web.test_serve import PATIENCE, command, environment, refused, serving

SITE = """
    import asyncio, os

    async def asgi(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            if os.environ.get("FAIL"):
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("ended")
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/wait":
            await asyncio.Event().wait()
        body = f"asgi {scope['scheme']} {scope['client'][0]} {scope['root_path']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def wsgi(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"wsgi {environ['wsgi.url_scheme']} {environ['REMOTE_ADDR']} {environ['SCRIPT_NAME']}".encode()]

    def callback(request):
        request.connection.respond(body=b"callback")

    def either(*args):
        return wsgi(*args)

    async def chat(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send(message | {"type": "websocket.send"})

    def make():
        return asgi

    def broken():
        raise ValueError("not today")

    def silly():
        return 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(textwrap.dedent(SITE))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["site_app:asgi"], "asgi http 127.0.0.1 "), (["site_app:wsgi"], "wsgi http 127.0.0.1 "),
        (["site_app:callback"], "callback"), (["site_app:either", "--interface", "wsgi"], "wsgi http 127.0.0.1 "),
        (["site_app:make", "--factory"], "asgi http 127.0.0.1 "),
        (["site_app:asgi", "--root-path", "/app"], "asgi http 127.0.0.1 /app"),
        (["site_app:wsgi", "--root-path", "/app", "--wsgi-threads", "2"], "wsgi http 127.0.0.1 /app"),
        (["site_app:asgi", "--lifespan", "on"], "asgi http 127.0.0.1 "),
    ],
)  # fmt: skip
def test_applications(folder: Path, arguments: list[str], answer: str) -> None:
    with serving(*arguments, cwd=folder) as served:
        assert served.get("/" if "callback" in answer else "/x") == answer
        assert served.end(signal.SIGTERM) == (0, "")


def test_app_dir(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with serving("site_app:asgi", "--app-dir", folder, cwd=elsewhere) as served:
        assert served.get().startswith("asgi")
    with serving("site_app:asgi", cwd=elsewhere, POLLUX_APP_DIR=str(folder)) as served:
        assert served.get().startswith("asgi")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["site_app:broken", "--factory"], r"site_app\.py:\d+: ValueError: not today"),
        (["site_app:silly", "--factory"], r"site_app:silly\(\) is no application to serve: .* got int"),
        (["site_app:either"], "fits pollux and wsgi and asgi: say which it is"),
        (["site_app:asgi", "--interface", "cgi"], "interface is 'cgi', expected one of auto, pollux, asgi, wsgi"),
        (["site_app:asgi", "--app-dir", "nowhere"], "there is no directory 'nowhere'"),
        (["site_app:asgi", "--ssl-keyfile", "x"], "ssl_keyfile without ssl_certfile"),
        (["site_app:asgi", "--ssl-certfile", "nowhere.pem"], "TLS: cannot use 'nowhere.pem': No such file"),
        (["site_app:asgi", "--ssl-certfile", "site_app.py"], "TLS: cannot use 'site_app.py': "),
        (["site_app:asgi", "--proxy-headers", "--forwarded-allow-ips", "proxy"], "a trusted proxy is an IP address"),
        (["site_app:asgi", "--fd", "999"], "cannot listen on descriptor 999: Bad file descriptor"),
        (["site_app:asgi", "--workers", "0"], "workers is 0, expected a number above 0"),
        (["site_app:asgi", "--limit-concurrency", "0"], "limit_concurrency is 0, expected a number above 0"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(folder: Path, arguments: list[str], words: str) -> None:
    assert re.search(words, refused(*arguments, "--port", "0", cwd=folder))


def test_a_startup_that_fails(folder: Path) -> None:
    told = refused("site_app:asgi", "--port", "0", cwd=folder, FAIL="1")
    assert told == "pollux: the application failed to start: no database\n"


def test_settings_from_the_file(folder: Path) -> None:
    (folder / "pollux.toml").write_text("interface = 'wsgi'\nroot_path = '/filed'\naccess_log = true\n")
    with serving("site_app:either", cwd=folder) as served:
        assert served.get("/x?y") == "wsgi http 127.0.0.1 /filed"
        _, said = served.end(signal.SIGTERM)
        assert re.search(r"INFO 200 GET /x\?y \(127\.0\.0\.1\) [\d.]+ms", said)


@pytest.mark.parametrize("target", ["site_app:asgi", "site_app:wsgi"])
def test_access_log(folder: Path, target: str) -> None:
    with serving(target, "--access-log", cwd=folder) as served:
        served.get("/x")
        assert "200 GET /x (127.0.0.1)" in served.end(signal.SIGTERM)[1]
    with serving(target, cwd=folder) as served:
        served.get("/x")
        assert served.end(signal.SIGTERM)[1] == ""


HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
ELEVEN_BYTES = b"\x82\x8b" + bytes(4) + b"hello world"  # a binary message, masked with zeros


@pytest.mark.parametrize(
    ("options", "compressed", "answer"),
    [
        ((), False, b"\x82\x0bhello world"),
        (("--websocket-compression", "--websocket-max-message-size", "11"), True, b"\x82\x0bhello world"),
        (("--websocket-max-message-size", "10"), False, b"\x88"),
        (("--websocket-ping-interval", "0.1", "--websocket-ping-timeout", "30"), False, b"\x82\x0bhello world\x89"),
    ],
    ids=["as it is", "compression", "max_message_size", "ping_interval"],
)
def test_websockets(folder: Path, options: tuple[str, ...], compressed: bool, answer: bytes) -> None:
    """RFC 6455 1.3 and 5.2, by hand."""
    with serving("site_app:chat", *options, cwd=folder) as served, contextlib.closing(served.connect()) as connection:
        connection.connect()
        sock = connection.sock
        sock.sendall(HANDSHAKE + ELEVEN_BYTES)
        said = b""
        while b"\r\n\r\n" not in said or len(said.partition(b"\r\n\r\n")[2]) < len(answer):
            data = sock.recv(4096)
            assert data, said
            said += data
        head, _, frames = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (b"permessage-deflate" in head) is compressed
        if compressed:
            assert frames[0] in (0x82, 0xC2)  # so short a message may go as it is
        else:
            assert frames.startswith(answer)


def test_proxy_headers(folder: Path) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    for options, answer in (
        (["--proxy-headers"], "asgi https 203.0.113.7 "), ([], "asgi http 127.0.0.1 "),
        (["--proxy-headers", "--forwarded-allow-ips", "192.0.2.1"], "asgi http 127.0.0.1 "),
        (["--proxy-headers", "--forwarded-allow-ips", "*"], "asgi https 203.0.113.7 "),
    ):  # fmt: skip
        with serving("site_app:asgi", *options, cwd=folder) as served, contextlib.closing(served.connect()) as client:
            client.request("GET", "/", headers=headers)
            assert client.getresponse().read().decode() == answer


def test_limit_concurrency(folder: Path) -> None:
    with serving("site_app:asgi", "--limit-concurrency", "1", cwd=folder) as served:
        with contextlib.closing(served.connect()) as waiting:
            waiting.request("GET", "/wait")
            while True:  # until that one has come
                with contextlib.closing(served.connect()) as client:
                    client.request("GET", "/")
                    if client.getresponse().status == 503:
                        break


def test_tls(folder: Path) -> None:
    authority, clients = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    clients.cert_pem.write_to_path(str(folder / "clients.pem"))
    options = ["--ssl-certfile", "server.pem", "--ssl-ca-certs", "clients.pem"]
    with serving("site_app:asgi", *options, cwd=folder) as served:
        assert served.where.startswith("https://127.0.0.1:")
        port = int(served.where.rpartition(":")[2])
        context = ssl.create_default_context()
        authority.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        clients.issue_cert("me@example.org").configure_cert(context)
        with contextlib.closing(
            http.client.HTTPSConnection("localhost", port, context=context, timeout=PATIENCE)
        ) as client:
            client.request("GET", "/")
            assert client.getresponse().read() == b"asgi https 127.0.0.1 "
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.selected_alpn_protocol() == "http/1.1"
        anonymous = ssl.create_default_context()
        authority.configure_trust(anonymous)
        stranger = http.client.HTTPSConnection("localhost", port, context=anonymous, timeout=PATIENCE)
        with contextlib.closing(stranger), pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            stranger.request("GET", "/")
            stranger.getresponse()


def test_an_inherited_descriptor(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        number = listening.fileno()
        with subprocess.Popen(
            command("site_app:asgi", "--fd", number), cwd=folder, env=environment(), text=True,
            stderr=subprocess.PIPE, pass_fds=[number],
        ) as process:  # fmt: skip
            try:
                client = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=PATIENCE)
                with contextlib.closing(client):
                    client.request("GET", "/")
                    assert client.getresponse().read() == b"asgi http 127.0.0.1 "
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


def test_a_descriptor_that_does_not_listen(tmp_path: Path) -> None:
    with socket.socket() as sock, pytest.raises(ListenError, match="it is a socket that does not listen"):
        Listening("", 0, fd=sock.fileno())
    with (tmp_path / "file").open("w") as file, pytest.raises(ListenError, match="--fd takes an inherited socket"):
        Listening("", 0, fd=file.fileno())


def test_a_port_that_is_held_lets_nobody_in_until_a_worker_listens() -> None:
    listening = Listening("127.0.0.1", 0, own=True)
    try:
        port = listening._held[0].getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        (sock,) = listening.sockets()
        with socket.create_connection(("127.0.0.1", port)):
            sock.accept()[0].close()
    finally:
        listening.close()


def test_file_watch(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for skipped in (".hidden", "__pycache__", "environment", "node_modules"):
        (tmp_path / skipped).mkdir()
    (tmp_path / "environment" / "pyvenv.cfg").touch()
    watch = FileWatch(below([str(tmp_path)]))
    assert watch() is None
    file = tmp_path / "package" / "module.py"
    for change in (lambda: file.write_text("1"), lambda: file.write_text("22"), file.unlink):
        change()
        assert watch() == str(file)
        assert watch() is None
    for unwatched in (".hidden/x.py", "__pycache__/x.py", "environment/x.py", "node_modules/x.py", "package/x.txt"):
        (tmp_path / unwatched).write_text("1")
        assert watch() is None
    (tmp_path / "package").rename(tmp_path / "other")
    (tmp_path / "other" / "new.py").touch()
    assert watch() == str(tmp_path / "other" / "new.py")
