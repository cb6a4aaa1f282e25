"""Readers and writers, signals, pipes and subprocesses in asyncio's dialect: a part of `LoopSuite`, true of asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from pollux.testing.descriptors import pipe, reset, socket_pair, tcp_pair
from pollux.testing.loop_fixtures import LoopFixtures, errors_of, finish, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")


class LoopSystem(LoopFixtures):
    """asyncio's dialect."""

    @pytest.fixture
    def in_main_thread(self) -> None:
        """Signal handlers can be set there only."""
        if threading.current_thread() is not threading.main_thread():
            pytest.skip("signals reach Python code in the main thread only, and this is another one")

    # Readers and writers

    @pytest.mark.parametrize("by_number", [True, False], ids=["number", "object"])
    def test_add_reader_and_add_writer(self, loop: Any, by_number: bool) -> None:
        """A number or an object with `fileno()`, both at once on one descriptor, with arguments."""
        got: list[Any] = []
        with socket_pair() as (ours, peer):
            fd = ours.fileno() if by_number else ours

            def readable(label: str) -> None:
                got.append((label, ours.recv(10)))
                loop.stop()

            def writable() -> None:
                got.append("writable")
                assert loop.remove_writer(fd)
                peer.send(b"x")

            loop.add_reader(fd, readable, "label")
            loop.add_writer(fd, writable)
            start(loop)
            assert got == ["writable", ("label", b"x")]
            assert not loop.remove_writer(fd)
            assert loop.remove_reader(fd)
            assert not loop.remove_reader(fd)
            peer.send(b"not read")
            turn(loop)
            assert len(got) == 2

    def test_a_second_reader_replaces_the_first(self, loop: Any) -> None:
        """The writer stays; numbers and objects are the same descriptor."""
        got: list[str] = []
        with socket_pair() as (ours, peer):
            loop.add_writer(ours, got.append, "writer")
            loop.add_reader(ours.fileno(), pytest.fail, "was replaced")

            def reader() -> None:
                ours.recv(1)
                got.append("reader")
                loop.stop()

            loop.add_reader(ours, reader)
            peer.send(b"x")
            start(loop)
            assert "reader" in got
            loop.remove_writer(ours.fileno())
            loop.remove_reader(ours)

    def test_removed_by_another_that_is_ready_too(self, loop: Any) -> None:
        """It is not called any more: a reader removes the other descriptor's, and the same one's writer."""
        called: list[str] = []
        with socket_pair() as (a, a_peer), socket_pair() as (b, b_peer):

            def ready(label: str) -> None:
                called.append(label)
                for sock in (a, b):
                    loop.remove_reader(sock)
                    loop.remove_writer(sock)

            for label, sock, peer in (("a", a, a_peer), ("b", b, b_peer)):
                loop.add_reader(sock, ready, label)
                loop.add_writer(sock, ready, label)
                peer.send(b"x")
            for _ in range(3):
                turn(loop)
        assert len(called) == 1

    def test_errors_of_readers(self, loop: Any) -> None:
        """A raising one reaches the exception handler, and the loop lives. So do those for a closed descriptor."""
        error = ValueError("mine")

        def readable() -> None:
            if ours.recv(1) == b"!":
                raise error
            loop.stop()

        with socket_pair() as (ours, peer):
            with errors_of(loop) as seen:
                loop.add_reader(ours, readable)
                peer.send(b"!.")
                start(loop)
            loop.remove_reader(ours)
            assert [context["exception"] for context in seen] == [error]
        for bad in (ours, -1, "no file"):
            with pytest.raises((ValueError, OSError)):
                loop.add_reader(bad, print)

    def test_reset_wakes_reader_and_writer(self, loop: Any) -> None:
        """Either alone learns of it, and when both are removed the loop can sleep."""
        for method in ("reader", "writer"):
            with tcp_pair() as (ours, peer):
                called: list[int] = []
                number = ours.fileno()

                def ready(number: int, called: list[int], method: str) -> None:
                    called.append(1)
                    getattr(loop, f"remove_{method}")(number)

                reset(peer)
                getattr(loop, f"add_{method}")(number, ready, number, called, method)
                loop.call_later(0.01, loop.stop)
                start(loop)
                assert called == [1]

    def test_contextvars_travel_with_the_reader(self, loop: Any) -> None:
        """A copy of the context of `add_reader`."""
        got: list[str] = []

        def add() -> None:
            name.set("somebody")
            loop.add_writer(ours, writable)

        def writable() -> None:
            got.append(name.get())
            loop.stop()

        with socket_pair() as (ours, _):
            loop.call_soon(add)
            start(loop)
            loop.remove_writer(ours)
        assert got[0] == "somebody"

    def test_descriptors_of_transports_are_protected(self, loop: Any) -> None:
        """They are the transport's."""

        async def main() -> None:
            with socket_pair() as (ours, _):
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                for method in (loop.add_reader, loop.add_writer):
                    with pytest.raises(RuntimeError, match="transport"):
                        method(ours.fileno(), print)
                transport.close()
                await asyncio.sleep(0)

        finish(loop, main())

    # Signals

    @pytest.mark.usefixtures("in_main_thread")
    def test_signal_handler(self, loop: Any) -> None:
        """Runs in the loop, with arguments, as often as it rings; and the old handler is back afterwards."""
        got: list[str] = []

        def ring(label: str) -> None:
            got.append(label)
            if len(got) == 3:
                loop.stop()
            else:
                os.kill(os.getpid(), signal.SIGUSR1)

        loop.add_signal_handler(signal.SIGUSR1, ring, "rang")
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        start(loop)
        assert got == ["rang"] * 3
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    @pytest.mark.usefixtures("in_main_thread")
    def test_signal_wakes_a_sleeping_loop(self, loop: Any) -> None:
        """No timer is set that could."""
        loop.add_signal_handler(signal.SIGALRM, loop.stop)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            loop.run_forever()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            loop.remove_signal_handler(signal.SIGALRM)

    @pytest.mark.usefixtures("in_main_thread")
    def test_interrupt_ends_a_run(self, make_loop: Callable[[], Any]) -> None:
        """Ctrl-C: the main task is cancelled, can clean up, and `KeyboardInterrupt` comes out."""
        cleaned: list[str] = []

        async def main() -> None:
            asyncio.get_running_loop().call_later(0.005, os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append("up")

        with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main())
        assert cleaned == ["up"]

    # Pipes and processes

    def test_pipes(self, loop: Any) -> None:
        """As transports, both ends."""

        async def main() -> bytes:
            with pipe() as (reading, writing):
                reader = asyncio.StreamReader()
                end = os.fdopen(os.dup(reading), "rb", 0)
                await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), end)
                other = os.fdopen(os.dup(writing), "wb", 0)
                transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, other)
                os.close(writing)
                transport.write(b"through the pipe" * 10_000)
                transport.close()
                return await reader.read()

        assert finish(loop, main()) == b"through the pipe" * 10_000

    @pytest.mark.usefixtures("in_main_thread")
    def test_subprocess(self, loop: Any) -> None:
        """Input, output, exit code; several at once; one killed."""
        program = "import sys; data = sys.stdin.read(); print(data.upper()); sys.exit(len(data))"

        async def talk(text: str) -> tuple[bytes, int | None]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", program,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate(text.encode())
            return out.strip(), process.returncode

        async def kill() -> int:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()", stdin=asyncio.subprocess.PIPE
            )
            process.kill()
            return await process.wait()

        async def main() -> None:
            assert list(await asyncio.gather(talk("one"), talk("three"))) == [(b"ONE", 3), (b"THREE", 5)]
            assert await kill() == -signal.SIGKILL

        finish(loop, main())
