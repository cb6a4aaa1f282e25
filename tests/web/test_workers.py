"""`pollux serve` with several workers and with `--reload`: real processes, real signals.

What is waited for is always an event: a line on stderr, an answer, an exit.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pollux.supervisor import Supervisor

PATIENCE = 50.0  # seconds: only turns a hang into a failure

APP = """
    import asyncio, os, signal
    from pollux_web import Application, RequestHandler

    class Main(RequestHandler):
        def get(self):
            self.write(f"{os.getpid()} VERSION")

    class Crash(RequestHandler):
        def get(self):
            os.kill(os.getpid(), signal.SIGKILL)

    class Wait(RequestHandler):
        async def get(self):
            self.write("part")
            self.flush()
            await asyncio.Event().wait()

    app = Application([("/", Main), ("/crash", Crash), ("/wait", Wait)])
"""


class Served:
    """A running `pollux serve`, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.port = 0

    def until(self, pattern: str) -> re.Match[str]:
        """Read what it says up to a line that matches."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.said.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it ended without {pattern!r}:\n{''.join(self.said)}")

    def get(self, path: str = "/") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        self.said.append(said)
        return self.process.returncode


@contextlib.contextmanager
def served(folder: Path, *arguments: str, workers: int = 2) -> Iterator[Served]:
    command = [sys.executable, "-m", "pollux", "serve", "app.py", "--port", "0", *arguments]
    if "--reload" not in arguments:
        command += ["--workers", str(workers)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    with subprocess.Popen(
        command, cwd=folder, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"}, text=True, stderr=subprocess.PIPE
    ) as process:
        try:
            running = Served(process)
            for _ in range(1 if "--reload" in arguments else workers):
                running.port = int(running.until(r"Serving .* on https?://127\.0\.0\.1:(\d+)")[1])
            yield running
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "one")
    return tmp_path


def write(folder: Path, version: str) -> None:
    (folder / "app.py").write_text(textwrap.dedent(APP).replace("VERSION", version))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_share_the_port(folder: Path) -> None:
    with served(folder, workers=3) as running:
        pids: set[str] = set()
        while len(pids) < 3:  # the kernel deals connections out by a hash of their addresses
            pids.add(running.get().split()[0])
        assert str(running.process.pid) not in pids
        assert running.end(signal.SIGTERM) == 0
        assert all(gone(int(pid)) for pid in pids)


def test_a_worker_that_dies_is_replaced(folder: Path) -> None:
    with served(folder) as running:
        with contextlib.suppress(http.client.HTTPException, OSError):
            running.get("/crash")
        pid = running.until(r"worker (\d+) ended by SIGKILL: another one starts now")[1]
        running.until("Serving")
        pids: set[str] = set()
        while len(pids) < 2:
            pids.add(running.get().split()[0])
        assert pid not in pids
        with contextlib.suppress(http.client.HTTPException, OSError):
            running.get("/crash")
        running.until(r"ended by SIGKILL")
        running.until("Serving")
        assert running.end(signal.SIGINT) == 130


def test_sighup_replaces_the_workers_with_the_code_that_is_there_by_then(folder: Path) -> None:
    with served(folder) as running:
        old: set[str] = set()
        while len(old) < 2:
            old.add(running.get())
        write(folder, "two")
        running.process.send_signal(signal.SIGHUP)
        running.until("SIGHUP: replacing 2 workers")
        running.until("Serving")
        running.until("Serving")
        resets = 0
        for pid in {text.split()[0] for text in old}:
            while not gone(int(pid)):
                try:
                    assert running.get().split()[1] in ("one", "two"), "served throughout"
                except ConnectionResetError:  # where there is no hold_off
                    resets += 1
        assert resets <= len(old)
        new: set[str] = set()
        while len(new) < 2:
            new.add(running.get())
        assert all(text.endswith(" two") for text in new)
        assert running.end(signal.SIGTERM) == 0


def test_a_replacement_that_does_not_start_replaces_nobody(folder: Path) -> None:
    with served(folder) as running:
        (folder / "app.py").write_text("app = 1 / 0\n")
        running.process.send_signal(signal.SIGHUP)
        running.until(r"pollux: .*app\.py:1: ZeroDivisionError")
        running.until("a replacement, ended with exit code 2 before it was ready: the old ones stay")
        pids: set[str] = set()
        while len(pids) < 2:
            pids.add(running.get().split()[0])
        write(folder, "three")
        running.process.send_signal(signal.SIGHUP)
        running.until("Serving")
        running.until("Serving")
        assert running.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("text", ["app = 1 / 0", "import os; os._exit(7)", "nothing = 1"])
def test_workers_that_cannot_start_end_it_all(folder: Path, text: str) -> None:
    (folder / "app.py").write_text(text)
    command = [sys.executable, "-m", "pollux", "serve", "app.py", "--port", "0", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == (7 if "_exit" in text else 2)
    assert ("ZeroDivisionError" in done.stderr) is ("/" in text)
    assert "Traceback" not in done.stderr


def test_a_second_signal_cuts_off_what_runs(folder: Path) -> None:
    with served(folder, workers=1) as running, served(folder, workers=2) as several:
        for one in (running, several):
            connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.request("GET", "/wait")
                assert connection.getresponse().read(4) == b"part"
                one.process.send_signal(signal.SIGTERM)
                one.until("Stopping: 1 running")
                assert one.end(signal.SIGTERM) == 0
            assert "1 requests were cut off" in "".join(one.said)


def test_the_deadline_cuts_off_what_runs(folder: Path) -> None:
    with served(folder, "--timeout-graceful-shutdown", "0.1") as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/wait")
            assert connection.getresponse().read(4) == b"part"
            assert running.end(signal.SIGTERM) == 0
        assert "1 requests were cut off" in "".join(running.said)


def test_workers_end_when_their_supervisor_is_killed(folder: Path) -> None:
    with served(folder) as running:
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(int(running.get().split()[0]))
        running.process.kill()
        running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.read()  # to the end of file: the workers had it open, too
        while not all(gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z" for pid in pids):
            os.sched_yield()


def test_a_port_that_is_taken_is_told_before_any_worker_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "pollux", "serve", "app.py", "--port", port, "--workers", "2"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"pollux: cannot listen on 127.0.0.1 port {port}: it is in use" in done.stderr


def test_workers_share_a_unix_socket(folder: Path) -> None:
    path = folder / "socket"
    command = [sys.executable, "-m", "pollux", "serve", "app.py", "--uds", str(path), "--workers", "2"]
    with subprocess.Popen(command, cwd=folder, text=True, stderr=subprocess.PIPE) as process:
        try:
            running = Served(process)
            running.until("Serving")
            running.until("Serving")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
            assert running.end(signal.SIGTERM) == 0
            assert not path.exists()
        finally:
            process.kill()


def test_reload(folder: Path) -> None:
    with served(folder, "--reload") as running:
        assert running.get().endswith(" one")
        write(folder, "a second version")
        running.until(r"app\.py has changed: reloading")
        assert running.get(), "the port stays open, and a request waits for one or the other"
        running.until("Serving")
        assert running.get().endswith(" a second version")
        (folder / "app.py").write_text("app = = 1\n")
        running.until(r"pollux: .*app\.py:1: SyntaxError")
        running.until("ended with exit code 2 before it was ready: waiting for a change")
        write(folder, "repaired")
        running.until("Serving")
        assert running.get().endswith(" repaired")
        assert running.end(signal.SIGINT) == 130


def test_reload_and_workers_do_not_go_together(folder: Path) -> None:
    command = [sys.executable, "-m", "pollux", "serve", "app.py", "--workers", "2", "--reload"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (2, "pollux: --reload runs one worker: leave out --workers\n")


# The supervisor by itself, with work that needs no server


PROGRAM = """
import os, signal, sys, threading
from pollux.supervisor import FIRST_PAUSE, Supervisor
import logging
logging.basicConfig(format="%(message)s", level=20)

def work(link):
    {work}

sys.exit(Supervisor(work, {count}, 5.0).run())
"""


@contextlib.contextmanager
def supervise(work: str, count: int = 1) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(work=textwrap.indent(textwrap.dedent(work), "    ").strip(), count=count)
    with subprocess.Popen([sys.executable, "-c", program], text=True, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_pause_doubles_while_a_worker_dies_early() -> None:
    with supervise("link.ready(); return 3") as process:
        running = Served(process)
        pauses = [running.until(r"another one starts (now|in \S+ s)")[1] for _ in range(4)]
        assert pauses == ["now", "in 0.5 s", "in 1 s", "in 2 s"]
        assert running.end(signal.SIGTERM) == 0


def test_a_worker_that_ignores_the_signal_is_killed() -> None:
    work = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        link.ready()
        print("ignoring", file=sys.stderr, flush=True)
        threading.Event().wait()
    """
    with supervise(work) as process:
        running = Served(process)
        running.until("ignoring")
        assert running.end(signal.SIGTERM) == 0
        assert "does not end: killed" in "".join(running.said)


@pytest.mark.parametrize(("work", "code"), [("return 5", 5), ("sys.exit(6)", 6), ("1 / 0", 1), ("os.abort()", 1)])
def test_the_exit_code_of_a_worker_that_never_was_ready(work: str, code: int) -> None:
    with supervise(work, 2) as process:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == code
        assert ("ZeroDivisionError" in said) is (work == "1 / 0")


def test_a_supervisor_leaves_no_descriptor_and_no_handler_behind() -> None:
    """In a process of its own: it forks, and its signals are the process's."""
    program = """
import os, signal
from pollux.supervisor import Supervisor
before = set(os.listdir("/dev/fd")), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)
assert Supervisor(lambda link: 9, 2, 1.0).run() == 9
assert (set(os.listdir("/dev/fd")), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)) == before
print("as before")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.stdout, done.stderr) == ("as before\n", "")


def test_it_runs_in_the_main_thread_only() -> None:
    import threading

    told: list[BaseException] = []

    def run(target: Callable[[], object]) -> None:
        try:
            target()
        except ValueError as error:
            told.append(error)

    thread = threading.Thread(target=run, args=[Supervisor(lambda link: 0, 1, 1.0).run])
    thread.start()
    thread.join()
    assert len(told) == 1
