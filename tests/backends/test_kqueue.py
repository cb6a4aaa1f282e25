"""The kqueue poller on systems without kqueue: the whole suite over a model, and the mapping of flags no model reaches.

On macOS and BSD, tests/conformance runs the same suite on the real one.
"""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings

from pollux.poller import ERROR, READ, WRITE, Poller
from pollux.testing import PollerSuite
from pollux.testing.descriptors import socket_pair
from pollux_backends import plugin
from pollux_backends.io_kqueue import KqueuePoller

if sys.platform != "linux":
    pytest.skip("the model needs epoll; the real kqueue is tested in tests/conformance", allow_module_level=True)

from tests.backends import kqueue_model
from tests.conformance.test_pollers import STEPS, run_history


def create_on_model() -> Poller:
    return KqueuePoller(kqueue_model)


class TestKqueueOverModel(PollerSuite):
    @pytest.fixture
    def create(self) -> Callable[[], Poller]:
        return create_on_model


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, database=None)
def test_agrees_with_poll(steps: list[tuple[str, int, int]]) -> None:
    run_history(create_on_model, steps)


def test_check_says_why_not_here() -> None:
    assert (plugin._check_kqueue() or "").startswith("this platform has no kqueue: ")


class Scripted(kqueue_model.kqueue):
    """A kqueue that answers the next waiting call with given kevents."""

    answer: tuple[kqueue_model.kevent, ...] = ()

    def _wait(self, max_events: int, timeout: float | None) -> list[kqueue_model.kevent]:
        return list(self.answer)


@pytest.mark.parametrize(
    ("filter_", "flags", "fflags", "expected"),
    [
        ("READ", "", 0, READ),
        ("READ", "EOF", 0, READ),  # half-closed: no error
        ("READ", "EOF", errno.ECONNRESET, READ | ERROR),
        ("WRITE", "", 0, WRITE),
        ("WRITE", "EOF", 0, WRITE | ERROR),
        ("READ", "ERROR", 0, ERROR),
        ("WRITE", "ERROR", 0, ERROR),
    ],
)
def test_flags(monkeypatch: pytest.MonkeyPatch, filter_: str, flags: str, fflags: int, expected: int) -> None:
    """kqueue(2), "RETURN VALUES" and the descriptions of EVFILT_READ, EVFILT_WRITE and EV_ERROR."""
    number = kqueue_model.KQ_FILTER_READ if filter_ == "READ" else kqueue_model.KQ_FILTER_WRITE
    bits = {"": 0, "EOF": kqueue_model.KQ_EV_EOF, "ERROR": kqueue_model.KQ_EV_ERROR}[flags]
    monkeypatch.setattr(kqueue_model, "kqueue", Scripted)
    monkeypatch.setattr(Scripted, "answer", (kqueue_model.kevent(7, number, bits, fflags),))
    poller = KqueuePoller(kqueue_model)
    assert poller.poll(0) == [(7, expected)]
    poller.close()


def test_refused_second_direction_takes_the_first_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration is whole or not at all."""

    class WriteRefused(kqueue_model.kqueue):
        def _change(self, change: kqueue_model.kevent) -> None:
            if change.filter == kqueue_model.KQ_FILTER_WRITE and change.flags & kqueue_model.KQ_EV_ADD:
                raise OSError(errno.EINVAL, "no such filter for this descriptor")
            super()._change(change)

    monkeypatch.setattr(kqueue_model, "kqueue", WriteRefused)
    poller = KqueuePoller(kqueue_model)
    with socket_pair() as (ours, peer):
        with pytest.raises(OSError, match="no such filter"):
            poller.register(ours.fileno(), READ | WRITE)
        peer.send(b"x")
        assert poller.poll(0) == []
        with pytest.raises(FileNotFoundError):
            poller.unregister(ours.fileno())
    poller.close()


def test_model_has_the_vnode_rule_that_the_poller_works_around(tmp_path: Path) -> None:
    """Otherwise the suite's regular files would prove nothing: kqueue says nothing at the end of a file."""
    queue = kqueue_model.kqueue()
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with path.open("rb", buffering=0) as file:
        queue.control([kqueue_model.kevent(file.fileno())], 0)
        assert [event.ident for event in queue.control(None, 1, 0)] == [file.fileno()]
        file.read()
        assert queue.control(None, 1, 0) == []
    queue.close()
