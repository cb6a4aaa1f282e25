"""anyio's primitives on our loop, and httpx over them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_process
import anyio.to_thread
import httpx
import pytest

import pollux
from pollux.netutil import bind_sockets
from pollux_http import HTTPServer
from pollux_web import Application, RequestHandler
from tests.programs.conftest import PATIENCE, Run


@pytest.fixture
def anyio_run(factory: Callable[[], pollux.IOLoop]) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """`anyio.run` with our loop."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def watched() -> None:
            assert type(asyncio.get_running_loop()) is pollux.IOLoop
            with anyio.fail_after(PATIENCE):
                await main()

        anyio.run(watched, backend_options={"loop_factory": factory})

    return run


AnyioRun = Callable[[Callable[[], Awaitable[None]]], None]


def test_threads_and_back(anyio_run: AnyioRun) -> None:
    async def main() -> None:
        here = threading.get_ident()

        def work() -> int:
            assert threading.get_ident() != here
            return anyio.from_thread.run_sync(threading.get_ident)

        assert await anyio.to_thread.run_sync(work) == here

    anyio_run(main)


def test_cancellation_of_nested_groups(anyio_run: AnyioRun) -> None:
    async def main() -> None:
        cancelled = []

        async def wait(name: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
                    cancelled.append(name)

        with anyio.move_on_after(0.01):
            async with anyio.create_task_group() as outer:
                for name in range(50):
                    outer.start_soon(wait, name)
        assert sorted(cancelled) == list(range(50))

    anyio_run(main)


def test_streams_over_tcp_and_unix(anyio_run: AnyioRun, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "s"

    async def main() -> None:
        async def echo(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                async for data in stream:
                    await stream.send(data)

        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        unix = await anyio.create_unix_listener(path)
        async with tcp, unix, anyio.create_task_group() as tasks:
            tasks.start_soon(tcp.serve, echo)
            tasks.start_soon(unix.serve, echo)
            port = tcp.extra(anyio.abc.SocketAttribute.local_port)
            for stream in (await anyio.connect_tcp("127.0.0.1", port), await anyio.connect_unix(path)):
                async with stream:
                    await stream.send(b"x" * 50_000)
                    got = b""
                    while len(got) < 50_000:
                        got += await stream.receive()
                    await stream.send_eof()
            tasks.cancel_scope.cancel()

    anyio_run(main)


def test_processes(anyio_run: AnyioRun) -> None:
    async def main() -> None:
        result = await anyio.run_process(["cat"], input=b"x" * 300_000)
        assert result.stdout == b"x" * 300_000
        assert await anyio.to_process.run_sync(pow, 2, 10) == 1024

    anyio_run(main)


def test_signals(anyio_run: AnyioRun) -> None:
    async def main() -> None:
        import os
        import signal

        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                break

    anyio_run(main)


class Body(RequestHandler):
    """Answers with what it got."""

    async def post(self) -> None:
        await asyncio.sleep(0)
        self.write(self.request.body)


def test_httpx_keeps_a_pool_of_connections(run: Run) -> None:
    """A hundred requests with bodies over ten connections to a Pollux server on the same loop."""

    async def main() -> None:
        (listener,) = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(Application([("/", Body)]))
        server.add_sockets([listener])
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, limits=httpx.Limits(max_connections=10)) as client:
            bodies = [str(number).encode() * 1_000 for number in range(100)]
            answers = await asyncio.gather(*(client.post("/", content=body) for body in bodies))
            assert [answer.read() for answer in answers] == bodies
        server.stop()

    run(main())


def test_httpx_timeout(run: Run) -> None:
    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with httpx.AsyncClient(timeout=0.05) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"http://127.0.0.1:{port}/")

    run(main())
