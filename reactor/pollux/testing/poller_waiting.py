"""Timeouts, threads and signals: the part of `PollerSuite` on the wait."""

import os
import select
import signal
import socket
import threading
import time
from contextlib import ExitStack
from types import FrameType

import pytest

from pollux.poller import LONGEST_WAIT, READ, HasFileno, Poller
from pollux.testing.descriptors import PATIENCE, alarm, checked, drain, pipe, settle, socket_pair, wait_for


class PollerWaiting:
    """A part of `PollerSuite`: needs its fixture `poller`."""

    @pytest.mark.parametrize("timeout", [0.0003, 0.001, 0.0015, 0.0104, 0.05])
    @pytest.mark.parametrize("watching", [False, True], ids=["empty", "idle"])
    def test_timeout_is_rounded_up(self, poller: Poller, timeout: float, watching: bool) -> None:
        """With nothing registered, and with nothing ready. Early returns are allowed, but not every time."""
        with socket_pair() as (ours, _):
            if watching:
                poller.register(ours.fileno(), READ)
            waits = []
            for _attempt in range(5):
                started = time.monotonic()
                assert poller.poll(timeout) == []
                waits.append(time.monotonic() - started)
                if waits[-1] >= timeout:
                    return
        pytest.fail(f"poll({timeout}) always returned early, after {waits} s: a loop would spin; round up")

    def test_zero_with_nothing_registered(self, poller: Poller) -> None:
        """Both zeros."""
        assert poller.poll(0) == []
        assert poller.poll(0.0) == []

    @pytest.mark.parametrize("timeout", [None, 1, LONGEST_WAIT])
    def test_ready_ends_the_wait(self, poller: Poller, timeout: float | None) -> None:
        """None waits without limit and LONGEST_WAIT overflows nothing; both end as any other."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            peer.send(b"x")
            assert checked(poller.poll(timeout)) == {ours.fileno(): READ}

    def test_gil_is_released_while_waiting(self, poller: Poller) -> None:
        """Another thread answers while this one polls; if it could not run, each wait would last its full time."""
        with socket_pair() as (ours, peer):
            peer.setblocking(True)

            def echo() -> None:
                while data := peer.recv(1):
                    peer.send(data)

            thread = threading.Thread(target=echo)
            thread.start()
            try:
                poller.register(ours.fileno(), READ)
                for _ in range(50):
                    ours.send(b"x")
                    wait_for(poller, ours.fileno(), READ)
                    assert ours.recv(1) == b"x"
            finally:
                ours.shutdown(socket.SHUT_WR)
                thread.join()

    # Signals

    def test_signal_handler_runs_during_the_wait(self, poller: Poller) -> None:
        """The handler makes a descriptor ready, as a wake-up fd does, and the wait ends by that."""
        with pipe() as (reader, writer):
            poller.register(reader, READ)
            settle(poller, reader, READ)
            with alarm(0.02, lambda _number, _frame: os.write(writer, b"x")):
                wait_for(poller, reader, READ)
            assert os.read(reader, 10) == b"x"

    def test_signal_does_not_fail_the_wait(self, poller: Poller) -> None:
        """Retried or returned as an empty list, but no InterruptedError."""
        rang: list[int] = []
        with alarm(0.01, lambda number, _frame: rang.append(number)):
            deadline = time.monotonic() + PATIENCE
            while not rang and time.monotonic() < deadline:
                assert poller.poll(0.2) == []
        assert rang == [signal.SIGALRM]

    def test_exception_of_a_signal_handler_leaves_the_poller_usable(self, poller: Poller) -> None:
        """KeyboardInterrupt comes this way."""

        class FromHandlerError(Exception):
            pass

        def handler(_number: int, _frame: FrameType | None) -> None:
            raise FromHandlerError

        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            with pytest.raises(FromHandlerError), alarm(0.02, handler):
                wait_for(poller, ours.fileno(), READ)
            peer.send(b"x")
            wait_for(poller, ours.fileno(), READ)

    # A host that waits on the poller's own descriptor

    @pytest.mark.parametrize("host", ["poll", "epoll"])
    @pytest.mark.parametrize("ask", ["once", "before each wait"])
    def test_host_that_waits_is_woken(self, poller: Poller, host: str, ask: str) -> None:
        """What becomes ready during the wait ends it, the first time and the next, whoever made it ready."""
        if not isinstance(poller, HasFileno):
            pytest.skip("this poller has no descriptor of its own (`fileno` is optional)")
        if not hasattr(select, host):
            pytest.skip(f"this system has no select.{host}")
        with socket_pair() as (ours, peer), ExitStack() as stack:
            poller.register(ours.fileno(), READ)
            assert poller.poll(0) == []
            watch = select.poll() if host == "poll" else stack.enter_context(select.epoll())
            watch.register(poller.fileno(), select.POLLIN)
            limit = PATIENCE * (1000 if host == "poll" else 1)
            for _ in range(3):
                for by_thread in (False, True):
                    if ask == "before each wait":
                        assert poller.fileno() >= 0
                    if by_thread:
                        thread = threading.Timer(0.02, peer.send, (b"x",))
                        thread.start()
                        assert watch.poll(limit), "not woken by another thread"
                        thread.join()
                    else:
                        with alarm(0.02, lambda _number, _frame: peer.send(b"x")):
                            assert watch.poll(limit), "not woken"
                    assert wait_for(poller, ours.fileno(), READ) == READ
                    drain(ours)
                    settle(poller, ours.fileno(), READ)
