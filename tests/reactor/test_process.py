"""Workers and subprocesses. Tornado's module is the oracle."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import tornado.process

from pollux import IOLoop
from pollux.process import Subprocess, cpu_count, fork_processes, task_id
from pollux.testing.descriptors import nothing_left_open
from tests.reactor.loops import BACKENDS, run_script, usable
from tests.reactor.streams import backend_loop, run

BOTH = pytest.mark.parametrize("module", ["pollux.process", "tornado.process"])


loop = pytest.fixture(params=list(BACKENDS))(backend_loop)


def script(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_cpu_count() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)


def test_cpu_count_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((None, 1), (5, 5)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cpu_count() == expected


# Workers

WORKERS = """
    import importlib, os, signal, sys
    process = importlib.import_module(sys.argv[1])
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    assert process.task_id() is None
    try:
        number = process.fork_processes(3, max_restarts=4)
    except SystemExit as end:
        os.write(log, f"parent {end.code} {process.task_id()}\\n".encode())
        raise
    os.write(log, f"worker {number} {process.task_id()}\\n".encode())
    with open(sys.argv[2]) as file:
        time = file.read().count(f"worker {number}")
    if number == 0 and time <= 2:
        raise ValueError("on purpose")
    if number == 1 and time <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)
"""


@BOTH
def test_workers_that_end_badly_are_started_again(module: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = script(WORKERS, module, log)
    assert done.returncode == 0
    assert done.stderr.count("ValueError: on purpose") == 2
    lines = log.read_text().splitlines()
    assert lines.pop() == "parent 0 None"
    assert sorted(lines) == ["worker 0 0"] * 3 + ["worker 1 1"] * 3 + ["worker 2 2"]


INHERITED = """
    import warnings
    from pollux import IOLoop
    from pollux.process import fork_processes

    warnings.simplefilter("always")
    loop = IOLoop.current()
    number = fork_processes(2)
    del loop                            # of which nobody else knows once the worker has its own
    IOLoop.current().run_sync(lambda: None)
    IOLoop.current().close()
"""


def test_a_worker_need_not_close_its_parents_loop() -> None:
    """It goes with the first that the worker makes, and without a ResourceWarning."""
    done = script(INHERITED)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_log_says_how_a_worker_ended(tmp_path: Path) -> None:
    logged = (
        "    import logging; logging.basicConfig(level='INFO', format='%(name)s %(levelname)s %(message)s')" + WORKERS
    )
    errors = script(logged, "pollux.process", tmp_path / "log").stderr
    assert "pollux.general INFO starting 3 workers" in errors
    assert len(re.findall(r"WARNING worker 0 \(pid \d+\) exited with code 1: starting it again", errors)) == 2
    assert len(re.findall(r"WARNING worker 1 \(pid \d+\) was killed by signal 9: starting it again", errors)) == 2
    assert len(re.findall(r"INFO worker . \(pid \d+\) exited normally", errors)) == 3


GIVES_UP = """
    import importlib, os, signal, sys
    process = importlib.import_module(sys.argv[1])
    reader, writer = os.pipe()
    try:
        number = process.fork_processes(2, max_restarts=2)
    except RuntimeError as error:
        print(error)
        raise SystemExit(7)
    if number == 0:
        os.write(writer, b"s")
        signal.pause()  # until it is told to stop
    if number == 1:
        if not os.path.exists(sys.argv[2]):
            open(sys.argv[2], "w").close()
            os.read(reader, 1)  # the other is there
        os._exit(5)
"""


def test_too_many_restarts(tmp_path: Path) -> None:
    """The workers that are left end too: else this would wait for them for ever, as they hold our pipe."""
    done = script(GIVES_UP, "pollux.process", tmp_path / "once")
    assert done.returncode == 7
    assert done.stderr.count("starting it again") == 2
    assert re.fullmatch(r"worker 1 \(pid \d+\) exited with code 5, and .*too many restarts.*\n", done.stdout)


def test_number_of_workers() -> None:
    """None, 0 and below mean one for each processor."""
    text = """
        import os, sys
        from pollux import process
        process.cpu_count = lambda: 3
        process.fork_processes(eval(sys.argv[1]))
        os.write(1, b".")
        os._exit(0)
    """
    for number, expected in (("None", "..."), ("0", "..."), ("-1", "..."), ("2", "..")):
        assert script(text, number).stdout == expected


def test_forking_in_a_running_loop(loop: IOLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="a loop is running"):
            fork_processes(2)

    run(loop, main())
    assert task_id() is None


def test_in_another_thread_signals_are_left_alone() -> None:
    text = """
        import os, signal, threading
        from pollux.process import fork_processes
        def work():
            try:
                fork_processes(1)
            except SystemExit as end:
                print("parent", end.code, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
            else:
                os._exit(0)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    done = script(
        "import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(text)
    )  # 3.12 warns of the thread
    assert (done.stdout, done.stderr) == ("parent 0 True\n", "")


SERVER = """
    import logging, os, signal, sys
    from pollux import IOLoop
    from pollux.process import task_id
    from pollux.tcpserver import TCPServer
    from pollux_http import HTTPServer

    IOLoop.configure(sys.argv[1])

    class Number(TCPServer):
        def handle_stream(self, stream, address):
            stream.send(str(task_id()).encode())
            stream.close()

    def answer(request):
        request.connection.respond(body=str(task_id()).encode())

    server = Number() if sys.argv[3] == "tcp" else HTTPServer(answer)  # which asks for the loop, before the fork
    server.bind(0, "127.0.0.1", reuse_port=sys.argv[2] == "True")
    print(server.sockets[0].getsockname()[1], flush=True)
    server.start(2)
    assert len(server.sockets) == 1
    loop = IOLoop.current()
    loop.add_callback(os.write, 1, b"ready\\n")
    loop.start()
"""


@pytest.mark.parametrize("kind", ["tcp", "http"])
@pytest.mark.parametrize("reuse_port", [True, False])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_workers_share_a_port(backend: str, reuse_port: bool, kind: str) -> None:
    """No connection is lost to a socket that nobody accepts from, and all end with the process that forked them."""
    usable(backend)
    # Of the loop that HTTPServer asks for before the fork, a worker drops its copy unclosed.
    warnings = ["-W", "error", "-W", "ignore:unclosed:ResourceWarning"] if kind == "http" else ["-W", "error"]
    command = [sys.executable, *warnings, "-c", textwrap.dedent(SERVER), backend, str(reuse_port), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = ("127.0.0.1", int(server.stdout.readline()))
            assert [server.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
            answers = set()
            for _ in range(64):  # with SO_REUSEPORT the kernel chooses by a hash of the addresses: 2^-63 that it errs
                with socket.create_connection(address, 20) as client:
                    if kind == "http":
                        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    data = b"".join(iter(lambda: client.recv(1000), b""))
                    answers.add(data.rpartition(b"\r\n")[2])
            assert answers == {b"0", b"1"} if reuse_port else answers <= {b"0", b"1"}
            assert answers
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.communicate(timeout=20) == ("", "")  # it ends when the last of them has closed the pipe
    assert server.returncode == 128 + signal.SIGTERM
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_start_in_a_running_loop(loop: IOLoop) -> None:
    from pollux.tcpserver import TCPServer

    async def main() -> None:
        server = TCPServer()
        server.bind(0, "127.0.0.1")
        with pytest.raises(RuntimeError, match="a loop is running"):
            server.start(2)
        server.stop()

    run(loop, main())


# Subprocesses

PYTHON = sys.executable
ECHO = [PYTHON, "-c", "import sys; print('err', file=sys.stderr); print(sys.stdin.read().upper(), end='')"]
CODES = {"0": 0, "3": 3, "SIGKILL": -9}
ENDS = [PYTHON, "-c", "import os, signal, sys; w = sys.argv[1]; sys.stdin.read()\n"
        "if w.isdigit(): sys.exit(int(w))\n"
        "os.kill(os.getpid(), getattr(signal, w))"]  # fmt: skip


def ends(how: str, **kwargs: Any) -> Subprocess:
    """A process that ends as `how` says when its input is closed: `proc.stdin`."""
    return Subprocess([*ENDS, how], stdin=subprocess.PIPE, **kwargs)


def test_pipes_are_streams(loop: IOLoop) -> None:
    async def main() -> None:
        made = Subprocess(ECHO, stdin=Subprocess.STREAM, stdout=Subprocess.STREAM, stderr=Subprocess.STREAM)
        await made.stdin.write(b"hello")
        made.stdin.close()
        assert await made.stdout.read_until_close() == b"HELLO"
        assert await made.stderr.read_until_close() == b"err\n"
        assert await made.wait_for_exit() == 0
        assert made.returncode == made.proc.returncode == 0
        assert made.pid == made.proc.pid
        for stream in (made.stdout, made.stderr):
            stream.close()

    run(loop, main())


def test_stderr_into_stdout_and_pipes_that_are_no_streams(loop: IOLoop) -> None:
    async def main() -> None:
        made = Subprocess(ECHO, stdin=subprocess.PIPE, stdout=Subprocess.STREAM, stderr=subprocess.STDOUT)
        assert made.stdin is not None
        assert (made.stdin, made.stderr) == (made.proc.stdin, None)
        made.stdin.close()
        assert await made.stdout.read_until_close() == b"err\n"
        await made.wait_for_exit()
        made.stdout.close()

    run(loop, main())


@pytest.mark.parametrize("how", CODES)
def test_exit(loop: IOLoop, how: str) -> None:
    """By callback and by future, also of who asks when it is over."""

    async def main() -> None:
        made = ends(how)
        told: asyncio.Future[int] = loop.create_future()
        made.set_exit_callback(told.set_result)
        waiting = made.wait_for_exit(raise_error=False)
        before = made.returncode
        made.stdin.close()
        assert (before, await told, await waiting, made.returncode) == (None, *[CODES[how]] * 3)
        again: asyncio.Future[int] = loop.create_future()
        made.set_exit_callback(again.set_result)
        assert await again == CODES[how]
        if how == "0":
            assert await made.wait_for_exit() == 0
        else:
            with pytest.raises(subprocess.CalledProcessError) as raised:
                await made.wait_for_exit()
            assert raised.value.returncode == CODES[how]
            assert raised.value.cmd == [*ENDS, how]

    run(loop, main())


@pytest.mark.parametrize("how", CODES)
def test_exit_as_tornado(loop: IOLoop, how: str) -> None:
    async def outcome(kind: Any) -> list[Any]:
        codes = []
        made = kind([*ENDS, how], stdin=subprocess.PIPE)
        made.stdin.close()
        codes.append(await made.wait_for_exit(raise_error=False))
        made = kind([*ENDS, how], stdin=subprocess.PIPE)
        told = asyncio.get_running_loop().create_future()
        made.set_exit_callback(told.set_result)
        made.stdin.close()
        codes.append(await told)
        made = kind([*ENDS, how], stdin=subprocess.PIPE)
        made.stdin.close()
        try:
            codes.append(await made.wait_for_exit())
        except subprocess.CalledProcessError as error:
            codes.append(("raised", error.returncode))
        return codes

    async def theirs() -> list[Any]:
        try:
            return await outcome(tornado.process.Subprocess)
        finally:
            tornado.process.Subprocess.uninitialize()

    assert loop.run_sync(lambda: outcome(Subprocess), timeout=20) == asyncio.run(theirs())


def test_killed(loop: IOLoop) -> None:
    async def main() -> None:
        made = ends("0")
        waiting = made.wait_for_exit(raise_error=False)
        made.proc.terminate()
        assert await waiting == -signal.SIGTERM
        made.stdin.close()

    run(loop, main())


def test_a_raising_exit_callback(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = ends("0")
        made.set_exit_callback(lambda code: 1 // code)
        waiting = made.wait_for_exit()
        made.stdin.close()
        assert await waiting == 0

    run(loop, main())
    assert caplog.text.count("ZeroDivisionError") == 1


def test_who_stops_waiting(loop: IOLoop) -> None:
    async def main() -> None:
        made = ends("0")
        given_up, waiting = made.wait_for_exit(), made.wait_for_exit()
        given_up.cancel()
        made.stdin.close()
        assert await waiting == 0

    run(loop, main())


def _raise(error: Exception) -> Any:
    def pidfd_open(pid: int, flags: int = 0) -> int:
        raise error

    return pidfd_open


@pytest.mark.parametrize("reason", ["absent", "EMFILE", "too high"])
def test_without_a_process_descriptor_a_thread_waits(
    loop: IOLoop, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "absent":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif reason == "EMFILE":
        monkeypatch.setattr(os, "pidfd_open", _raise(OSError(24, "Too many open files")))
    else:
        add_handler = loop.add_handler

        def refuse(fd: Any, handler: Any, events: int) -> None:
            if os.readlink(f"/proc/self/fd/{loop.split_fd(fd)[0]}") == "anon_inode:[pidfd]":
                raise ValueError("too high")
            add_handler(fd, handler, events)

        monkeypatch.setattr(loop, "add_handler", refuse)
    threads = set(threading.enumerate())  # some of which may be about to end: what counts is what comes

    async def main() -> None:
        made = ends("3")
        waiting = made.wait_for_exit(raise_error=False)
        if reason != "too high" or sys.platform == "linux":
            assert len(set(threading.enumerate()) - threads) == 1
        made.stdin.close()
        assert await waiting == 3

    run(loop, main())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # which is what it is
@pytest.mark.parametrize("all_fds", [True, False])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_loop_that_ends_before_the_process(backend: str, all_fds: bool) -> None:
    """Its process descriptor goes with it, at the latest with the object."""
    gc.collect()
    with nothing_left_open():
        loop = IOLoop(usable(backend), make_current=False)
        child = Subprocess([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, io_loop=loop)
        child.wait_for_exit()
        process = child.proc
        loop.close(all_fds=all_fds)
        del child, loop
        gc.collect()
        process.communicate(b"\n")


def test_a_program_that_cannot_be_started(loop: IOLoop) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            Subprocess(["/no/such/program"], stdin=Subprocess.STREAM, stdout=Subprocess.STREAM)

    run(loop, main())


def test_initialize_has_nothing_to_do() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    Subprocess.initialize()
    assert signal.getsignal(signal.SIGCHLD) is before
    Subprocess.uninitialize()


def test_the_example_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tcp.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Subprocess(" in block]
    done = script(example)
    assert (done.stdout, done.stderr) == ("b'pollux\\n' 0\n", "")


IN_A_THREAD = """
    import subprocess, sys, threading
    from pollux import IOLoop
    from pollux.process import Subprocess

    def work():
        loop = IOLoop(sys.argv[1], make_current=True)
        async def main():
            code = await Subprocess([sys.executable, "-c", "exit(4)"]).wait_for_exit(raise_error=False)
            sys.stdout.write(f"{code}\\n")  # one write, as the other thread writes, too
        loop.run_sync(main)
        loop.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_loops_in_threads(backend: str) -> None:
    assert run_script(backend, IN_A_THREAD).split() == ["4", "4"]
