"""Yield points: functions that answer through a callback, read as if they returned.

python examples/05_task.py
POLLUX_BACKEND=poll python examples/05_task.py      on another poller
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from pollux import IOLoop, gen

HERE = Path(__file__).parent


def first_line(name: str, callback: Callable[[str], None]) -> None:
    """Read a file in a thread; call `callback` with its first line in the loop. Returns at once."""
    reading = IOLoop.current().run_in_executor(None, (HERE / name).read_text)
    IOLoop.current().add_future(reading, lambda done: callback(done.result().splitlines()[0]))


@gen.engine
def yield_points(callback: Callable[[], None]) -> Generator[Any, Any, None]:
    # Callback makes a key and gives a function; Wait gives what that function is called with.
    first_line("01_getting_started.py", callback=(yield gen.Callback("key")))
    print("in the meantime, anything else")
    print("Wait:     ", (yield gen.Wait("key")))

    # Task is both, with a key of its own.
    print("Task:     ", (yield gen.Task(first_line, "02_scheduled_tasks.py")))

    # Many keys at once; the results have the order of the keys.
    first_line("01_getting_started.py", callback=(yield gen.Callback("one")))
    first_line("05_task.py", callback=(yield gen.Callback("five")))
    print("WaitMany: ", (yield gen.WaitMany(["five", "one"]))[0])

    # A list, or a dict, is Multi: all of them together, and futures, coroutines and yield points may be mixed.
    one, _ = yield [gen.Task(first_line, "01_getting_started.py"), gen.sleep(0.01)]
    print("Multi:    ", one)
    lines = yield {"five": gen.Task(first_line, "05_task.py"), "native": with_await()}
    print("a dict:   ", lines["five"])

    # What goes wrong in a callback is raised here, where the answer is waited for.
    try:
        yield gen.Task(first_line, "no such file")
    except FileNotFoundError as error:
        print("caught:   ", error.strerror)
    callback()


async def with_await() -> None:
    """The same with async and await."""
    print("await:    ", await gen.Task(first_line, "02_scheduled_tasks.py"))


if __name__ == "__main__":
    IOLoop.current().run_sync(lambda: gen.Task(yield_points))
    IOLoop.current().close()
