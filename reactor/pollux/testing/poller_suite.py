"""The contract of `pollux.poller`, line by line, as tests.

Only what the contract promises may fail a test: spurious readiness is tolerated (`settle`), an early empty list too
(`wait_for`), and of time only "at least so long" is asked.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pollux import registry
from pollux.backend import Backend
from pollux.poller import READ, WRITE, HasFileno, Poller
from pollux.testing.descriptors import PATIENCE, checked, drain, nothing_left_open, socket_pair, wait_for
from pollux.testing.poller_readiness import PollerReadiness
from pollux.testing.poller_registration import PollerRegistration
from pollux.testing.poller_waiting import PollerWaiting

CLOSED = (ValueError, OSError)


class PollerSuite(PollerReadiness, PollerWaiting, PollerRegistration):
    """Subclass, name it `Test...`, and set `backend` to a name in the registry. Needs no other line.

    To run it on a poller that is not registered, override the fixture `create` with one that returns a callable.
    """

    backend: str = ""

    @pytest.fixture
    def backend_name(self) -> str:
        """The backend under test."""
        return self.backend

    @pytest.fixture
    def create(self, backend_name: str) -> Callable[[], Poller]:
        """What makes a poller. Skips with the backend's own reason where it is not usable."""
        known: dict[str, Backend] = {backend.name: backend for backend in registry.backends()}
        if backend_name not in known:
            pytest.fail(f"{type(self).__name__}.backend is {backend_name!r}, expected one of {', '.join(known)}")
        if reason := registry.unusable(known[backend_name]):
            pytest.skip(f"{backend_name}: {reason}")
        return known[backend_name].create

    @pytest.fixture(autouse=True)
    def no_leak(self) -> Iterator[None]:
        """Every test leaves as many descriptors open as it found. First of the fixtures, so it looks last."""
        with nothing_left_open():
            yield

    @pytest.fixture
    def poller(self, no_leak: None, create: Callable[[], Poller]) -> Iterator[Poller]:
        """A new poller, closed after the test."""
        poller = create()
        try:
            yield poller
        finally:
            poller.close()

    # Between and after polls

    def test_register_and_unregister_while_handling_a_list(self, poller: Poller) -> None:
        """What a loop's handlers do; the list is the caller's and does not change under it."""
        with ExitStack() as stack:
            pairs = [stack.enter_context(socket_pair()) for _ in range(10)]
            for ours, peer in pairs[:5]:
                poller.register(ours.fileno(), READ)
                peer.send(b"x")
            events: list[tuple[int, int]] = []
            deadline = time.monotonic() + PATIENCE
            while len(events) < 5 and time.monotonic() < deadline:
                events = poller.poll(PATIENCE)
            copy = list(events)
            newcomers = iter(pairs[5:])
            for fd, _ in events:
                poller.unregister(fd)
                ours, peer = next(newcomers)
                poller.register(ours.fileno(), READ)
                peer.send(b"y")
            seen: set[int] = set()
            while len(seen) < 5 and time.monotonic() < deadline:
                seen |= checked(poller.poll(PATIENCE)).keys()
            assert seen == {ours.fileno() for ours, _ in pairs[5:]}
            assert events == copy
            assert {fd for fd, _ in copy} == {ours.fileno() for ours, _ in pairs[:5]}

    def test_fileno_is_readable_while_events_wait(self, poller: Poller, tmp_path: Path) -> None:
        """The optional descriptor, for a host that watches it. Also for descriptors that never block."""
        if not isinstance(poller, HasFileno):
            pytest.skip("this poller has no descriptor of its own (`fileno` is optional)")
        import select

        def readable() -> bool:
            watch = select.poll()
            watch.register(poller.fileno(), select.POLLIN)
            return bool(watch.poll(0))

        assert not readable()
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            assert not readable()
            peer.send(b"x")
            assert readable()
            wait_for(poller, ours.fileno(), READ)
            assert readable()
            drain(ours)
            assert not readable()
            poller.unregister(ours.fileno())
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        try:
            poller.register(fd, READ)
            assert readable()
            poller.modify(fd, 0)
            poller.poll(0)
            assert not readable()
            poller.unregister(fd)
        finally:
            os.close(fd)

    def test_two_pollers_do_not_meet(self, create: Callable[[], Poller], poller: Poller) -> None:
        """Per-loop state: the same descriptor in two pollers."""
        other = create()
        try:
            with socket_pair() as (ours, peer):
                poller.register(ours.fileno(), READ)
                other.register(ours.fileno(), WRITE)
                peer.send(b"x")
                assert wait_for(poller, ours.fileno(), READ) == READ
                assert wait_for(other, ours.fileno(), WRITE) == WRITE
                other.unregister(ours.fileno())
                wait_for(poller, ours.fileno(), READ)
        finally:
            other.close()

    def test_close(self, poller: Poller, tmp_path: Path) -> None:
        """May be called again, refuses everything else, and leaves the watched descriptors open."""
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        try:
            with socket_pair() as (ours, peer):
                poller.register(ours.fileno(), READ)
                poller.register(fd, READ)
                poller.close()
                poller.close()
                calls: list[Callable[[], object]] = [
                    lambda: poller.register(peer.fileno(), READ),
                    lambda: poller.modify(ours.fileno(), WRITE),
                    lambda: poller.unregister(ours.fileno()),
                    lambda: poller.unregister(fd),
                    lambda: poller.poll(0),
                ]
                if isinstance(poller, HasFileno):
                    calls.append(poller.fileno)
                for call in calls:
                    with pytest.raises(CLOSED):
                        call()
                peer.send(b"still open")
                assert ours.recv(100) == b"still open"
                os.fstat(fd)
        finally:
            os.close(fd)
