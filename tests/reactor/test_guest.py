"""A Pollux loop inside a host loop that is already running: asyncio, another Pollux loop, and trio."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio

from pollux import Backend, BackendError, IOLoop, PeriodicCallback, new_event_loop, registry
from pollux.guest import Guest
from pollux.guest_asyncio import AsyncioHost, run_in_asyncio
from pollux.guest_trio import run_in_trio
from pollux.poller import HasFileno

USABLE = [backend for backend in registry.backends() if registry.unusable(backend) is None]


def _can_be_guest(backend: Backend) -> bool:
    poller = backend.create()
    try:
        return isinstance(poller, HasFileno)
    finally:
        poller.close()


GUESTS = [backend.name for backend in USABLE if _can_be_guest(backend)]
Run = Callable[[Coroutine[Any, Any, Any], str], Any]


def _on_asyncio(main: Coroutine[Any, Any, Any], backend: str) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(run_in_asyncio(main, backend=backend))


def _on_pollux(main: Coroutine[Any, Any, Any], backend: str) -> Any:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run_in_asyncio(main, backend=backend))


def _on_trio(main: Coroutine[Any, Any, Any], backend: str) -> Any:
    async def host() -> Any:
        return await run_in_trio(main, backend=backend)

    return trio.run(host)


@pytest.fixture(params=[_on_asyncio, _on_pollux, _on_trio], ids=["asyncio", "pollux", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=GUESTS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


def test_some_backend_can_be_a_guest() -> None:
    assert GUESTS


def test_result(run: Run, backend: str) -> None:
    async def main() -> int:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, IOLoop)
        assert loop.backend.name == backend
        assert loop.is_running()
        assert asyncio.current_task() is not None
        return 42

    assert run(main(), backend) == 42


def test_exception(run: Run, backend: str) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise LookupError("from the guest")

    with pytest.raises(LookupError, match="from the guest"):
        run(main(), backend)


def test_timers_tasks_and_queues(run: Run, backend: str) -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def producer() -> None:
            for number in range(3):
                await asyncio.sleep(0.001)
                await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            while len(seen) < 3:
                seen.append(await queue.get())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return seen

    assert run(main(), backend) == [0, 1, 2]


def test_streams(run: Run, backend: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer

    assert run(main(), backend) == b"HELLO\n"


def test_add_handler_and_periodic_callback(run: Run, backend: str) -> None:
    async def main() -> bytes:
        loop = IOLoop.current()
        near, far = socket.socketpair()
        got: asyncio.Future[bytes] = loop.create_future()
        loop.add_handler(near, lambda sock, events: got.set_result(sock.recv(10)), IOLoop.READ)
        beats: asyncio.Queue[None] = asyncio.Queue()
        periodic = PeriodicCallback(lambda: beats.put_nowait(None), 1)
        periodic.start()
        await beats.get()
        await beats.get()
        periodic.stop()
        far.send(b"event")
        result = await got
        loop.remove_handler(near)
        near.close()
        far.close()
        return result

    assert run(main(), backend) == b"event"


def test_a_thread_wakes_the_guest(run: Run, backend: str) -> None:
    async def main() -> None:
        loop = IOLoop.current()
        event = asyncio.Event()
        thread = threading.Thread(target=loop.add_callback, args=(event.set,))
        thread.start()
        await event.wait()
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        thread.join()
        await loop.shutdown_default_executor()

    run(main(), backend)


def test_the_host_has_its_turn(backend: str) -> None:
    """A guest that always has callbacks does not keep the host from its own."""

    async def host() -> int:
        with Guest(AsyncioHost(), backend) as guest:
            turns = 0

            def busy() -> None:
                nonlocal turns
                turns += 1
                guest.loop.add_callback(busy)

            guest.loop.add_callback(busy)
            for _ in range(100):
                await asyncio.sleep(0)
            return turns

    assert asyncio.run(host()) >= 10


def test_the_hosts_code_wakes_an_idle_guest(backend: str) -> None:
    """Callbacks, timers, tasks and future results that come from outside a turn."""

    async def host() -> list[str]:
        seen: list[str] = []
        own = asyncio.get_running_loop()
        with Guest(AsyncioHost(), backend) as guest:
            for _ in range(5):
                await asyncio.sleep(0)
            future: asyncio.Future[str] = guest.loop.create_future()

            async def waits() -> None:
                seen.append(await future)
                seen.append("guest" if asyncio.get_running_loop() is guest.loop else "host")

            ended = own.create_future()
            task = guest.loop.create_task(waits())
            task.add_done_callback(ended.set_result)
            await asyncio.sleep(0)
            future.set_result("result")
            await ended
            for call in (
                lambda done: guest.loop.call_soon(done.set_result, "soon"),
                lambda done: guest.loop.call_later(0.001, done.set_result, "later"),
                lambda done: guest.loop.call_at(guest.loop.time(), done.set_result, "at"),
                lambda done: guest.loop.add_callback(done.set_result, "callback"),
            ):
                done = own.create_future()
                call(done)
                seen.append(await done)
            assert asyncio.get_running_loop() is own
        return seen

    assert asyncio.run(host()) == ["result", "guest", "soon", "later", "at", "callback"]


def test_an_idle_guest_costs_the_host_nothing(backend: str) -> None:
    """No turn, no timer and no callback of the host's, as long as nothing happens."""

    class CountingHost(AsyncioHost):
        calls = 0

        def call_soon(self, callback: Callable[[], object]) -> None:
            CountingHost.calls += 1
            super().call_soon(callback)

        def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
            CountingHost.calls += 1
            return super().call_later(delay, callback)

    async def host() -> None:
        with Guest(CountingHost(), backend) as guest:
            turns: list[object] = []
            turn = guest.loop.turn
            guest.loop.turn = lambda: (turns.append(None), turn())[1]  # type: ignore[method-assign, func-returns-value]
            for _ in range(5):
                await asyncio.sleep(0)
            before = CountingHost.calls
            turns.clear()
            for _ in range(200):
                await asyncio.sleep(0)
            assert not turns
            assert CountingHost.calls == before

    asyncio.run(host())


def test_an_event_costs_one_turn(backend: str) -> None:
    """What the handler has read does not wake the guest again."""

    async def host() -> None:
        near, far = socket.socketpair()
        with Guest(AsyncioHost(), backend) as guest:
            turns = 0
            turn = guest.loop.turn

            def counted() -> tuple[float | None, bool]:
                nonlocal turns
                turns += 1
                return turn()

            guest.loop.turn = counted  # type: ignore[method-assign]
            done = asyncio.Event()

            def handler(sock: socket.socket, events: int) -> None:
                sock.recv(10)
                done.set()

            guest.loop.add_handler(near, handler, IOLoop.READ)
            for _ in range(3):
                for _ in range(20):
                    await asyncio.sleep(0)
                turns = 0
                done.clear()
                far.send(b"x")
                await done.wait()
                for _ in range(20):
                    await asyncio.sleep(0)
                assert turns == 1
            guest.loop.remove_handler(near)
        near.close()
        far.close()

    asyncio.run(host())


def test_stop_closes_the_guest(backend: str) -> None:
    async def host() -> None:
        stopped = asyncio.Event()
        guest = Guest(AsyncioHost(), backend, on_stop=stopped.set)
        guest.loop.add_callback(guest.loop.stop)
        await stopped.wait()
        assert guest.loop.is_closed()
        guest.close()

    asyncio.run(host())


def test_a_raising_callback_is_logged_and_the_guest_lives(
    run: Run, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        IOLoop.current().add_callback(lambda: 1 / 0)
        await asyncio.sleep(0.001)
        return "alive"

    assert run(main(), backend) == "alive"
    assert "ZeroDivisionError" in caplog.text


async def _waits_and_cleans_up(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.001)
        seen.append("cleaned up")
        raise


def test_cancelling_the_asyncio_host_cancels_main(backend: str) -> None:
    seen: list[str] = []

    async def host() -> None:
        task = asyncio.create_task(run_in_asyncio(_waits_and_cleans_up(seen), backend=backend))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(host())
    assert seen == ["cleaned up"]


def test_cancelling_the_trio_host_cancels_main(backend: str) -> None:
    seen: list[str] = []

    async def host() -> None:
        with trio.move_on_after(0.01) as scope:
            await run_in_trio(_waits_and_cleans_up(seen), backend=backend)
        assert scope.cancelled_caught

    trio.run(host)
    assert seen == ["cleaned up"]


@pytest.mark.parametrize("name", sorted({backend.name for backend in USABLE} - set(GUESTS)))
def test_a_poller_without_a_descriptor_is_refused(name: str) -> None:
    async def host() -> None:
        with pytest.raises(BackendError, match="cannot run as a guest"):
            Guest(AsyncioHost(), name)

    asyncio.run(host())


def test_async_generators_are_the_guests(backend: str) -> None:
    closed: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> None:
        generator = numbers()
        assert await anext(generator) == 1
        await asyncio.get_running_loop().shutdown_asyncgens()

    asyncio.run(run_in_asyncio(main(), backend=backend))
    assert closed == ["closed"]


def test_stop_from_the_hosts_code(backend: str) -> None:
    async def host() -> None:
        stopped = asyncio.Event()
        guest = Guest(AsyncioHost(), backend, on_stop=stopped.set)
        for _ in range(5):
            await asyncio.sleep(0)
        guest.loop.stop()
        await stopped.wait()
        assert guest.loop.is_closed()

    asyncio.run(host())
