"""`attach`: our loop as a guest of a reactor that is running."""

from __future__ import annotations

import pytest

from .scripts import run

REACTORS = ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"]
# Who installs Twisted's asyncio reactor has to close its loop, or Python warns.
INSTALL = """
import asyncio, atexit, importlib, sys
module = importlib.import_module("twisted.internet." + sys.argv[1])
if sys.argv[1] == "asyncioreactor":
    its_loop = asyncio.new_event_loop()
    atexit.register(its_loop.close)
    module.install(its_loop)
else:
    module.install()
"""


@pytest.mark.parametrize("installed", REACTORS)
def test_an_application_and_asyncios_libraries_beside_twisteds(installed: str) -> None:
    """The running loop is ours in our callbacks; Twisted's Deferreds are awaited; a thread asks the server."""
    script = """
        import asyncio, sys, urllib.request
        exec(sys.argv[2])
        from twisted.internet import reactor
        from twisted.internet.task import deferLater
        from twisted.internet.threads import deferToThread
        from pollux import IOLoop
        from pollux_twisted import attach, ensure_deferred
        from pollux_web import Application, RequestHandler

        class Handler(RequestHandler):
            async def get(self):
                assert asyncio.get_running_loop() is IOLoop.current() is attach()
                process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('sub')", stdout=-1)
                self.write(await deferLater(reactor, 0.001, lambda: "later "))
                self.write((await process.communicate())[0])

        def began():
            ensure_deferred(serve(), attach()).addCallback(ask).addErrback(lambda f: print(f.getTraceback()))

        async def serve():
            return Application([("/", Handler)]).listen(0, "127.0.0.1")

        def ask(server):
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            asked = deferToThread(lambda: urllib.request.urlopen(url).read())
            asked.addCallback(print).addCallback(lambda _: server.stop()).addBoth(lambda _: reactor.stop())
            return asked

        reactor.callWhenRunning(began)
        reactor.run()
        print(attach.__module__)
    """
    assert run(script, installed, INSTALL) == ["b'later sub\\n'", "pollux_twisted"]


def test_the_current_loop_of_twisteds_callbacks() -> None:
    """So that an application can listen from there. One guest for a reactor, and a new one after it was closed."""
    script = """
        from twisted.internet import reactor
        from pollux import IOLoop
        from pollux_twisted import attach
        from pollux_web import Application

        def began():
            loop = attach()
            assert loop is attach() is attach(reactor) is IOLoop.current() and loop.is_running()
            server = Application([]).listen(0, "127.0.0.1")
            server.stop()
            loop.stop()
            reactor.callLater(0.001, again, loop)

        def again(first):
            assert first.is_closed()
            assert attach() is not first
            reactor.stop()

        reactor.callWhenRunning(began)
        reactor.run()
        print(IOLoop.current(instance=False))
        try:
            attach()
        except RuntimeError as error:
            print(error)
    """
    lines = run(script)
    assert lines[0] == "None"
    assert "was stopped and cannot run again" in lines[1]


def test_on_a_pollux_reactor_it_is_the_reactors_loop() -> None:
    script = """
        import pollux_twisted
        reactor = pollux_twisted.install("poll")
        print(pollux_twisted.attach() is pollux_twisted.attach(reactor) is reactor.loop)
    """
    assert run(script) == ["True"]


def test_shutdown_cancels_what_runs_and_waits_for_its_end() -> None:
    """Before the reactor disconnects. What a task raises then is reported."""
    script = """
        import asyncio, logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        logging.raiseExceptions = True
        from twisted.internet import reactor
        from pollux_twisted import attach

        async def numbers():
            try:
                for number in range(1000):
                    yield number
            finally:
                print("generator closed")

        async def work():
            async for number in numbers():
                break
            reactor.callLater(0, reactor.stop)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.001)
                print("cleaned up, reactor running:", reactor.running)

        async def fails():
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("at the end")

        loop = attach()
        loop.set_exception_handler(lambda loop, context: print(context["message"], repr(context["exception"])))
        tasks = [loop.create_task(fails()), loop.create_task(work())]
        reactor.addSystemEventTrigger("after", "shutdown", lambda: print("closed:", loop.is_closed()))
        reactor.run()
    """
    assert sorted(run(script)) == [
        "cleaned up, reactor running: True",
        "closed: True",
        "generator closed",
        "unhandled exception while the reactor shuts down ValueError('at the end')",
    ]


@pytest.mark.parametrize("installed", REACTORS)
def test_idle_it_costs_the_reactor_nothing(installed: str) -> None:
    """While Twisted's code is busy, too: the guest has a turn for its own events alone."""
    script = """
        import sys
        exec(sys.argv[2])
        from twisted.internet import reactor
        from pollux_twisted import attach

        loop = attach()
        turns = []
        turn = loop.turn
        loop.turn = lambda: turns.append(1) or turn()

        def busy(left):
            if left:
                reactor.callLater(0, busy, left - 1)
            else:
                print(len(turns) - before)
                loop.call_later(0.001, wake)

        def wake():
            print("woken")
            reactor.callFromThread(reactor.stop)

        def began():
            global before
            before = len(turns)
            busy(200)

        reactor.callLater(0.05, began)
        reactor.run()
    """
    assert run(script, installed, INSTALL) == ["0", "woken"]


def test_the_hosts_code_wakes_the_guest() -> None:
    """From Twisted's callbacks, from Twisted's threads, and by a Deferred that our coroutine awaits."""
    script = """
        import asyncio
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from pollux_twisted import attach, ensure_deferred

        async def main():
            print(await deferred)
            await from_thread.wait()
            print("thread")
            reactor.stop()

        def began():
            global deferred, from_thread
            loop = attach()
            deferred, from_thread = Deferred(), asyncio.Event()
            ensure_deferred(main())
            reactor.callLater(0.001, deferred.callback, "deferred")
            reactor.callLater(0.002, loop.call_soon, print, "call_soon")
            reactor.callLater(0.003, reactor.callInThread, loop.call_soon_threadsafe, from_thread.set)

        reactor.callWhenRunning(began)
        reactor.run()
    """
    assert run(script) == ["deferred", "call_soon", "thread"]
