"""Every registered poller against the shipped suite, and against poll(2) as the oracle on random histories."""

import select
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux import registry
from pollux.backend import Backend
from pollux.poller import ERROR, READ, WRITE, Poller
from pollux.testing import PollerSuite
from pollux.testing.descriptors import checked, drain, fill, socket_pair

BACKENDS = {backend.name: backend for backend in registry.backends()}


class TestEveryBackend(PollerSuite):
    @pytest.fixture(params=list(BACKENDS))
    def backend_name(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name


# (what happens, to which of the descriptors, with which interest)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["watch", "watch", "forget", "send", "drain", "fill", "read peer", "half-close", "close"]),
        st.integers(0, 3),
        st.sampled_from([READ, WRITE, READ | WRITE, 0]),
    ),
    max_size=40,
)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=list(BACKENDS))
@given(steps=STEPS)
@settings(max_examples=60, deadline=None, database=None)
def test_agrees_with_poll(backend: Backend, steps: list[tuple[str, int, int]]) -> None:
    if reason := registry.unusable(backend):
        pytest.skip(f"{backend.name}: {reason}")
    run_history(backend.create, steps)


def run_history(create: Callable[[], Poller], steps: list[tuple[str, int, int]]) -> None:
    """Apply `steps` to a poller and to poll(2) side by side, and compare what they say after each."""
    poller, oracle = create(), select.poll()
    interest: dict[int, int] = {}
    with ExitStack() as stack:
        stack.callback(poller.close)
        pairs: list[tuple[socket.socket, socket.socket]] = [stack.enter_context(socket_pair()) for _ in range(4)]
        for action, index, events in steps:
            ours, peer = pairs[index]
            fd = ours.fileno()
            if action == "watch":
                (poller.modify if fd in interest else poller.register)(fd, events)
                oracle.register(fd, events)
                interest[fd] = events
            elif action == "forget":
                if interest.pop(fd, None) is None:
                    with pytest.raises((KeyError, FileNotFoundError)):
                        poller.unregister(fd)
                else:
                    poller.unregister(fd)
                    oracle.unregister(fd)
            else:
                try:
                    act(action, ours, peer)
                except OSError:  # the peer is gone: as good a history as any
                    pass
            compare(checked(poller.poll(0)), dict(oracle.poll(0)), interest)


def act(action: str, ours: socket.socket, peer: socket.socket) -> None:
    match action:
        case "send":
            peer.send(b"x")
        case "drain":
            drain(ours)
        case "fill":
            fill(ours)
        case "read peer":
            drain(peer)
        case "half-close":
            peer.shutdown(socket.SHUT_WR)
        case "close":
            peer.close()


def compare(ready: dict[int, int], truth: dict[int, int], interest: dict[int, int]) -> None:
    for fd, asked in interest.items():
        got, true = ready.get(fd, 0), truth.get(fd, 0)
        assert not true & asked & ~got, f"missed readiness: got {got:#x}, poll(2) has {true:#x} of {asked:#x}"
        if true & ERROR:
            # A select-like poller says READ or WRITE instead, and nothing where nothing was asked.
            assert got or not asked, f"missed hang-up: poll(2) has {true:#x} of {asked:#x}"
            assert not got & ~(asked | ERROR), f"not asked for: {got:#x} of {asked:#x}"
        else:
            assert got == true, f"got {got:#x}, poll(2) has {true:#x} of {asked:#x}"
    assert ready.keys() <= interest.keys()
