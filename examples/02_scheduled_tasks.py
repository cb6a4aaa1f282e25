"""Scheduled tasks: what a loop calls soon, later, and again and again.

python examples/02_scheduled_tasks.py
POLLUX_BACKEND=select python examples/02_scheduled_tasks.py      on another poller
"""

from datetime import timedelta

from pollux import IOLoop, PeriodicCallback

BEATS = 5


def main() -> None:
    loop = IOLoop.current()
    start = loop.time()
    beats = 0

    def say(what: str) -> None:
        print(f"{loop.time() - start:5.2f} s  {what}")

    def beat() -> None:
        nonlocal beats
        beats += 1
        say(f"beat {beats}")
        if beats == BEATS:
            heart.stop()
            loop.stop()

    async def nap() -> None:
        """A callback may be a coroutine: the loop runs it, and nobody waits for it."""
        say("a coroutine begins")

    loop.add_callback(say, "next iteration")
    loop.add_callback(nap)
    loop.add_timeout(timedelta(seconds=0.15), say, "after 0.15 seconds")
    loop.add_timeout(start + 0.25, say, "at 0.25 by the loop's clock")
    loop.call_later(0.1, say, "after 0.1 seconds")
    never = loop.add_timeout(timedelta(seconds=0.2), say, "never")
    loop.remove_timeout(never)
    heart = PeriodicCallback(beat, 100)  # milliseconds
    heart.start()
    loop.start()  # until somebody calls stop
    loop.close()


if __name__ == "__main__":
    main()
