"""Handlers of descriptors in Tornado's dialect: a part of `LoopSuite`, and true of Tornado's loop."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest

from pollux.testing.descriptors import reset, socket_pair, tcp_pair
from pollux.testing.loop_fixtures import LoopFixtures, logged, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")


def never(fd: Any, events: int) -> None:
    pytest.fail(f"{fd} got {events:#x}, which is not its event")


class LoopHandlers(LoopFixtures):
    """Tornado's dialect."""

    # What it is called with, and when

    def test_handler_gets_what_was_given(self, loop: Any) -> None:
        """A number for a number, the object for an object with `fileno()`."""
        got: list[tuple[Any, int]] = []

        def handler(fd: Any, events: int) -> None:
            got.append((fd, events))
            loop.remove_handler(fd)
            if len(got) == 2:
                loop.stop()

        with socket_pair() as (a, b):
            loop.add_handler(a.fileno(), handler, loop.WRITE)
            loop.add_handler(b, handler, loop.WRITE)
            start(loop)
            assert {(fd if isinstance(fd, int) else id(fd), events) for fd, events in got} == {
                (a.fileno(), loop.WRITE),
                (id(b), loop.WRITE),
            }

    def test_level_triggered(self, loop: Any) -> None:
        """The handler is called until everything is read."""
        got: list[bytes] = []

        def handler(sock: socket.socket, events: int) -> None:
            assert events == loop.READ
            got.append(sock.recv(1))
            if len(got) == 3:
                loop.stop()

        with socket_pair() as (ours, peer):
            loop.add_handler(ours, handler, loop.READ)
            peer.send(b"abc")
            start(loop)
            loop.remove_handler(ours)
        assert got == [b"a", b"b", b"c"]

    def test_read_and_write(self, loop: Any) -> None:
        """Both are told, in one call or in two; only what is true is."""
        seen: list[int] = []

        def handler(sock: socket.socket, events: int) -> None:
            seen.append(events)
            if events & loop.READ:
                loop.stop()
            elif len(seen) == 1:
                peer.send(b"x")

        with socket_pair() as (ours, peer):
            loop.add_handler(ours, handler, loop.READ | loop.WRITE)
            start(loop)
            loop.remove_handler(ours)
        assert seen[0] == loop.WRITE
        assert seen[-1] & loop.READ or seen[-2] & loop.READ

    def test_update_handler(self, loop: Any) -> None:
        """From one event to the other, to none, and back."""
        seen: list[int] = []

        def handler(sock: socket.socket, events: int) -> None:
            seen.append(events)
            loop.stop()

        with socket_pair() as (ours, peer):
            peer.send(b"x")
            loop.add_handler(ours, handler, loop.WRITE)
            start(loop)
            loop.update_handler(ours, loop.READ)
            start(loop)
            loop.update_handler(ours.fileno(), 0)
            for _ in range(3):
                turn(loop)
            loop.update_handler(ours, loop.READ)
            start(loop)
            loop.remove_handler(ours)
        assert seen == [loop.WRITE, loop.READ, loop.READ]

    def test_added_twice(self, loop: Any) -> None:
        """By number or by object it is the same descriptor; the first handler stays."""
        with socket_pair() as (ours, peer):
            loop.add_handler(ours, lambda fd, events: loop.stop(), loop.READ)
            for again in (ours, ours.fileno()):
                with pytest.raises(ValueError, match=str(ours.fileno())):
                    loop.add_handler(again, never, loop.READ)
            peer.send(b"x")
            start(loop)
            loop.remove_handler(ours.fileno())

    def test_remove_of_an_unknown_descriptor_is_ignored(self, loop: Any) -> None:
        """Never added, or removed before."""
        with socket_pair() as (ours, _):
            loop.remove_handler(ours)
            loop.add_handler(ours, never, loop.READ)
            loop.remove_handler(ours)
            loop.remove_handler(ours)

    def test_added_again_after_removal(self, loop: Any) -> None:
        """A number is never dead."""
        with socket_pair() as (ours, peer):
            for _ in range(3):
                loop.add_handler(ours, never, loop.READ)
                loop.remove_handler(ours)
            loop.add_handler(ours, lambda fd, events: loop.stop(), loop.READ)
            peer.send(b"x")
            start(loop)
            loop.remove_handler(ours)

    def test_contextvars_travel_with_the_handler(self, loop: Any) -> None:
        """It runs in a copy of the context of `add_handler`, each time in the same."""
        seen: list[str] = []

        def handler(sock: socket.socket, events: int) -> None:
            seen.append(name.get())
            if len(seen) == 2:
                loop.stop()

        def add() -> None:
            name.set("somebody")
            loop.add_handler(ours, handler, loop.WRITE)

        with socket_pair() as (ours, _):
            loop.add_callback(add)
            start(loop)
            loop.remove_handler(ours)
        assert seen[:2] == ["somebody", "somebody"]

    def test_raising_handler_is_logged_and_the_loop_lives(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """The next event reaches it, and others are not disturbed."""
        error = ValueError("in a handler")

        def handler(sock: socket.socket, events: int) -> None:
            if sock.recv(1) == b"!":
                raise error
            loop.stop()

        with socket_pair() as (ours, peer):
            loop.add_handler(ours, handler, loop.READ)
            peer.send(b"!!.")
            start(loop)
            loop.remove_handler(ours)
        assert logged(caplog) == [error, error]

    # One list of events, and what its handlers do to each other

    def test_handler_removes_another_that_is_ready_too(self, loop: Any) -> None:
        """The other is not called any more."""
        called: list[socket.socket] = []
        with socket_pair() as (a, a_peer), socket_pair() as (b, b_peer):

            def handler(sock: socket.socket, events: int) -> None:
                called.append(sock)
                loop.remove_handler(a)
                loop.remove_handler(b)

            for sock, peer in ((a, a_peer), (b, b_peer)):
                loop.add_handler(sock, handler, loop.READ)
                peer.send(b"x")
            for _ in range(3):
                turn(loop)
            assert len(called) == 1

    @pytest.mark.parametrize("how", ["data", "reset"])
    def test_stale_event_does_not_reach_the_new_owner_of_a_number(self, loop: Any, how: str) -> None:
        """Of two that are ready, the first handler closes the second's socket, and a new one takes its number."""
        with ExitStack() as stack:
            new, new_peer = stack.enter_context(socket_pair())
            socks = []
            for _ in range(2):
                ours, peer = stack.enter_context(tcp_pair())
                socks.append(ours)
                if how == "data":
                    peer.send(b"x")
                else:
                    reset(peer)
            owners: list[int] = []

            def handler(sock: socket.socket, events: int) -> None:
                other = socks[1 - socks.index(sock)]
                loop.remove_handler(sock)
                loop.remove_handler(other)
                number = other.detach()
                os.close(number)
                owners.append(os.dup2(new.fileno(), number))
                loop.add_handler(number, never, loop.READ)

            for sock in socks:
                loop.add_handler(sock, handler, loop.READ)
            for _ in range(3):
                turn(loop)
            (number,) = owners
            stack.callback(os.close, number)
            loop.remove_handler(number)
            loop.add_handler(number, lambda fd, events: loop.stop(), loop.READ)
            new_peer.send(b"x")
            start(loop)
            loop.remove_handler(number)

    def test_handler_adds_another_that_is_ready(self, loop: Any) -> None:
        """Level-triggered: it is called soon."""
        with socket_pair() as (a, a_peer), socket_pair() as (b, b_peer):
            a_peer.send(b"x")
            b_peer.send(b"x")

            def handler(sock: socket.socket, events: int) -> None:
                loop.remove_handler(sock)
                loop.add_handler(b, lambda fd, events: loop.stop(), loop.READ)

            loop.add_handler(a, handler, loop.READ)
            start(loop)
            loop.remove_handler(b)

    def test_many_descriptors(self, loop: Any) -> None:
        """Each is served, each with its own."""
        with ExitStack() as stack:
            pairs = [stack.enter_context(socket_pair()) for _ in range(100)]
            got: dict[int, bytes] = {}

            def handler(sock: socket.socket, events: int) -> None:
                got[sock.fileno()] = sock.recv(10)
                loop.remove_handler(sock)
                if len(got) == len(pairs):
                    loop.stop()

            for ours, peer in pairs:
                loop.add_handler(ours, handler, loop.READ)
                peer.send(b"%d" % ours.fileno())
            start(loop)
            assert got == {ours.fileno(): b"%d" % ours.fileno() for ours, _ in pairs}
