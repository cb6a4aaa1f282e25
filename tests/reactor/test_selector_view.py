"""`loop._selector`: what asyncio's transports and Twisted's asyncioreactor ask of it.

Twisted's reactor removes a descriptor through it after `add_reader` or `add_writer` failed, in case the loop still
believes to watch it, and ignores what that raises. Here a failed registration has left nothing behind.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable, Iterator

import pytest

import pollux
from tests.reactor.loops import BACKENDS, usable


@pytest.fixture(params=list(BACKENDS))
def loop(request: pytest.FixtureRequest) -> Iterator[pollux.IOLoop]:
    loop = pollux.new_event_loop(usable(request.param))
    yield loop
    loop.close()


def selector_of(loop: pollux.IOLoop) -> selectors.BaseSelector:
    selector: selectors.BaseSelector = vars(loop)["_selector"]
    return selector


def test_it_says_what_is_watched(loop: pollux.IOLoop) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        selector = selector_of(loop)
        before = set(selector.get_map())
        with pytest.raises(KeyError):
            selector.get_key(ours)
        loop.add_reader(ours, int)
        assert selector.get_key(ours).events == selectors.EVENT_READ
        loop.add_writer(ours, int)
        key = selector.get_key(ours.fileno())
        assert (key.fd, key.events) == (ours.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE)
        assert set(selector.get_map()) - before == {ours.fileno()}
        loop.remove_reader(ours)
        assert selector.get_key(ours).events == selectors.EVENT_WRITE
        loop.remove_writer(ours)
        assert set(selector.get_map()) == before


def test_it_changes_nothing(loop: pollux.IOLoop) -> None:
    """The loop's table would no longer be the poller's."""
    ours, peer = socket.socketpair()
    with ours, peer:
        loop.add_reader(ours, int)
        selector = selector_of(loop)
        changes: list[Callable[[], object]] = [
            lambda: selector.register(peer, selectors.EVENT_READ),
            lambda: selector.unregister(ours),
            lambda: selector.modify(ours, selectors.EVENT_WRITE),
        ]
        for change in changes:
            with pytest.raises(RuntimeError, match="add_reader"):
                change()
        assert selector.get_key(ours).events == selectors.EVENT_READ
        loop.remove_reader(ours)


def test_failed_registration_leaves_nothing(loop: pollux.IOLoop) -> None:
    """So the number can be watched when somebody else has it."""
    before = set(selector_of(loop).get_map())
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    try:
        loop.add_reader(reading, int)
    except OSError:
        assert set(selector_of(loop).get_map()) == before
    else:  # poll(2) and select(2) are told at the next poll only
        assert loop.remove_reader(reading)
    reading, writing = os.pipe()
    loop.add_reader(reading, loop.stop)
    os.write(writing, b"x")
    loop.run_forever()
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)
