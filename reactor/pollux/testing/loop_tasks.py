"""Tasks, futures, `run_until_complete` and clean-up in asyncio's dialect: a part of `LoopSuite`, true of asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from pollux.testing.loop_fixtures import LoopFixtures, finish, start, turn

name: ContextVar[str] = ContextVar("name", default="nobody")


class LoopTasks(LoopFixtures):
    """asyncio's dialect."""

    def test_tasks_take_turns(self, loop: Any) -> None:
        """`sleep(0)` gives way once."""
        ran: list[str] = []

        async def worker(label: str) -> None:
            for step in range(3):
                ran.append(f"{label}{step}")
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(worker("a"), worker("b"))

        finish(loop, main())
        assert ran == ["a0", "b0", "a1", "b1", "a2", "b2"]

    def test_running_loop(self, loop: Any) -> None:
        """Inside it is this one, outside there is none."""

        async def main() -> None:
            assert asyncio.get_running_loop() is loop
            assert loop.is_running()

        finish(loop, main())
        assert not loop.is_running()
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    def test_sleep_queue_event_and_timeout(self, loop: Any) -> None:
        """asyncio's own tools on this loop."""

        async def main() -> list[int]:
            queue: asyncio.Queue[int] = asyncio.Queue(2)
            done = asyncio.Event()
            got: list[int] = []

            async def produce() -> None:
                for number in range(10):
                    await queue.put(number)
                    await asyncio.sleep(0.0001)
                done.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(produce())
                while len(got) < 10:
                    got += [await queue.get()]
                await done.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            return got

        assert finish(loop, main()) == list(range(10))

    def test_task_group_cancels_the_others(self, loop: Any) -> None:
        """And raises what the first raised."""
        cancelled: list[str] = []

        async def waiting() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append("waiting")
                raise

        async def failing() -> None:
            await asyncio.sleep(0)
            raise ValueError("mine")

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(waiting())
                group.create_task(failing())

        with pytest.raises(ExceptionGroup) as info:
            finish(loop, main())
        assert info.value.subgroup(ValueError) is not None
        assert cancelled == ["waiting"]

    def test_contexts_of_tasks(self, loop: Any) -> None:
        """Each task has a copy of its own."""

        async def child() -> str:
            before = name.get()
            name.set("child")
            await asyncio.sleep(0)
            return f"{before} {name.get()}"

        async def main() -> tuple[str, str]:
            name.set("parent")
            told = await loop.create_task(child())
            return told, name.get()

        assert finish(loop, main()) == ("parent child", "parent")

    def test_future(self, loop: Any) -> None:
        """Done callbacks come later, in order, with the future."""
        future = loop.create_future()
        got: list[Any] = []
        future.add_done_callback(got.append)
        future.add_done_callback(lambda _future: got.append("second"))
        future.set_result(1)
        assert got == []
        turn(loop)
        assert got == [future, "second"]

    def test_run_until_complete(self, loop: Any) -> None:
        """A future, a coroutine, one that raises, one that stops the loop before it is done."""
        future = loop.create_future()
        loop.call_soon(future.set_result, "done")
        assert loop.run_until_complete(future) == "done"

        async def raising() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            loop.run_until_complete(raising())
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            loop.run_until_complete(loop.create_future())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupts_leave_the_loop_usable(self, loop: Any, error: type[BaseException]) -> None:
        """From a callback, a timer, a task."""

        async def task() -> None:
            raise error

        def callback() -> None:
            raise error

        for way in (loop.call_soon, partial(loop.call_later, 0)):
            way(callback)
            with pytest.raises(error):
                start(loop)
        with pytest.raises(error):
            loop.run_until_complete(task())
        finish(loop, asyncio.sleep(0.001))

    def test_task_factory(self, loop: Any) -> None:
        """Is asked for every task."""
        made: list[str] = []

        def factory(loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **kwargs)

        async def main() -> None:
            await asyncio.sleep(0)

        loop.set_task_factory(factory)
        loop.run_until_complete(loop.create_task(main()))
        assert made == ["main"]

    @pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has eager tasks")
    def test_eager_tasks(self, loop: Any) -> None:
        """Run at once, up to their first wait."""
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  # unknown to 3.11's typeshed
        ran: list[str] = []

        async def child() -> None:
            ran.append("child")
            await asyncio.sleep(0)
            ran.append("child again")

        async def main() -> None:
            task = loop.create_task(child())
            ran.append("main")
            await task

        finish(loop, main())
        assert ran == ["child", "main", "child again"]

    def test_executor(self, loop: Any) -> None:
        """The default one: results, errors, many at once."""
        me = threading.get_ident()

        async def main() -> None:
            assert await loop.run_in_executor(None, threading.get_ident) != me
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(None, lambda: 1 / 0)
            results = await asyncio.gather(*[loop.run_in_executor(None, pow, 2, n) for n in range(200)])
            assert results == [2**n for n in range(200)]
            assert await asyncio.to_thread(lambda: "done") == "done"

        finish(loop, main())
        finish(loop, loop.shutdown_default_executor())

    # Clean-up

    def test_async_generators_are_finished(self, make_loop: Callable[[], Any]) -> None:
        """By the runner at its end, and by the loop when nobody holds them."""
        finished: list[str] = []

        async def numbers(label: str) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                finished.append(label)

        async def main() -> None:
            held = numbers("held")
            kept.append(held)
            assert await anext(held) == 1
            dropped = numbers("dropped")
            assert await anext(dropped) == 1
            del dropped
            gc.collect()
            await asyncio.sleep(0.001)
            assert finished == ["dropped"]

        kept: list[Any] = []
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main())
        assert finished == ["dropped", "held"]

    def test_runner(self, make_loop: Callable[[], Any]) -> None:
        """`asyncio.Runner(loop_factory=...)`: several runs, left-over tasks cancelled, the loop closed."""
        cancelled: list[bool] = []

        async def left_over() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        async def main() -> Any:
            tasks.append(asyncio.create_task(left_over()))
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        tasks: list[Any] = []
        with asyncio.Runner(loop_factory=make_loop) as runner:
            loop = runner.run(main())
            assert runner.run(main()) is loop
        assert loop.is_closed()
        assert cancelled == [True, True]

    def test_unclosed_loop_warns(self, make_loop: Callable[[], Any]) -> None:
        """And is closed, so that it leaves no descriptor behind."""

        def drop() -> None:
            make_loop()
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            drop()

    def test_close(self, make_loop: Callable[[], Any]) -> None:
        """Twice, and not while it runs. What was waiting is dropped."""
        loop = make_loop()
        loop.call_soon(pytest.fail, "was dropped")
        loop.call_later(0, pytest.fail, "was dropped")

        loop.close()
        loop.close()
        assert loop.is_closed()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_forever()
