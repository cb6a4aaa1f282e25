"""Errors, closed and reused numbers, limits: the part of `PollerSuite` on registrations."""

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pollux.errors import FdLimitError
from pollux.poller import ERROR, READ, WRITE, Poller
from pollux.testing.descriptors import PATIENCE, UNKNOWN, checked, drain, files_allowed, settle, socket_pair, wait_for


class PollerRegistration:
    """A part of `PollerSuite`: needs its fixture `poller`."""

    def test_register_twice(self, poller: Poller) -> None:
        """`FileExistsError`, and the first registration stands."""
        with socket_pair() as (ours, peer):
            poller.register(ours.fileno(), READ)
            with pytest.raises(FileExistsError):
                poller.register(ours.fileno(), WRITE)
            peer.send(b"x")
            assert wait_for(poller, ours.fileno(), READ | WRITE) == READ

    def test_unknown(self, poller: Poller) -> None:
        """Never registered, or no longer."""
        with socket_pair() as (ours, _), open(os.devnull) as null:
            for fd in (ours.fileno(), null.fileno()):
                with pytest.raises(UNKNOWN):
                    poller.modify(fd, READ)
                with pytest.raises(UNKNOWN):
                    poller.unregister(fd)
                poller.register(fd, READ)
                poller.unregister(fd)
                with pytest.raises(UNKNOWN):
                    poller.unregister(fd)
                with pytest.raises(UNKNOWN):
                    poller.modify(fd, READ)

    def test_unregister_of_a_closed_descriptor(self, poller: Poller) -> None:
        """Succeeds, and forgets it."""
        with socket_pair() as (ours, _):
            fd = ours.fileno()
            poller.register(fd, READ)
            ours.close()
            poller.unregister(fd)
            with pytest.raises(UNKNOWN):
                poller.unregister(fd)
            with pytest.raises(UNKNOWN):
                poller.modify(fd, READ)
            assert poller.poll(0) == []

    @pytest.mark.parametrize("interest", [READ, READ | WRITE, 0])
    def test_unregister_of_a_reused_number(self, poller: Poller, interest: int) -> None:
        """The new owner of the number is not watched until it is registered, and then it is: never a dead number."""
        with socket_pair() as (old, _), socket_pair() as (new, new_peer):
            fd = os.dup(old.fileno())
            poller.register(fd, interest)
            old.close()
            os.dup2(new.fileno(), fd)  # closes the old one and gives its number to the new one, atomically
            try:
                new_peer.send(b"x")
                poller.unregister(fd)
                settle(poller, fd, READ | WRITE | ERROR)
                poller.register(fd, READ)
                wait_for(poller, fd, READ)
                poller.unregister(fd)
            finally:
                os.close(fd)

    def test_modify_of_a_reused_number(self, poller: Poller) -> None:
        """Arms the new owner, or says that the number is not known; it must not pretend."""
        with socket_pair() as (old, _), socket_pair() as (new, new_peer):
            fd = os.dup(old.fileno())
            poller.register(fd, READ)
            old.close()
            os.dup2(new.fileno(), fd)
            try:
                new_peer.send(b"x")
                try:
                    poller.modify(fd, READ | WRITE)
                except UNKNOWN:
                    poller.unregister(fd)
                    poller.register(fd, READ | WRITE)
                assert wait_for(poller, fd, READ) & WRITE
                poller.unregister(fd)
                settle(poller, fd, READ | WRITE | ERROR)
            finally:
                os.close(fd)

    def test_register_of_a_closed_descriptor(self, poller: Poller) -> None:
        """An `OSError` at once, or nothing; `poll` goes on serving the others and reports ERROR at most."""
        with socket_pair() as (ours, peer), socket_pair() as (gone, _):
            fd = gone.fileno()
            gone.close()
            poller.register(ours.fileno(), READ)
            peer.send(b"x")
            try:
                poller.register(fd, READ | WRITE)
            except OSError:
                with pytest.raises(UNKNOWN):
                    poller.unregister(fd)
            for _ in range(3):
                wait_for(poller, ours.fileno(), READ)
                settle(poller, fd, READ | WRITE)

    def test_closed_while_registered(self, poller: Poller) -> None:
        """`poll` must not fail because of one bad descriptor, nor starve the others."""
        with socket_pair() as (ours, peer), socket_pair() as (gone, _), socket_pair() as (writer, _):
            fd = gone.fileno()
            poller.register(fd, READ | WRITE)
            poller.register(ours.fileno(), READ)
            poller.register(writer.fileno(), WRITE)
            gone.close()
            for _ in range(3):
                wait_for(poller, writer.fileno(), WRITE)
                settle(poller, fd, READ | WRITE)
            peer.send(b"x")
            wait_for(poller, ours.fileno(), READ)
            poller.unregister(fd)
            poller.unregister(writer.fileno())
            assert wait_for(poller, ours.fileno(), READ) == READ
            assert fd not in checked(poller.poll(0))

    def test_descriptor_above_fd_setsize(self, poller: Poller) -> None:
        """Works, or is refused at registration with `FdLimitError`; either way the poller lives."""
        import fcntl

        with files_allowed(1200), socket_pair() as (ours, peer):
            high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100)
            try:
                peer.send(b"x")
                poller.register(ours.fileno(), READ)
                try:
                    poller.register(high, READ)
                except FdLimitError as error:
                    refusal = str(error)
                    with pytest.raises(UNKNOWN):
                        poller.unregister(high)
                    assert str(high) in refusal, "the error names the descriptor"
                else:
                    wait_for(poller, high, READ)
                    poller.unregister(high)
                    settle(poller, high, READ | ERROR)
                wait_for(poller, ours.fileno(), READ)
            finally:
                os.close(high)

    def test_two_thousand_descriptors(self, poller: Poller) -> None:
        """All are ready, all are reported, however many lists it takes."""
        with files_allowed(4200), ExitStack() as stack:
            watched: dict[int, socket.socket] = {}
            limit: FdLimitError | None = None
            for _ in range(1000):
                for sock in stack.enter_context(socket_pair()):
                    try:
                        poller.register(sock.fileno(), READ)
                    except FdLimitError as error:
                        limit = error
                    else:
                        watched[sock.fileno()] = sock
                    sock.send(b"x")
            seen: set[int] = set()
            deadline = time.monotonic() + PATIENCE
            while len(seen) < len(watched) and time.monotonic() < deadline:
                for fd in checked(poller.poll(PATIENCE)):
                    drain(watched[fd])
                    seen.add(fd)
            assert seen == watched.keys()
            if limit is not None:
                pytest.skip(f"only {len(watched)} of 2,000 were watched, and all of them reported: {limit}")

    @pytest.mark.parametrize("kind", ["file", "empty file", "/dev/null"])
    def test_what_never_blocks_is_always_ready(self, poller: Poller, tmp_path: Path, kind: str) -> None:
        """Ready for what was asked, as poll(2) has it, beside others and at the end of the file too."""
        path = Path(os.devnull) if kind == "/dev/null" else tmp_path / "file"
        if kind == "file":
            path.write_bytes(b"contents")
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            with socket_pair() as (ours, peer):
                poller.register(fd, READ)
                with pytest.raises(FileExistsError):
                    poller.register(fd, READ)
                poller.register(ours.fileno(), READ)
                assert checked(poller.poll(None)) == {fd: READ}
                os.read(fd, 100)
                peer.send(b"x")
                assert wait_for(poller, ours.fileno(), READ) == READ
                poller.modify(fd, READ | WRITE)
                assert checked(poller.poll(None)) == {fd: READ | WRITE, ours.fileno(): READ}
                poller.modify(fd, 0)
                settle(poller, fd, READ | WRITE)
                drain(ours)
                settle(poller, ours.fileno(), READ)
                poller.modify(fd, WRITE)
                assert wait_for(poller, fd, WRITE) == WRITE
                poller.unregister(fd)
                settle(poller, fd, READ | WRITE | ERROR)
                peer.send(b"x")
                wait_for(poller, ours.fileno(), READ)
        finally:
            os.close(fd)

    def test_regular_file_closed_and_its_number_reused(self, poller: Poller, tmp_path: Path) -> None:
        """The always-ready descriptor was closed without a word; the socket with its number is not always ready."""
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        with socket_pair() as (new, peer):
            poller.register(fd, READ)
            wait_for(poller, fd, READ)
            os.dup2(new.fileno(), fd)
            try:
                poller.unregister(fd)
                poller.register(fd, READ)
                settle(poller, fd, READ | ERROR)
                peer.send(b"x")
                wait_for(poller, fd, READ)
                poller.unregister(fd)
            finally:
                os.close(fd)
