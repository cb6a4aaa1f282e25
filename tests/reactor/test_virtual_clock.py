"""The loop on virtual time: what jumps, what waits, and what is refused. Each on every backend; nothing here waits."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pollux import READ, PeriodicCallback
from pollux.errors import PolluxError
from pollux.testing import VirtualClock, VirtualClockError, VirtualLoop, peers
from pollux.testing.descriptors import nothing_left_open, pipe, socket_pair
from pollux.testing.loop_network import echo
from tests.reactor.loops import BACKENDS, usable

DAY = 86_400.0


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[VirtualLoop]:
    with nothing_left_open():
        loop = VirtualLoop(usable(request.param))
        yield loop
        loop.close()
        gc.collect()


def run(loop: VirtualLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` as a program would, with all that a runner does at the end."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


def refused(loop: VirtualLoop, main: Callable[[], Coroutine[Any, Any, Any]], message: str) -> str:
    """Run `main`, which must be refused; return the error's text."""
    with pytest.raises(VirtualClockError, match=message) as caught:
        run(loop, main())
    return str(caught.value)


# What jumps


def test_a_year_of_sleep(loop: VirtualLoop) -> None:
    async def main() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(365 * DAY)
        return asyncio.get_running_loop().time() - before

    assert run(loop, main()) == pytest.approx(365 * DAY)
    assert loop.clock.now == pytest.approx(1_000 + 365 * DAY)


def test_everything_that_waits_keeps_its_order(loop: VirtualLoop) -> None:
    """Callbacks, timeouts of both dialects, sleeps, deadlines and a beat, on one clock."""
    start, order = loop.time(), []

    def note(what: str) -> None:
        order.append((loop.time() - start, what))

    async def too_slow() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(40):
                await asyncio.sleep(DAY)
        note("timeout")

    async def waited_for() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 55)
        note("wait_for")

    async def main() -> None:
        beat = PeriodicCallback(lambda: note("beat"), timedelta(seconds=25))
        beat.start()
        loop.call_later(10, note, "call_later")
        loop.call_at(start + 20, note, "call_at")
        loop.add_timeout(timedelta(seconds=30), note, "add_timeout")
        loop.call_soon(note, "call_soon")
        await asyncio.gather(too_slow(), waited_for(), asyncio.sleep(60))
        beat.stop()

    run(loop, main())
    assert order == [
        (0, "call_soon"), (10, "call_later"), (20, "call_at"), (25, "beat"), (30, "add_timeout"), (40, "timeout"),
        (50, "beat"), (55, "wait_for"),
    ]  # fmt: skip


def test_nothing_jumps_while_something_can_run(loop: VirtualLoop) -> None:
    async def main() -> float:
        loop.call_later(1, pytest.fail, "callbacks were ready")
        for _ in range(1_000):
            await asyncio.sleep(0)
        return loop.time()

    assert run(loop, main()) == 1_000


def test_ready_descriptor_comes_before_the_timeout(loop: VirtualLoop) -> None:
    ran: list[str] = []
    with socket_pair() as (ours, peer):
        peer.send(b"x")

        def readable(fd: object, events: int) -> None:
            ran.append("readable")
            loop.remove_handler(ours)

        loop.add_handler(ours, readable, READ)
        loop.call_later(1, ran.append, "timeout")
        loop.call_later(2, loop.stop)
        loop.start()
    assert ran == ["readable", "timeout"]


def test_several_loops_share_a_clock() -> None:
    clock = VirtualClock(now=5.0)
    for _ in range(2):
        loop = VirtualLoop("select", clock=clock)
        run(loop, asyncio.sleep(10))
    assert clock.now == 25
    assert repr(clock) == "<VirtualClock 25.0>"


def test_backend_by_name_or_by_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for loop in (VirtualLoop("poll"), VirtualLoop()):
        run(loop, asyncio.sleep(1))
    monkeypatch.setenv("POLLUX_BACKEND", "select")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert repr(runner.get_loop()) == "<VirtualLoop select stopped>"


def test_descriptor_gets_into_a_chain_of_callbacks(loop: VirtualLoop) -> None:
    """The chain never lets time pass, and ends with what it waits for."""

    async def main() -> None:
        came: list[int] = []
        with socket_pair() as (ours, peer):
            loop.add_reader(ours, came.append, 1)
            turns = 0
            while not came:
                turns += 1
                if turns == 100:
                    peer.send(b"x")
                if turns == 1_000_000:
                    pytest.fail("the poller was not asked")
                await asyncio.sleep(0)
            loop.remove_reader(ours)

    run(loop, main())


# Both ends in this process


def test_server_and_client_here_with_deadlines(loop: VirtualLoop) -> None:
    """An answer comes before any deadline; silence is a timeout after exactly that time. No real time passes."""

    async def main() -> float:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(20):
            async with asyncio.timeout(0.001):
                writer.write(b"line\n")
                assert await reader.readline() == b"line\n"
            await asyncio.sleep(3600)
        before = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 75)
        silent = loop.time() - before
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(1)  # virtual: until all that closes has closed
        return silent

    assert run(loop, main()) == pytest.approx(75)


def test_datagrams_here(loop: VirtualLoop) -> None:
    async def main() -> bytes:
        came: asyncio.Future[bytes] = loop.create_future()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                came.set_result(data)

        receiver, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        sender, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
        )
        await asyncio.sleep(60)
        sender.sendto(b"late")
        async with asyncio.timeout(1):
            data = await came
        sender.close()
        receiver.close()
        await asyncio.sleep(1)  # virtual: until they have closed
        return data

    assert run(loop, main()) == b"late"


@pytest.mark.parametrize("make", [socket_pair, pipe], ids=["unix sockets", "a pipe"])
def test_pair_here(loop: VirtualLoop, make: Callable[[], Any]) -> None:
    """Its silence is known to last: the other end is here, and whoever has it waits for the same clock."""
    with make() as (reader, _writer):
        loop.add_handler(reader, lambda fd, events: pytest.fail("nobody wrote"), READ)
        loop.call_later(DAY, loop.stop)
        loop.start()
        loop.remove_handler(reader)


# The world outside


CHILD = "import sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def outside() -> Iterator[int]:
    """A descriptor whose other end another process has, and that stays silent."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        try:
            yield child.stdout.fileno()
        finally:
            child.stdin.close()


def test_real_io_is_refused_by_name(outside: int, loop: VirtualLoop) -> None:
    """With a timeout to jump to and without one."""
    again = VirtualLoop(loop.backend.name)
    for each, deadline in ((loop, 5), (again, None)):

        async def bounded(each: VirtualLoop = each, deadline: float | None = deadline) -> None:
            each.add_reader(outside, pytest.fail, "it is silent")
            try:
                async with asyncio.timeout(deadline):
                    await asyncio.Event().wait()
            finally:
                each.remove_reader(outside)

        message = refused(each, bounded, rf"real I/O: fd {outside} \(READ: pipe:\[\d+\]\)")
        assert "clock.hold()" in message
        assert each.clock.now == 1_000


def test_socket_of_another_process_is_named_with_its_peer(loop: VirtualLoop, tmp_path: Path) -> None:
    script = (
        "import socket, sys\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    print(server.getsockname()[1], flush=True)\n"
        "    connection, _ = server.accept()\n"
        "    connection.recv(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as sock:

            async def main() -> None:
                reader, writer = await asyncio.open_connection(sock=sock)
                try:
                    await asyncio.wait_for(reader.read(), 30)
                finally:
                    writer.close()

            refused(loop, main, rf"fd \d+ \(READ: socket at .*, peer \('127.0.0.1', {port}\)\)")


def test_only_peers_outside_count() -> None:
    with ExitStack() as stack:
        ours, peer = stack.enter_context(socket_pair())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        accepted = stack.enter_context(listener.accept()[0])
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        everything = [ours, peer, listener, client, accepted]
        watched = {sock.fileno(): READ for sock in everything} | {null: READ}
        assert peers.outside(watched) == [null]
        assert peers.outside({null: 0}) == [], "without interest it waits for nothing"
        accepted.close()
        listener.close()
        assert peers.outside({client.fileno(): READ}) == [client.fileno()], "its peer is gone from here"


def test_hold_waits_for_the_world(loop: VirtualLoop) -> None:
    """A child process, its pipes and its end, while time stands still."""

    async def main() -> tuple[bytes, int | None]:
        loop.call_later(1, loop.clock.__dict__.__setitem__, "late", True)
        with loop.clock.hold():
            assert loop.clock.held
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            line = await child.stdout.readline()
            await child.communicate(b"the end")
            assert loop.clock.now == 1_000
        await asyncio.sleep(2)
        return line, child.returncode

    assert run(loop, main()) == (b"ready\n", 0)
    assert loop.clock.now == 1_002


@pytest.mark.parametrize("start", [asyncio.create_subprocess_exec, asyncio.create_subprocess_shell])
def test_child_process_is_refused(loop: VirtualLoop, start: Callable[..., Any]) -> None:
    refused(loop, lambda: start("true"), "a child process runs in real time")


def test_hold_that_needs_a_timeout_ends(outside: int) -> None:
    """It would hang. The error says what is held and which tasks wait."""
    loop = VirtualLoop("select", patience=0.01)

    async def stuck() -> None:
        with loop.clock.hold():
            await asyncio.sleep(1)

    message = refused(loop, stuck, re.escape("0.01 real seconds while virtual time stands still for hold()"))
    assert "stuck" in message


def test_hold_may_be_nested() -> None:
    clock = VirtualClock()
    with clock.hold():
        with clock.hold():
            pass
        assert clock.held
        assert "held" in repr(clock)
    assert not clock.held


# Threads


def test_executors_take_no_virtual_time(loop: VirtualLoop) -> None:
    """However long they take, and with a timeout to jump to: here until the loop has been asked to wait for them."""
    go = threading.Event()

    async def main() -> float:
        loop.call_later(1, pytest.fail, "no time has passed")
        loop.add_callback(loop.add_callback, loop.add_callback, go.set)
        async with asyncio.timeout(0.5):
            assert await asyncio.to_thread(go.wait, 10)
            assert await loop.getaddrinfo("localhost", 80)
        return loop.time()

    assert run(loop, main()) == 1_000


def test_abandoned_job_lets_time_pass(loop: VirtualLoop) -> None:
    """Nobody waits for it any more. The runner's end does, and time stands still for that."""
    go = threading.Event()

    async def main() -> float:
        job = loop.run_in_executor(None, go.wait, 10)
        await asyncio.sleep(0)
        job.cancel()
        await asyncio.sleep(30)
        go.set()
        return loop.time()

    assert run(loop, main()) == 1_030
    assert loop.clock.now == 1_030


def test_job_that_needs_the_loops_time_ends() -> None:
    """A thread that waits for a timeout of the loop waits for ever, as time waits for the thread."""
    loop = VirtualLoop("select", patience=0.01)

    async def main() -> None:
        done = threading.Event()
        timer = loop.call_later(5, done.set)
        try:
            await asyncio.to_thread(done.wait)
        finally:
            timer.cancel()
            done.set()
            loop.patience = 10.0  # for the thread's end

    refused(loop, main, r"stands still for an executor \(1 jobs\)")


def test_nothing_left_to_run_is_refused(loop: VirtualLoop) -> None:
    """A loop in real time would hang."""

    async def forgotten() -> None:
        await loop.create_future()

    message = refused(loop, forgotten, "would wait for ever")
    assert "forgotten" in message


def test_thread_that_the_loop_does_not_know(loop: VirtualLoop) -> None:
    async def main() -> str:
        came: asyncio.Future[str] = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(came.set_result, "here"))
        with loop.clock.hold():
            thread.start()
            result = await came
        thread.join()
        return result

    assert run(loop, main()) == "here"


def test_error_is_polluxs_and_a_runtime_error() -> None:
    assert issubclass(VirtualClockError, PolluxError)
    assert issubclass(VirtualClockError, RuntimeError)


@pytest.mark.parametrize("marker", ["asyncio.timeout(30)", "clock.hold()"])
def test_documented_example_runs(marker: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if marker in block]
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
