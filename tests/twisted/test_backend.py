"""The backend `twisted`: what becomes of Twisted's reactor. The suites of pollers and loops run on it, too."""

from __future__ import annotations

import pytest

from .scripts import run

REACTORS = ["epollreactor", "pollreactor", "selectreactor"]


@pytest.mark.parametrize("installed", REACTORS)
def test_twisteds_code_runs_inside_the_loop(installed: str) -> None:
    """Whichever reactor is installed: readers, delayed calls, threads, processes, start-up and shutdown triggers."""
    script = """
        import asyncio, importlib, sys
        importlib.import_module("twisted.internet." + sys.argv[1]).install()
        import pollux
        from twisted.internet import reactor, task
        from twisted.internet.defer import Deferred
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
        from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
        from twisted.internet.threads import deferToThread

        def inside(what):
            assert asyncio.get_running_loop().backend.name == "twisted"
            print(what)

        class Echo(Protocol):
            def dataReceived(self, data):
                inside("read")
                self.transport.write(data)

        class Client(Protocol):
            def connectionMade(self):
                self.got = Deferred()
                self.transport.write(b"hello")
            def dataReceived(self, data):
                self.transport.loseConnection()
                self.got.callback(data)

        class Child(ProcessProtocol):
            def __init__(self):
                self.ended = Deferred()
            def processEnded(self, reason):
                self.ended.callback(reason.value.exitCode)

        async def main():
            port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
            client = await connectProtocol(endpoint, Client())
            print(await client.got)
            print(await deferToThread(lambda: "thread"))
            print(await task.deferLater(reactor, 0.001, lambda: "later"))
            child = Child()
            reactor.spawnProcess(child, sys.executable, [sys.executable, "-c", "raise SystemExit(4)"])
            print(await child.ended)
            await asyncio.sleep(0.001)
            await port.stopListening()

        reactor.callWhenRunning(inside, "start-up")
        reactor.addSystemEventTrigger("after", "shutdown", print, "shutdown")
        pollux.run(main(), backend="twisted")
        print("over")
    """
    assert run(script, installed) == [
        *("start-up", "read", "b'hello'", "thread", "later", "4", "shutdown", "over")
    ]  # fmt: skip


def test_a_second_loop_starts_the_reactor_again() -> None:
    script = """
        import asyncio
        import pollux
        from twisted.internet import reactor, task

        async def main():
            print(await task.deferLater(reactor, 0, lambda: "later"), "running", reactor.running)

        for _ in range(2):
            reactor.addSystemEventTrigger("before", "startup", print, "start-up")
            reactor.addSystemEventTrigger("before", "shutdown", print, "shutdown")
            pollux.run(main(), backend="twisted")
            print("running", reactor.running)
    """
    assert run(script) == ["start-up", "later running True", "shutdown", "running False"] * 2


def test_stopping_the_reactor_stops_the_loop_for_good() -> None:
    """What the loop still has to do it does without the reactor; a new loop is refused."""
    script = """
        import asyncio
        from pollux import BackendError, IOLoop
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        loop = IOLoop("twisted")
        slow = deferLater(reactor, 0.01, print, "before triggers are waited for")
        reactor.addSystemEventTrigger("before", "shutdown", lambda: slow)
        reactor.addSystemEventTrigger("after", "shutdown", print, "shutdown")
        reactor.callWhenRunning(reactor.stop)
        loop.start()
        print(loop.run_sync(lambda: asyncio.sleep(0.001, "goes on")))
        loop.close()
        try:
            IOLoop("twisted")
        except BackendError as error:
            print(str(error).splitlines()[0])
    """
    lines = run(script)
    assert lines[:3] == ["before triggers are waited for", "shutdown", "goes on"]
    assert "Twisted's reactor was stopped, and cannot run again in this process" in lines[3]


def test_a_program_that_never_closes_its_loop_shuts_the_reactor_down() -> None:
    """As Tornado's programs do. Twisted's pool of threads, which are no daemons by themselves, must not hold it."""
    script = """
        from pollux import IOLoop
        from twisted.internet import reactor
        from twisted.internet.threads import deferToThread

        loop = IOLoop("twisted")
        reactor.addSystemEventTrigger("before", "shutdown", print, "shutdown")

        def work():
            deferToThread(lambda: "thread").addCallback(print).addCallback(lambda _: loop.stop())

        loop.add_callback(work)
        loop.start()
        print("end")
        import atexit, gc
        atexit.register(lambda: loop.close())       # without a warning; it runs before the reactor's
    """
    assert run(script) == ["thread", "end", "shutdown"]


def test_sigterm_stops_the_reactor_and_the_loop() -> None:
    script = """
        import os, signal
        from pollux import IOLoop
        from twisted.internet import reactor

        loop = IOLoop("twisted")
        reactor.addSystemEventTrigger("before", "shutdown", print, "shutdown")
        reactor.callWhenRunning(os.kill, os.getpid(), signal.SIGTERM)
        loop.start()
        print("stopped", signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        loop.close()
    """
    assert run(script) == ["shutdown", "stopped True"]


def test_signal_handlers_of_the_program_stay() -> None:
    """Its own of SIGTERM, and asyncio's on the loop; SIGINT is Python's."""
    script = """
        import asyncio, os, signal
        import pollux
        from twisted.internet import reactor

        signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM"))

        async def main():
            loop = asyncio.get_running_loop()
            heard = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, heard.set)
            reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
            reactor.callLater(0.001, os.kill, os.getpid(), signal.SIGUSR1)
            await heard.wait()
            print("SIGUSR1", signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)

        pollux.run(main(), backend="twisted")
        print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
        loop = pollux.new_event_loop("twisted")
        reactor.callLater(0, os.kill, os.getpid(), signal.SIGINT)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("SIGINT")
        loop.close()
    """
    assert run(script) == ["SIGTERM", "SIGUSR1 False", "True", "SIGINT"]


def test_another_threads_loop_waits_without_the_reactor() -> None:
    script = """
        import asyncio
        import pollux
        from twisted.internet import reactor
        from twisted.python.threadable import isInIOThread

        told = []  # printed at the end: two threads that print mix their words

        async def in_thread():
            reactor.callFromThread(lambda: told.append(("reactor's thread", isInIOThread())))
            await asyncio.sleep(0.001)
            told.append(("not the reactor's thread", isInIOThread()))

        async def main():
            reactor.callWhenRunning(lambda: None)
            await asyncio.sleep(0)
            await asyncio.to_thread(pollux.run, in_thread(), backend="twisted")

        pollux.run(main(), backend="twisted")
        print(sorted(told))
    """
    assert run(script) == ['[("not the reactor\'s thread", False), ("reactor\'s thread", True)]']


def test_idle_it_does_not_poll_in_vain() -> None:
    script = """
        import asyncio
        import pollux
        from twisted.internet import reactor

        async def main():
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0)
            before = loop.statistics().polls
            done = asyncio.Event()
            reactor.callLater(0.3, done.set)
            await done.wait()
            await asyncio.sleep(0.01)       # statistics are counted now and then
            print(loop.statistics().polls - before < 20)

        pollux.run(main(), backend="twisted")
    """
    assert run(script) == ["True"]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("from twisted.internet import asyncioreactor as a; a.install()", "AsyncioSelectorReactor, cannot be run step"),
        ("import pollux_twisted as p; p.install('poll')", "runs on a Pollux loop already"),
    ],
    ids=["asyncio's", "ours"],
)
def test_reactors_that_cannot_be_run_step_by_step_are_refused(prepare: str, reason: str) -> None:
    script = """
        import sys
        exec(sys.argv[1])
        from pollux import BackendError, IOLoop
        try:
            IOLoop("twisted")
        except BackendError as error:
            print(error)
    """
    text = "\n".join(run(script, prepare))
    assert reason in text
    assert "pollux_twisted.attach()" in text


def test_a_running_reactor_is_refused() -> None:
    script = """
        from pollux import IOLoop
        from twisted.internet import reactor

        def nested():
            loop = IOLoop("twisted")
            try:
                loop.start()
            except RuntimeError as error:
                print(error)
            loop.close()
            reactor.stop()

        reactor.callWhenRunning(nested)
        reactor.run()
    """
    (line,) = run(script)
    assert "running already" in line
    assert "attach()" in line


def test_a_forked_child_leaves_its_parents_reactor_alone() -> None:
    """Its loops wait without the reactor, its end fires no trigger, and the parent's descriptors stay watched."""
    script = """
        import asyncio, os
        import pollux
        from twisted.internet import reactor, task

        async def main():
            child = os.fork()
            if not child:
                return "child"
            await asyncio.to_thread(os.waitpid, child, 0)
            return await task.deferLater(reactor, 0.001, lambda: "parent")

        reactor.addSystemEventTrigger("before", "shutdown", lambda: print("shutdown", end=";", flush=True))

        async def forking():
            loop = asyncio.get_running_loop()
            child = os.fork()
            if not child:
                try:
                    asyncio._set_running_loop(None)
                    pollux.run(asyncio.sleep(0.001), backend="twisted")
                finally:
                    os._exit(7)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            print(os.waitstatus_to_exitcode(status), await task.deferLater(reactor, 0.001, lambda: "parent"))

        pollux.run(forking(), backend="twisted")
    """
    assert run(script) == ["7 parent", "shutdown;"]
