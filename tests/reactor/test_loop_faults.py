"""What has bitten other loops, each named for its class, on every backend.

Past 500 lines because it is one catalogue: whoever meets a fault looks for its class in one place.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import fcntl
import os
import pty
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pollux import ERROR, READ, WRITE, FdLimitError, IOLoop
from pollux.testing.descriptors import files_allowed, fill, nothing_left_open, pipe, reset, socket_pair, tcp_pair
from pollux.testing.loop_fixtures import errors_of, finish, start, turn
from pollux.testing.loop_network import Recorder, echo
from tests.reactor.loops import BACKENDS, Counted, CountingWaker, in_thread, run_script, usable


@pytest.fixture(params=list(BACKENDS))
def name(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def loop(name: str) -> Iterator[IOLoop]:
    with nothing_left_open():
        loop = IOLoop(usable(name), make_current=False)
        yield loop
        loop.close()


@pytest.fixture
def counted(name: str) -> Counted:
    return Counted(usable(name))


@pytest.fixture
def counting_loop(counted: Counted) -> Iterator[IOLoop]:
    loop = IOLoop(counted.backend, make_current=False)
    yield loop
    loop.close()


def with_number(number: int, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return a socket that has got this number, freed before, and its peer."""
    for _ in range(100):
        ours, peer = stack.enter_context(socket_pair())
        for sock, other in ((ours, peer), (peer, ours)):
            if sock.fileno() == number:
                return sock, other
    pytest.fail(f"number {number} was not handed out again")


# uvloop #645


@pytest.mark.smoke
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("closed_by_its_owner", [False, True])
def test_double_close_leaks_no_answer_to_another_user(loop: IOLoop, turns: int, closed_by_its_owner: bool) -> None:
    """`create_connection(sock=)` is cancelled midway, and its number goes to somebody else at once."""

    async def main(stack: ExitStack) -> None:
        mine, my_peer = stack.enter_context(tcp_pair())
        number = mine.fileno()
        old: list[Recorder] = []

        def protocol() -> Recorder:
            old.append(Recorder())
            return old[0]

        task = loop.create_task(loop.create_connection(protocol, sock=mine))
        for _ in range(turns):
            await asyncio.sleep(0)
        my_peer.send(b"for the old one")
        task.cancel()
        try:
            transport, _ = await task
            transport.abort()
        except asyncio.CancelledError:
            pass
        if closed_by_its_owner:
            mine.close()
        elif old:
            await old[0].closed
        assert mine.fileno() == -1 or not old
        mine.close()

        other, other_peer = with_number(number, stack)
        user = asyncio.StreamReader()
        writer, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(user), sock=other)
        other_peer.send(b"secret")
        assert await user.read(100) == b"secret"
        for _ in range(10):
            await asyncio.sleep(0)
        assert other.fileno() == number, "somebody closed a number that was not his any more"
        os.fstat(number)
        writer.write(b"answer")
        assert other_peer.recv(100) == b"answer"
        try:
            assert my_peer.recv(100) == b"", "the old peer must see its end, and nothing else"
        except ConnectionResetError:
            pass  # it had sent what nobody read
        assert all(b"secret" not in heard for protocol in old for heard in protocol.heard if isinstance(heard, bytes))
        writer.close()
        await asyncio.sleep(0)

    with ExitStack() as stack, errors_of(loop) as errors:
        finish(loop, main(stack))
    assert errors == []


# Twisted #12681


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_reused_number_is_armed_again(loop: IOLoop, direction: str) -> None:
    """Closed without a word to the loop, which cannot know; the next owner's registration counts."""
    add, remove = getattr(loop, f"add_{direction}"), getattr(loop, f"remove_{direction}")
    with ExitStack() as stack:
        old, _ = stack.enter_context(socket_pair())
        number = old.fileno()
        if direction == "writer":
            fill(old)
        add(number, pytest.fail, "belongs to the old one")
        turn(loop)
        old.close()
        new, peer = with_number(number, stack)
        add(number, loop.stop)
        peer.send(b"x")
        start(loop)
        assert remove(new)


def test_reused_number_is_armed_again_after_removal(loop: IOLoop) -> None:
    """`remove_handler` comes after the close, and the number may be somebody else's by then."""
    with ExitStack() as stack:
        old, _ = stack.enter_context(socket_pair())
        number = old.fileno()
        loop.add_handler(number, lambda fd, events: pytest.fail("belongs to the old one"), READ)
        old.close()
        new, peer = with_number(number, stack)
        loop.remove_handler(number)
        loop.add_handler(new, lambda fd, events: loop.stop(), READ)
        peer.send(b"x")
        start(loop)
        loop.remove_handler(new)


def test_many_connections_reuse_numbers(loop: IOLoop) -> None:
    """Each connection gets its own answer."""

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            for number in range(100):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"%d" % number)
                writer.write_eof()
                assert await reader.read() == b"%d" % number
                writer.close()
                await writer.wait_closed()

    finish(loop, main())


# CPython #130141


def test_foreign_descriptor_is_left_alone(loop: IOLoop, name: str) -> None:
    """Removing what was never added, or what another loop watches, changes nothing there."""
    other = IOLoop(usable(name), make_current=False)
    with socket_pair() as (ours, peer):
        other.add_reader(ours, other.stop)
        assert not loop.remove_reader(ours)
        loop.remove_handler(ours)
        loop.add_reader(ours, pytest.fail, "was removed")
        assert loop.remove_reader(ours)
        peer.send(b"x")
        start(other)
        other.remove_reader(ours)
        turn(loop)
    other.close()


# uvloop #712


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_blocking_mode_of_stdio_is_left_alone(loop: IOLoop, kind: str) -> None:
    """It belongs to the open file, which the shell and the siblings share."""
    first, second = os.pipe() if kind == "pipe" else pty.openpty()
    try:
        for fd in (first, second):
            loop.add_reader(fd, int)
            turn(loop)
            loop.remove_reader(fd)
            loop.add_handler(fd, lambda fd, events: None, READ | WRITE)
            turn(loop)
            loop.remove_handler(fd)
            assert os.get_blocking(fd)
    finally:
        os.close(first)
        os.close(second)


# libuv #690, CPython #151615


def test_no_descriptors_left_while_accepting(name: str) -> None:
    """No spin, no lost listener: the connection that waited is served when there is room again."""
    run_script(
        name,
        """
        import asyncio, os, resource, socket, sys
        import pollux
        from tests.reactor.loops import Counted, usable

        counted = Counted(usable(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        async def echo(reader, writer):
            writer.write(await reader.read(100))
            writer.close()

        async def main():
            loop = asyncio.get_running_loop()
            failed = asyncio.Event()
            errors = []

            def report(_loop, context):
                errors.append(context["exception"])
                failed.set()

            loop.set_exception_handler(report)
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            client = socket.socket()
            client.setblocking(False)
            taken = []
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await failed.wait()
            before = counted.poller.polls
            await asyncio.sleep(0.3)
            assert counted.poller.polls - before < 20, f"spins: {counted.poller.polls - before} polls"
            for fd in taken:
                os.close(fd)
            await loop.sock_sendall(client, b"still there?")
            assert await loop.sock_recv(client, 100) == b"still there?"
            assert all(error.errno == 24 for error in errors), errors
            client.close()
            server.close()
            await server.wait_closed()

        with asyncio.Runner(loop_factory=lambda: pollux.new_event_loop(counted.backend)) as runner:
            runner.run(asyncio.wait_for(main(), 20))
        """,
    )


# Twisted #11553


def test_descriptor_beyond_the_pollers_limit(loop: IOLoop, name: str) -> None:
    """select refuses it when it is registered, and lives on; the others take it."""
    with files_allowed(1200), socket_pair() as (ours, peer):
        high = fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1100)
        try:
            if name == "select":
                for add in (loop.add_reader, loop.add_writer, partial(loop.add_handler, events=READ)):
                    with pytest.raises(FdLimitError, match=r"FD_SETSIZE \(1024\)"):
                        add(high, print)
                watched = ours.fileno()
            else:
                watched = high
            loop.add_reader(watched, loop.stop)
            peer.send(b"x")
            start(loop)
            assert loop.remove_reader(watched)
        finally:
            os.close(high)


# CPython #73903


def test_regular_files_and_dev_null(loop: IOLoop, tmp_path: Path) -> None:
    """Always ready, in both dialects; sockets beside them are served too."""
    (tmp_path / "file").write_bytes(b"content")
    for path in (tmp_path / "file", Path(os.devnull)):
        with path.open("r+b", buffering=0) as file, socket_pair() as (ours, peer):
            calls: dict[str, int] = {"reader": 0, "writer": 0, "handler": 0, "socket": 0}

            def note(what: str, *_args: Any, calls: dict[str, int] = calls) -> None:
                calls[what] += 1
                if all(calls.values()):
                    loop.stop()

            number = os.dup(file.fileno())
            loop.add_reader(file, note, "reader")
            loop.add_writer(file, note, "writer")
            loop.add_handler(number, partial(note, "handler"), READ)
            loop.add_reader(ours, note, "socket")
            peer.send(b"x")
            start(loop)
            assert loop.remove_reader(file)
            assert loop.remove_writer(file)
            loop.remove_handler(number)
            loop.remove_reader(ours)
            os.close(number)


# Twisted #2809


def test_hang_up_with_error_does_not_spin(counting_loop: IOLoop, counted: Counted) -> None:
    """EPOLLHUP and EPOLLERR at once wake reader, writer or handler; when they have gone the loop sleeps."""
    loop = counting_loop
    woken: list[str] = []

    def wake(what: str, fd: int) -> None:
        woken.append(what)
        loop.remove_reader(fd)
        loop.remove_writer(fd)

    def handler(fd: int, events: int) -> None:
        assert events & (ERROR | WRITE | READ)
        woken.append("handler")
        loop.remove_handler(fd)

    with ExitStack() as stack:
        for what in ("reader", "writer", "handler"):
            ours, peer = stack.enter_context(tcp_pair())
            fd = ours.fileno()
            fill(ours)
            reset(peer)
            if what == "handler":
                loop.add_handler(fd, handler, READ)
            else:
                getattr(loop, f"add_{what}")(fd, wake, what, fd)
        reading, writing = stack.enter_context(pipe())
        os.close(reading)
        loop.add_writer(writing, wake, "pipe", writing)
        loop.call_later(0.02, loop.stop)
        start(loop)
        assert sorted(woken) == ["handler", "pipe", "reader", "writer"]
        before = counted.poller.polls
        loop.call_later(0.05, loop.stop)
        start(loop)
        assert counted.poller.polls - before <= 5


# CPython #130442


def test_fork_with_a_live_loop(name: str) -> None:
    """The child gets an error that says why, closes its copy without harm, and runs a loop of its own."""
    run_script(
        name,
        """
        import asyncio, os, socket, sys
        import pollux
        from pollux import IOLoop

        def refused(call):
            try:
                call()
            except RuntimeError as error:
                assert "fork" in str(error), error
            else:
                raise SystemExit(f"{call} was not refused")

        def child(loop, watched, spare):
            refused(loop.start)
            refused(lambda: loop.add_reader(spare, int))
            refused(lambda: loop.add_handler(spare, int, IOLoop.READ))
            assert IOLoop.current(instance=False) is None
            loop.remove_reader(watched)
            if not loop.is_running():
                refused(lambda: loop.run_until_complete(loop.create_future()))
                loop.close()
            watched.close()

            async def main():
                own, peer = socket.socketpair()
                own.setblocking(False)
                peer.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(own, b"x")
                answer = await asyncio.get_running_loop().sock_recv(peer, 1)
                own.close()
                peer.close()
                await asyncio.sleep(0.001)
                return answer

            assert pollux.run(main(), backend=sys.argv[1]) == b"x"

        def fork(loop, watched, spare):
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    child(loop, watched, spare)
                    code = 0
                except BaseException:
                    import traceback
                    traceback.print_exc()
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0

        loop = IOLoop(sys.argv[1], make_current=True)
        watched, peer = socket.socketpair()
        spare, spare_peer = socket.socketpair()
        got = []

        def readable():
            got.append(watched.recv(10))
            loop.stop()

        loop.add_reader(watched, readable)
        fork(loop, watched, spare)
        peer.send(b"outside")
        loop.start()
        assert IOLoop.current() is loop

        def in_a_callback():
            fork(loop, watched, spare)
            peer.send(b"inside")

        loop.add_callback(in_a_callback)
        loop.call_later(10, loop.stop)
        loop.start()
        assert got == [b"outside", b"inside"], got
        loop.remove_reader(watched)
        loop.close()
        for sock in (watched, peer, spare, spare_peer):
            sock.close()
        """,
    )


def test_fork_in_a_callback_whose_child_goes_on(name: str) -> None:
    """The child leaves the loop with an error before it polls the parent's set; the parent does not notice."""
    run_script(
        name,
        """
        import os, socket, sys
        from pollux import IOLoop

        loop = IOLoop(sys.argv[1], make_current=True)
        watched, peer = socket.socketpair()
        got = []

        def readable(sock, events):
            got.append(sock.recv(10))
            loop.stop()

        children = []

        def reap():
            if children[0]:
                assert os.waitpid(children[0], 0)[1] == 0
                peer.send(b"parent")

        loop.add_handler(watched, readable, IOLoop.READ)
        loop.add_callback(lambda: children.append(os.fork()))
        loop.add_callback(reap)
        try:
            loop.start()
        except RuntimeError as error:
            os._exit(0 if not children[0] and "fork" in str(error) and not got else 1)
        assert got == [b"parent"], got
        loop.remove_handler(watched)
        loop.close()
        watched.close()
        peer.close()
        """,
    )


# CPython #156054, distributed #3223


def test_full_waker_loses_nothing(loop: IOLoop) -> None:
    """The socket that wakes the loop is full: then a wake-up waits in it already."""
    ran: list[int] = []
    fill(loop._csock)

    def add() -> None:
        for number in range(1000):
            loop.add_callback(ran.append, number)
        loop.add_callback(loop.stop)

    thread = in_thread(add)
    start(loop)
    thread.join()
    assert ran == list(range(1000))
    # And it works as before when it has been emptied.
    thread = in_thread(lambda: loop.add_callback(loop.stop))
    start(loop)
    thread.join()


@pytest.mark.parametrize("method", ["add_callback", "call_soon_threadsafe"])
def test_one_wake_up_for_a_batch(counting_loop: IOLoop, counted: Counted, method: str) -> None:
    """A thousand callbacks for a sleeping loop: one write. For one that is awake: none."""
    loop = counting_loop
    loop._csock = waker = CountingWaker(loop._csock)
    add = getattr(loop, method)
    asleep, added = threading.Event(), threading.Event()
    ran: list[int] = []

    def sleeps() -> None:
        asleep.set()
        assert added.wait(10)

    def other() -> None:
        assert asleep.wait(10)
        for number in range(1000):
            add(ran.append, number)
        add(loop.stop)
        added.set()

    counted.poller.falls_asleep = sleeps
    thread = in_thread(other)
    loop.start()
    thread.join()
    assert ran == list(range(1000))
    assert waker.writes == 1

    def busy() -> None:
        in_thread(lambda: [add(ran.append, number) for number in range(1000)]).join()
        loop.stop()

    loop.call_soon(busy)
    loop.start()
    assert waker.writes == 1


# CPython #112169


def test_full_executor_and_slow_names_do_not_stop_the_loop(loop: IOLoop) -> None:
    """Every thread is busy and a name waits to be looked up; connections are served meanwhile."""
    busy = threading.Event()

    async def main() -> None:
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
        blocked = [loop.run_in_executor(None, busy.wait, 10) for _ in range(5)]
        name = asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            for _ in range(20):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello")
                writer.write_eof()
                assert await reader.read() == b"hello"
                writer.close()
                await writer.wait_closed()
        assert not name.done()
        busy.set()
        assert await name
        assert await asyncio.gather(*blocked) == [True] * 5

    try:
        finish(loop, main())
    finally:
        busy.set()
        finish(loop, loop.shutdown_default_executor())
