"""`pollux serve` as a process of its own: where it listens, how it ends, and what it says when it cannot start.

Self-contained, so that it also proves the installed wheel.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pollux import registry

BACKENDS = [backend.name for backend in registry.backends() if registry.unusable(backend) is None]
PATIENCE = 30.0
EXAMPLE = Path(__file__).parents[2] / "examples" / "01_getting_started.py"

APP = """
    import asyncio
    from pollux import IOLoop
    from pollux_web import Application, RequestHandler

    class Hello(RequestHandler):
        def get(self):
            self.write(f"hello on {IOLoop.current().backend.name}")

    class Wait(RequestHandler):
        async def get(self):
            self.write("part")
            self.flush()
            reading = asyncio.get_running_loop().create_future()
            WAITING.append(reading)
            await reading
            self.write(" whole")

    class Go(RequestHandler):
        def get(self):
            WAITING.pop().set_result(None)

    WAITING = []
    app = Application([("/", Hello), ("/wait", Wait), ("/go", Go)])

    class nested:
        site = app

    number = 5
    async def coroutine(request): pass
    def function(request):
        request.connection.respond(body=b"function")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(textwrap.dedent(APP))
    return path


class Served:
    """A running `pollux serve`."""

    def __init__(self, process: subprocess.Popen[str], where: str, banner: str) -> None:
        self.process = process
        self.where = where
        self.banner = banner

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        if self.where.startswith("http+unix://"):
            connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(self.where.removeprefix("http+unix://"))
            return connection
        return http.client.HTTPConnection(self.where.removeprefix("http://"), timeout=PATIENCE)

    def get(self, path: str = "/") -> str:
        """Return the body of a 200."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals; return exit code and what was said since."""
        for number in signals:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    return {**clean, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1", **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pollux", "serve", *map(str, arguments)]


@contextlib.contextmanager
def serving(*arguments: object, cwd: Path, **env: str) -> Iterator[Served]:
    where = () if "--uds" in arguments or "POLLUX_UDS" in env else ("--port", "0")
    with subprocess.Popen(
        command(*arguments, *where), cwd=cwd, env=environment(**env), text=True, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            banner = process.stderr.readline()
            found = re.search(r" on (http\S+) \(poller: ", banner)
            assert found, banner + (process.stderr.read() if process.poll() is not None else "")
            yield Served(process, found[1], banner)
        finally:
            process.kill()


def refused(*arguments: object, cwd: Path, **env: str) -> str:
    """Return what a `pollux serve` says that cannot start: one line, exit code 2."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**env),
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    first, *candidates = done.stderr.splitlines()
    assert first.startswith("pollux: ")
    assert all(line.startswith("  ") for line in candidates), done.stderr
    return done.stderr


# The example


@pytest.mark.smoke
@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_on_each_backend(app: Path, backend: str) -> None:
    with serving(app, "--backend", backend, cwd=app.parent) as served:
        assert served.get() == f"hello on {backend}"
        assert f"(poller: {backend}, by argument)" in served.banner
        assert served.end(signal.SIGTERM) == (0, "")


@pytest.mark.parametrize("how", ["argument", "environment", "file"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_example_answers(tmp_path: Path, backend: str, how: str) -> None:
    env = {"POLLUX_BACKEND": backend} if how == "environment" else {}
    if how == "file":
        (tmp_path / "pollux.toml").write_text(f"backend = '{backend}'\n")
    arguments = ["--backend", backend] if how == "argument" else []
    with serving(EXAMPLE, *arguments, cwd=tmp_path, **env) as served:
        assert served.get() == "Hello, world"
        assert f"(poller: {backend}, by " in served.banner


# Targets


@pytest.mark.parametrize(
    "target",
    ["app.py", "./app.py", "app.py:app", "app.py:nested.site", "app", "app:app", "app:nested.site", "pack.mod:app"],
)
def test_targets(app: Path, target: str) -> None:
    (app.parent / "pack").mkdir()
    (app.parent / "pack" / "mod.py").write_text("from app import app\n")
    with serving(target, cwd=app.parent) as served:
        assert served.get().startswith("hello on ")


def test_a_function_is_an_application(app: Path) -> None:
    with serving("app:function", cwd=app.parent) as served:
        assert served.get() == "function"


def test_a_module_beside_the_file_can_be_imported(app: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (app.parent / "other.py").write_text("from app import app as application\n")
    with serving(app.parent / "other.py", cwd=tmp_path_factory.mktemp("elsewhere")) as served:
        assert served.get().startswith("hello on ")


FAULTS = {
    "missing.py": "there is no file 'missing.py'",
    "missing": "there is no module 'missing'",
    "app.missing:app": "there is no module 'app.missing'",
    "folder/": "there is no file 'folder/'",
    "needs.py": r"needs\.py:2: No module named 'nowhere_to_be_found'",
    "needs": r"needs\.py:2: No module named 'nowhere_to_be_found'",
    "syntax.py": r"syntax\.py:2: SyntaxError: ",
    "syntax": r"syntax\.py:2: SyntaxError: ",
    "indent.py": r"indent\.py:2: IndentationError: ",
    "raises.py": r"raises\.py:4: ValueError: first line second line",
    "raises": r"raises\.py:4: ValueError: first line second line",
    "app.py:wrong": r"app\.py has no attribute 'wrong'\n  applications there: app",
    "app:nested.wrong": r"app has no attribute 'nested\.wrong'",
    "app.py:number": r"app\.py:number is no application.* got int\n  applications there: app",
    "app:coroutine": "is no application",
    "app:Hello": "is no application",
    "empty.py": "empty.py has neither 'app' nor 'application'",
    ":app": "':app' is no target",
    "": "'' is no target",
    "..app": "app",
    "null.py": "null.py",
}


@pytest.mark.parametrize("target", FAULTS)
def test_a_wrong_target_is_told_in_one_line(app: Path, target: str) -> None:
    folder = app.parent
    (folder / "folder").mkdir()
    (folder / "needs.py").write_text("import os\nimport nowhere_to_be_found\n")
    (folder / "syntax.py").write_text("x = 1\nx = = 2\n")
    (folder / "indent.py").write_text("x = 1\n  y = 2\n")
    (folder / "raises.py").write_text("import os\n\ndef f():\n    raise ValueError('first line\\nsecond line')\nf()\n")
    (folder / "empty.py").write_text("")
    (folder / "null.py").write_bytes(b"x = '\x00'\n")
    assert re.search(FAULTS[target], refused(target, "--port", "0", cwd=folder))


@pytest.mark.smoke
def test_a_missing_target_is_told_in_one_line(tmp_path: Path) -> None:
    assert "there is no file 'missing.py'" in refused("missing.py", cwd=tmp_path)


# Where it listens


def test_a_busy_port(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        said = refused(app, "--port", port, cwd=app.parent)
    assert f"cannot listen on 127.0.0.1 port {port}: it is in use" in said
    assert "--port" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b", "x" * 80, "::g"])
def test_a_wrong_host(app: Path, host: str) -> None:
    assert "cannot listen on " in refused(app, "--host", host, "--port", "0", cwd=app.parent)


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "70000"), ("--port", "x"), ("--log-level", "loud"), ("--x", "y")]
)
def test_a_wrong_option(app: Path, option: str, value: str) -> None:
    assert value in refused(app, option, value, cwd=app.parent) or option == "--x"


def test_an_unknown_backend(app: Path) -> None:
    said = refused(app, "--backend", "quantum", cwd=app.parent)
    assert "there is no backend 'quantum'" in said
    assert all(name in said for name in BACKENDS)


def test_a_wrong_config_file(app: Path) -> None:
    (app.parent / "pollux.toml").write_text("port = 'x'\n")
    assert "pollux.toml:1" in refused(app, cwd=app.parent)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_ipv6(app: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 loopback here: {error}")
    with serving(app, "--host", "::1", cwd=app.parent) as served:
        assert served.where.startswith("http://[::1]:")
        assert served.get().startswith("hello")


def test_unix_socket(app: Path) -> None:
    path = app.parent / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serving(app, "--uds", path, cwd=app.parent) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert served.get().startswith("hello")
        assert "--uds" in refused(app, "--uds", path, cwd=app.parent)
        assert served.get().startswith("hello")
        assert served.end(signal.SIGTERM) == (0, "")
    assert not path.exists()


def test_unix_socket_that_is_removed_meanwhile(app: Path) -> None:
    path = app.parent / "s"
    with serving(app, "--uds", path, cwd=app.parent) as served:
        path.unlink()
        assert served.end(signal.SIGTERM) == (0, "")


def test_unix_socket_of_a_successor_stays(app: Path) -> None:
    path = app.parent / "s"
    with serving(app, "--uds", path, cwd=app.parent) as served, socket.socket(socket.AF_UNIX) as successor:
        path.unlink()
        successor.bind(str(path))
        assert served.end(signal.SIGTERM) == (0, "")
    assert path.exists()


def test_unix_socket_does_not_replace_a_file(app: Path) -> None:
    path = app.parent / "precious"
    path.write_text("data")
    assert "not a socket" in refused(app, "--uds", path, cwd=app.parent)
    assert path.read_text() == "data"
    assert "cannot listen on" in refused(app, "--uds", app.parent / "no" / "s", cwd=app.parent)


# What it logs


@pytest.mark.parametrize("where", ["option", "environment", "file"])
def test_access_log(app: Path, where: str) -> None:
    env = {"POLLUX_ACCESS_LOG": "1"} if where == "environment" else {}
    if where == "file":
        (app.parent / "pollux.toml").write_text("access_log = true\n")
    arguments: list[Any] = ["--access-log"] if where == "option" else []
    with serving(app, *arguments, cwd=app.parent, **env) as served:
        served.get("/?x=y")
        code, said = served.end(signal.SIGTERM)
    assert code == 0
    assert re.fullmatch(r"\S+ \S+ INFO 200 GET /\?x=y \(127\.0\.0\.1\) [\d.]+ms\n", said)


def test_no_access_log_by_default_and_none_if_denied(app: Path) -> None:
    for arguments, env in (((), {}), (("--no-access-log",), {"POLLUX_ACCESS_LOG": "1"})):
        with serving(app, *arguments, cwd=app.parent, **env) as served:
            served.get()
            assert served.end(signal.SIGTERM) == (0, "")


def test_log_level(app: Path) -> None:
    port = 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        command(app, "--log-level", "error", "--port", port),
        cwd=app.parent, env=environment(), text=True, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        served = Served(process, f"http://127.0.0.1:{port}", "")
        try:
            for _ in range(10_000):
                try:
                    assert served.get().startswith("hello")
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None
            assert served.end(signal.SIGTERM) == (0, "")
        finally:
            process.kill()


# How it ends


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_lets_running_requests_finish(app: Path, backend: str, number: int, code: int) -> None:
    with serving(app, "--backend", backend, cwd=app.parent) as served:
        with contextlib.closing(served.connect()) as running, contextlib.closing(served.connect()) as other:
            other.request("GET", "/")
            other.getresponse().read()
            running.request("GET", "/wait")
            response = running.getresponse()
            assert response.read(4) == b"part"
            # The request that lets it finish is on its way before the signal, and ends after it.
            other.putrequest("GET", "/go")
            other.putheader("X", "y")
            assert other.sock is not None
            other.sock.sendall(b"GET /go HTTP/1.1\r\nHost: a\r\n")
            served.get()
            served.process.send_signal(number)
            assert served.process.stderr is not None
            assert "Stopping: 2 running" in served.process.stderr.readline()
            other.sock.sendall(b"\r\n")
            assert response.read() == b" whole"
        assert served.end() == (code, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_second_signal_stops_at_once(app: Path, number: int, code: int) -> None:
    with serving(app, cwd=app.parent) as served:
        with contextlib.closing(served.connect()) as running:
            running.request("GET", "/wait")
            assert running.getresponse().read(4) == b"part"
            served.process.send_signal(number)
            assert served.process.stderr is not None
            assert "Stopping: 1 running" in served.process.stderr.readline()
            ended, said = served.end(number)
        assert ended == code
        assert re.fullmatch(r"\S+ \S+ WARNING 1 requests were cut off\n", said)
