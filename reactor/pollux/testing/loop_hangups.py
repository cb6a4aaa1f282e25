"""Errors, hang-ups and closing in Tornado's dialect: a part of `LoopSuite`, and true of Tornado's loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from pollux.testing.descriptors import drain, fill, pipe, reset, socket_pair, tcp_pair
from pollux.testing.loop_fixtures import LoopFixtures, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")


def never(fd: Any, events: int) -> None:
    pytest.fail(f"{fd} got {events:#x}, which is not its event")


class LoopHangUps(LoopFixtures):
    """Tornado's dialect."""

    # Errors and hang-ups

    @pytest.mark.parametrize("interest", ["READ", "WRITE"])
    def test_hang_up_wakes_the_handler(self, loop: Any, interest: str) -> None:
        """The peer resets. Whether it is told as ERROR or as what was asked for is the poller's affair."""
        with tcp_pair() as (ours, peer):
            fill(ours)

            def handler(sock: socket.socket, events: int) -> None:
                assert events & (loop.ERROR | getattr(loop, interest))
                loop.remove_handler(sock)
                loop.stop()

            loop.add_handler(ours, handler, getattr(loop, interest))
            turn(loop)
            reset(peer)
            start(loop)

    def test_half_closed_peer_gets_its_answer(self, loop: Any) -> None:
        """It will send no more but still reads."""
        with tcp_pair() as (ours, peer):

            def handler(sock: socket.socket, events: int) -> None:
                if events & loop.READ and drain(sock) == 0:
                    sock.send(b"answer")
                    loop.remove_handler(sock)
                    loop.stop()

            loop.add_handler(ours, handler, loop.READ)
            peer.shutdown(socket.SHUT_WR)
            start(loop)
            peer.setblocking(True)
            assert peer.recv(100) == b"answer"

    def test_pipe_ends(self, loop: Any) -> None:
        """Descriptors that are no sockets, and the reading end of a pipe whose writer is gone."""
        with pipe() as (reader, writer):
            got: list[bytes] = []

            def handler(fd: int, events: int) -> None:
                got.append(os.read(fd, 100))
                if got[-1]:
                    os.close(writer)
                else:
                    loop.remove_handler(fd)
                    loop.stop()

            os.write(writer, b"last words")
            loop.add_handler(reader, handler, loop.READ)
            start(loop)
            assert got == [b"last words", b""]

    def test_closing_the_loop_leaves_descriptors_open(self, make_loop: Callable[[], Any]) -> None:
        """They are not the loop's, unless `all_fds` says so."""
        with socket_pair() as (ours, peer):
            loop = make_loop()
            loop.add_handler(ours, never, loop.READ)
            loop.close()
            peer.send(b"x")
            assert ours.recv(1) == b"x"

    def test_all_fds(self, make_loop: Callable[[], Any]) -> None:
        """Closes numbers and objects that have a handler."""
        with socket_pair() as (a, b):
            loop = make_loop()
            number = os.dup(a.fileno())
            loop.add_handler(number, never, loop.READ)
            loop.add_handler(b, never, loop.READ)
            loop.close(all_fds=True)
            assert b.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)
