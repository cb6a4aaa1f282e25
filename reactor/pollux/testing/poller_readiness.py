"""What is reported, and what wakes: the part of `PollerSuite` on readiness."""

import os
import socket

import pytest

from pollux.poller import ERROR, READ, WRITE, Poller
from pollux.testing.descriptors import (
    PATIENCE,
    UNKNOWN,
    checked,
    close,
    drain,
    fill,
    pipe,
    refusing_address,
    reset,
    settle,
    socket_pair,
    tcp_pair,
    wait_for,
)


class PollerReadiness:
    """A part of `PollerSuite`: needs its fixture `poller`."""

    def test_read_is_level_triggered(self, poller: Poller) -> None:
        """What is not consumed is reported again."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            settle(poller, ours.fileno(), READ | ERROR)
            peer.send(b"abc")
            for _ in range(3):
                assert not wait_for(poller, ours.fileno(), READ) & ~READ
            assert ours.recv(1) == b"a"
            wait_for(poller, ours.fileno(), READ)
            drain(ours)
            settle(poller, ours.fileno(), READ)
            peer.send(b"d")
            wait_for(poller, ours.fileno(), READ)

    def test_write_is_level_triggered(self, poller: Poller) -> None:
        """Room in the buffer is reported as long as there is some, and again when there is some again."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), WRITE)
            for _ in range(3):
                assert not wait_for(poller, ours.fileno(), WRITE) & ~WRITE
            fill(ours)
            settle(poller, ours.fileno(), WRITE)
            while drain(peer):
                pass
            wait_for(poller, ours.fileno(), WRITE)

    def test_both_directions_come_in_one_entry(self, poller: Poller) -> None:
        """Each fd at most once (`checked` sees to it), with both bits."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ | WRITE)
            peer.send(b"x")
            wait_for(poller, ours.fileno(), READ)
            assert checked(poller.poll(PATIENCE))[ours.fileno()] == READ | WRITE

    def test_only_the_ready_ones_are_reported(self, poller: Poller) -> None:
        """Of three descriptors, one has data."""
        with socket_pair() as (a, peer_a), socket_pair() as (b, _), socket_pair() as (c, _):
            for sock in (a, b, c):
                poller.register(sock.fileno(), READ)
            peer_a.send(b"x")
            wait_for(poller, a.fileno(), READ)
            settle(poller, b.fileno(), READ | ERROR)
            settle(poller, c.fileno(), READ | ERROR)

    def test_modify_replaces_the_interest(self, poller: Poller) -> None:
        """Bits are taken away as well as added."""
        with socket_pair() as (ours, peer):
            fd = ours.fileno()
            peer.send(b"x")
            poller.register(fd, READ)
            wait_for(poller, fd, READ)
            poller.modify(fd, WRITE)
            assert not wait_for(poller, fd, WRITE) & READ
            poller.modify(fd, READ | WRITE)
            assert wait_for(poller, fd, READ) == READ | WRITE
            poller.modify(fd, READ)
            assert not wait_for(poller, fd, READ) & WRITE
            poller.modify(fd, READ)  # no change is no error
            wait_for(poller, fd, READ)

    def test_empty_interest_reports_no_readiness(self, poller: Poller) -> None:
        """Registered with 0, or modified to 0: silent until interest returns."""
        with socket_pair() as (ours, peer):
            fd = ours.fileno()
            peer.send(b"x")
            poller.register(fd, 0)
            settle(poller, fd, READ | WRITE | ERROR)
            poller.modify(fd, READ)
            wait_for(poller, fd, READ)
            poller.modify(fd, 0)
            settle(poller, fd, READ | WRITE | ERROR)
            poller.unregister(fd)
            with pytest.raises(UNKNOWN):
                poller.modify(fd, READ)

    def test_empty_interest_reports_a_hang_up_as_error_or_not_at_all(self, poller: Poller) -> None:
        """Never as readiness that nobody asked for."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), 0)
            peer.close()
            settle(poller, ours.fileno(), READ | WRITE)
            poller.unregister(ours.fileno())
            settle(poller, ours.fileno(), READ | WRITE | ERROR)

    def test_unregistered_is_silent(self, poller: Poller) -> None:
        """Unregistering, and registering again."""
        with socket_pair() as (ours, peer):
            peer.send(b"x")
            poller.register(ours.fileno(), READ)
            wait_for(poller, ours.fileno(), READ)
            poller.unregister(ours.fileno())
            settle(poller, ours.fileno(), READ | WRITE | ERROR)
            poller.register(ours.fileno(), READ)
            wait_for(poller, ours.fileno(), READ)

    def test_terminal(self, poller: Poller) -> None:
        """Terminals are watched as sockets are."""
        master, slave = os.openpty()
        try:
            poller.register(slave, READ)
            settle(poller, slave, READ | ERROR)
            os.write(master, b"line\n")
            wait_for(poller, slave, READ)
            assert os.read(slave, 100) == b"line\n"
            settle(poller, slave, READ)
            poller.unregister(slave)
        finally:
            close(master)
            close(slave)

    # Peers that close, reset, refuse

    @pytest.mark.parametrize("interest", [READ, WRITE, READ | WRITE])
    def test_hang_up_wakes(self, poller: Poller, interest: int) -> None:
        """A peer that is gone wakes either interest, and does not go on once unregistered."""
        with socket_pair() as (ours, peer):
            fill(ours)
            poller.register(ours.fileno(), interest)
            settle(poller, ours.fileno(), READ | WRITE | ERROR)
            peer.close()
            wait_for(poller, ours.fileno(), interest | ERROR)
            poller.unregister(ours.fileno())
            settle(poller, ours.fileno(), READ | WRITE | ERROR)

    @pytest.mark.parametrize("interest", [READ, WRITE])
    def test_reset_wakes(self, poller: Poller, interest: int) -> None:
        """A connection reset by its peer: EPOLLERR and EPOLLHUP together must not make a loop spin."""
        with tcp_pair() as (ours, peer):
            fill(ours)
            poller.register(ours.fileno(), interest)
            reset(peer)
            wait_for(poller, ours.fileno(), interest | ERROR)
            with pytest.raises(ConnectionError):
                ours.recv(1) if interest == READ else ours.send(b"x")
            poller.unregister(ours.fileno())
            settle(poller, ours.fileno(), READ | WRITE | ERROR)

    def test_half_closed_peer_is_no_error(self, poller: Poller) -> None:
        """A peer that has sent all still wants its answer: READ, and not ERROR."""
        with tcp_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            peer.shutdown(socket.SHUT_WR)
            assert wait_for(poller, ours.fileno(), READ | ERROR) == READ
            assert ours.recv(1) == b""
            poller.modify(ours.fileno(), WRITE)
            assert wait_for(poller, ours.fileno(), WRITE | ERROR) == WRITE
            ours.send(b"answer")
            poller.register(peer.fileno(), READ)
            wait_for(poller, peer.fileno(), READ)
            assert peer.recv(100) == b"answer"

    def test_refused_connect_wakes_write(self, poller: Poller) -> None:
        """The way to learn that a connect failed."""
        with refusing_address() as address, socket.socket() as ours:
            ours.setblocking(False)
            ours.connect_ex(address)
            poller.register(ours.fileno(), WRITE)
            wait_for(poller, ours.fileno(), WRITE | ERROR)
            poller.unregister(ours.fileno())
            settle(poller, ours.fileno(), READ | WRITE | ERROR)

    def test_connect_and_accept(self, poller: Poller) -> None:
        """A listener with a waiting connection is readable, a connected socket writable."""
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
            poller.register(listener.fileno(), READ)
            settle(poller, listener.fileno(), READ)
            ours.setblocking(False)
            ours.connect_ex(listener.getsockname())
            poller.register(ours.fileno(), WRITE)
            wait_for(poller, ours.fileno(), WRITE)
            wait_for(poller, listener.fileno(), READ)
            listener.accept()[0].close()

    def test_pipe_without_writer(self, poller: Poller) -> None:
        """The end of a pipe wakes its reader."""
        with pipe() as (reader, writer):
            poller.register(reader, READ)
            settle(poller, reader, READ | ERROR)
            close(writer)
            wait_for(poller, reader, READ | ERROR)
            assert os.read(reader, 1) == b""
            poller.unregister(reader)

    def test_pipe_without_reader(self, poller: Poller) -> None:
        """A writer nobody reads from is woken, even if the pipe is full."""
        with pipe() as (reader, writer):
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, b"x" * 4096)
            except BlockingIOError:
                pass
            poller.register(writer, WRITE)
            settle(poller, writer, WRITE | ERROR)
            close(reader)
            wait_for(poller, writer, WRITE | ERROR)
            poller.unregister(writer)
