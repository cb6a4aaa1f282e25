"""One micro-benchmark in a process of its own: prints CPU nanoseconds per operation.

    python cases.py LOOP CASE OPERATIONS

CPU time (user and system) of the whole process between the first and the last operation, not wall time: the poll of an
empty iteration is thus counted, waiting for a timer is not. The least of five repeats is printed, as `timeit` advises:
whatever else the machine does can only add. A tenth of the operations warms the loop up first.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

Loop = Any  # the loops share a protocol, not a class; ours has `add_callback` besides


def chains(loop: Loop, schedule: Callable[[Callable[[], None]], object], count: int, operations: int) -> None:
    """Run `count` callbacks that each schedule themselves again, `operations` calls in all."""
    left = operations

    def step() -> None:
        nonlocal left
        left -= 1
        if left >= count:
            schedule(step)
        elif left == 0:
            loop.stop()

    for _ in range(count):
        schedule(step)
    loop.run_forever()


def call_soon_ten(loop: Loop, operations: int) -> None:
    """Ten callbacks that each re-schedule themselves: ten calls in each iteration of the loop."""
    chains(loop, loop.call_soon, 10, operations)


def call_soon_one(loop: Loop, operations: int) -> None:
    """A single callback that re-schedules itself: each call is an iteration with its poll."""
    chains(loop, loop.call_soon, 1, operations)


def add_callback_ten(loop: Loop, operations: int) -> None:
    """As `call_soon_ten`, with `IOLoop.add_callback`, which may be called from any thread."""
    chains(loop, getattr(loop, "add_callback", loop.call_soon), 10, operations)


def add_callback_one(loop: Loop, operations: int) -> None:
    """As `call_soon_one`, with `IOLoop.add_callback`."""
    chains(loop, getattr(loop, "add_callback", loop.call_soon), 1, operations)


def add_callback_in_context(loop: Loop, operations: int) -> None:
    """As `add_callback_ten`, with a stack context entered: each callback is run inside it. What that costs is the
    difference; where none is entered, `add_callback_ten` has the cost of asking. Other loops have no stack contexts.
    """
    schedule = getattr(loop, "add_callback", None)
    if schedule is None:
        return add_callback_ten(loop, operations)
    from pollux.stack_context import ExceptionStackContext

    with ExceptionStackContext(lambda kind, error, traceback: False):
        return chains(loop, schedule, 10, operations)


def call_later_cancel(loop: Loop, operations: int) -> None:
    """Timers of a minute, cancelled at once, a hundred in each iteration: what a timeout that never fires costs."""
    call_later = loop.call_later
    left = operations // 100

    def nothing() -> None:
        pass

    def step() -> None:
        nonlocal left
        for _ in range(100):
            call_later(60, nothing).cancel()
        left -= 1
        if left > 0:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


def call_later_fire(loop: Loop, operations: int) -> None:
    """Timers that fire: batches of a thousand, due 1 to 10 ms later; the next when all of one have fired."""
    left = operations
    due = 0

    def fired() -> None:
        nonlocal due, left
        due -= 1
        left -= 1
        if due == 0:
            if left > 0:
                batch()
            else:
                loop.stop()

    def batch() -> None:
        nonlocal due
        due = 1000
        for number in range(due):
            loop.call_later(0.001 * (1 + number % 10), fired)

    loop.call_soon(batch)
    loop.run_forever()


def sleep_zero(loop: Loop, operations: int) -> None:
    """One task that yields to the loop by `asyncio.sleep(0)`."""

    async def main() -> None:
        sleep = asyncio.sleep
        for _ in range(operations):
            await sleep(0)

    loop.run_until_complete(main())


def create_task_await(loop: Loop, operations: int) -> None:
    """One task that creates another, which returns at once, and awaits it."""

    async def nothing() -> None:
        pass

    async def main() -> None:
        create_task = loop.create_task
        for _ in range(operations):
            await create_task(nothing())

    loop.run_until_complete(main())


REPEATS = 5

# Title and operations of each repeat: about a tenth of a second on asyncio.
CASES: dict[str, tuple[Callable[[Loop, int], None], str, int]] = {
    "call-soon-ten": (call_soon_ten, "call_soon, ten chains", 100_000),
    "call-soon-one": (call_soon_one, "call_soon, one chain (a poll each)", 50_000),
    "add-callback-ten": (add_callback_ten, "add_callback (others: call_soon), ten chains", 100_000),
    "add-callback-one": (add_callback_one, "add_callback (others: call_soon), one chain", 50_000),
    "add-callback-context": (
        add_callback_in_context,
        "add_callback in a stack context (others: call_soon), ten chains",
        100_000,
    ),
    "call-later-cancel": (call_later_cancel, "call_later + cancel", 40_000),
    "call-later-fire": (call_later_fire, "call_later, fire", 20_000),
    "sleep-zero": (sleep_zero, "await sleep(0)", 50_000),
    "create-task": (create_task_await, "create_task + await", 20_000),
}


def new_loop(name: str) -> Loop:
    """Make a loop; `pollux:select` is ours on a poller named."""
    if name == "asyncio":
        return asyncio.new_event_loop()
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if name == "rloop":
        import rloop

        return rloop.new_event_loop()
    import pollux

    return pollux.new_event_loop(backend=name.partition(":")[2] or None)


def timed(case: Callable[[Loop, int], None], loop: Loop, operations: int) -> int:
    """Run a case once; return the CPU nanoseconds it took."""
    start = time.process_time_ns()
    case(loop, operations)
    return time.process_time_ns() - start


def main() -> None:
    """Run the case named on the command line."""
    loop = new_loop(sys.argv[1])
    case = CASES[sys.argv[2]][0]
    operations = int(sys.argv[3])
    try:
        case(loop, operations // 10)
        best = min(timed(case, loop, operations) for _ in range(REPEATS))
        print(best / operations)
    finally:
        loop.close()


if __name__ == "__main__":
    main()
