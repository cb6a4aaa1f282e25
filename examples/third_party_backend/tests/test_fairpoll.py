"""The conformance suites by one line each, and the one thing this poller promises beyond the contract."""

import socket
from contextlib import ExitStack

from pollux.config import choose_backend
from pollux.poller import WRITE
from pollux.testing import LoopSuite, PollerSuite


class TestFairPoll(PollerSuite):
    backend = "fairpoll"


class TestLoopOnFairPoll(LoopSuite):
    backend = "fairpoll"


def test_each_ready_descriptor_gets_to_be_first() -> None:
    with ExitStack() as stack:
        poller = choose_backend("fairpoll").backend.create()
        stack.callback(poller.close)
        fds = []
        for _ in range(3):
            pair = socket.socketpair()
            for end in pair:
                stack.enter_context(end)
            fds.append(pair[0].fileno())
            poller.register(fds[-1], WRITE)
        firsts = [poller.poll(0)[0][0] for _ in range(6)]
        assert firsts == sorted(fds) * 2
