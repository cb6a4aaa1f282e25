"""`PolluxReactor` where it is more than Twisted's reactors, which Twisted's own tests do not ask about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reactor.loops import BACKENDS, usable

from .scripts import run

POLLERS = [name for name in BACKENDS if name != "twisted"]


@pytest.mark.parametrize("backend", POLLERS)
def test_everything_runs_inside_the_loop(backend: str) -> None:
    """Start-up and shutdown triggers, delayed calls, readers, and what threads ask for."""
    usable(backend)
    script = """
        import asyncio, socket, sys
        import pollux_twisted
        installed = pollux_twisted.install(sys.argv[1])
        from twisted.internet import reactor
        from twisted.internet.protocol import Factory, Protocol
        from twisted.internet.threads import deferToThread
        from pollux import IOLoop

        assert reactor is installed
        assert reactor.loop is IOLoop.current()

        def inside(what):
            assert asyncio.get_running_loop() is IOLoop.current() is reactor.loop
            print(what)

        class Echo(Protocol):
            def dataReceived(self, data):
                inside("read")
                self.transport.write(data)
                self.transport.loseConnection()

        def ask(port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"hello")
                answer = client.recv(10)
            reactor.callFromThread(inside, "from a thread")
            return answer

        def began():
            inside("start-up")
            port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1").getHost().port
            reactor.callLater(0, inside, "call")
            deferToThread(ask, port).addCallback(print).addCallback(lambda _: asked())

        def asked():
            async def main():
                process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
                print((await process.communicate())[0])
                reactor.stop()
            reactor.task = asyncio.get_running_loop().create_task(main())

        reactor.callWhenRunning(began)
        reactor.addSystemEventTrigger("after", "shutdown", inside, "shutdown")
        reactor.run()
        print(reactor.loop.backend.name)
    """
    assert run(script, backend) == [
        *("start-up", "call", "read", "from a thread", "b'hello'", "b'1\\n'", "shutdown", backend)
    ]


def test_stopping_the_loop_stops_the_reactor() -> None:
    script = """
        import pollux_twisted
        reactor = pollux_twisted.install()
        reactor.addSystemEventTrigger("before", "shutdown", print, "before")
        reactor.addSystemEventTrigger("after", "shutdown", print, "after")
        reactor.callWhenRunning(reactor.loop.stop)
        reactor.run()
        print(reactor.running)
    """
    assert run(script) == ["before", "after", "False"]


def test_processes_and_signal_handlers_do_not_disturb_each_other() -> None:
    """An asyncio program's first signal handler takes the wake-up descriptor, which Twisted's own reactors need."""
    script = """
        import os, signal, sys
        import pollux_twisted
        reactor = pollux_twisted.install()
        from twisted.internet.protocol import ProcessProtocol

        class Child(ProcessProtocol):
            def processEnded(self, reason):
                print("ended", reason.value.exitCode)
                os.kill(os.getpid(), signal.SIGUSR1)

        def heard():
            print("heard")
            os.kill(os.getpid(), signal.SIGTERM)

        def began():
            reactor.loop.add_signal_handler(signal.SIGUSR1, heard)
            reactor.spawnProcess(Child(), sys.executable, [sys.executable, "-c", "raise SystemExit(3)"])

        reactor.callWhenRunning(began)
        reactor.addSystemEventTrigger("before", "shutdown", print, "shutdown by SIGTERM")
        reactor.run()
    """
    assert run(script) == ["ended 3", "heard", "shutdown by SIGTERM"]


def test_a_delayed_call_sees_no_strangers_context() -> None:
    script = """
        import contextvars
        import pollux_twisted
        reactor = pollux_twisted.install()
        name = contextvars.ContextVar("name", default="nobody's")

        def stranger():
            name.set("a stranger's")
            reactor.callLater(0.001, end)

        def end():
            print(name.get())
            reactor.stop()

        reactor.callWhenRunning(lambda: contextvars.copy_context().run(stranger))
        reactor.run()
    """
    assert run(script) == ["nobody's"]


def test_a_number_that_was_closed_and_used_again_is_armed_again() -> None:
    """A reused fd never armed again: Twisted #12681."""
    script = """
        import os, socket
        import pollux_twisted
        reactor = pollux_twisted.install()

        class Reader:
            def __init__(self, sock):
                self.sock, self.fd = sock, sock.fileno()
            def fileno(self):
                return self.fd
            def logPrefix(self):
                return "reader"
            def doRead(self):
                print(self.sock.recv(10))
                reactor.stop()
            def connectionLost(self, reason):
                pass

        first, first_peer = socket.socketpair()
        second, second_peer = socket.socketpair()
        reader = Reader(first)
        number = first.fileno()
        reactor.addReader(reader)
        first.close()                       # without removeReader
        os.dup2(second.fileno(), number)
        again = Reader(second)
        again.fd = number
        reactor.addReader(again)
        reactor.callWhenRunning(second_peer.send, b"again")
        reactor.run()
        reactor.removeReader(again)
        for sock in (first_peer, second, second_peer):
            sock.close()
        os.close(number)
    """
    assert run(script) == ["b'again'"]


def test_iterate() -> None:
    """Outside the reactor's run it waits for one thing to happen; inside it is refused."""
    script = """
        import threading
        import pollux_twisted
        reactor = pollux_twisted.install()
        reactor.callLater(0, print, "due")
        reactor.iterate()
        reactor.iterate(0)
        done = []
        threading.Thread(target=reactor.callFromThread, args=(done.append, "from a thread")).start()
        reactor.callLater(0.01, done.append, "later")
        while len(done) < 2:
            reactor.iterate(40)             # ends with the first event
        print(sorted(done))

        def inside():
            try:
                reactor.iterate()
            except RuntimeError as error:
                print(error)
            reactor.stop()

        reactor.callWhenRunning(inside)
        reactor.run()
    """
    lines = run(script)
    refusal = "reactor.iterate() was called while the reactor runs: return to it instead"
    assert lines == ["due", "['from a thread', 'later']", refusal]


def test_crash_and_run_again_but_not_after_stop() -> None:
    script = """
        import pollux_twisted
        reactor = pollux_twisted.install()
        from twisted.internet.error import ReactorAlreadyRunning, ReactorNotRestartable

        def again():
            try:
                reactor.run()
            except ReactorAlreadyRunning:
                print("runs already")
            reactor.crash()

        reactor.callWhenRunning(reactor.crash)
        reactor.run()
        reactor.callLater(0, again)
        reactor.run()
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        try:
            reactor.run()
        except ReactorNotRestartable:
            print("no more")
    """
    assert run(script) == ["runs already", "no more"]


def test_errors_of_callbacks_are_logged_and_the_reactor_lives() -> None:
    script = """
        import sys
        import pollux_twisted
        reactor = pollux_twisted.install()
        from twisted.python import log
        log.startLogging(sys.stdout)

        def fail(what):
            raise what

        def last():
            print("it lives")
            reactor.stop()

        reactor.callLater(0, fail, ValueError("of a delayed call"))
        reactor.callLater(0, reactor.callFromThread, fail, ValueError("of a thread's call"))
        reactor.callLater(0, reactor.loop.add_callback, fail, KeyboardInterrupt("of the loop"))
        reactor.callLater(0, reactor.callFromThread, reactor.loop.add_callback, reactor.callLater, 0, last)
        reactor.run()
    """
    text = "\n".join(run(script))
    for what in (
        "ValueError: of a delayed call",
        "ValueError: of a thread's call",
        "KeyboardInterrupt: of the loop",
        "it lives",
    ):
        assert what in text


def test_what_install_refuses() -> None:
    script = """
        import sys
        import pollux_twisted
        from pollux import BackendError
        for backend in ("twisted", "nonesuch"):
            try:
                pollux_twisted.install(backend)
            except BackendError as error:
                print(str(error).splitlines()[0])
        pollux_twisted.install("poll")
        try:
            pollux_twisted.install()
        except Exception as error:
            print(type(error).__name__, "before anything imports twisted.internet.reactor" in str(error))
    """
    lines = run(script)
    assert "cannot run on the backend 'twisted'" in lines[0]
    assert "nonesuch" in lines[1]
    assert lines[2] == "ReactorAlreadyInstalledError True"


def test_importing_the_package_imports_no_twisted() -> None:
    script = """
        import sys
        import pollux_twisted, pollux_twisted.plugin
        from pollux import registry
        print([backend.name for backend in registry.backends() if backend.name == "twisted"])
        print([name for name in sys.modules if name.partition(".")[0] == "twisted"])
    """
    assert run(script) == ["['twisted']", "[]"]


def test_without_twisted_the_extra_is_named() -> None:
    script = """
        import sys
        sys.modules["twisted.internet"] = None
        import pollux_twisted, pollux_twisted.plugin
        for function, arguments in (
            (pollux_twisted.install, ()), (pollux_twisted.attach, ()),
            (pollux_twisted.ensure_deferred, (None,)), (pollux_twisted.as_future, (None,)),
        ):
            try:
                function(*arguments)
            except ImportError as error:
                print(type(error).__name__, error)
    """
    assert run(script) == ["MissingExtraError pollux_twisted needs Twisted: pip install 'pollux[twisted]'"] * 4


TRIAL = """
from twisted.internet import reactor, task
from twisted.trial.unittest import TestCase
import asyncio

class Tests(TestCase):
    def test_on_our_loop(self):
        def check():
            assert type(reactor).__name__ == "PolluxReactor" and asyncio.get_running_loop() is reactor.loop
            assert reactor.loop.backend.name == "poll"
        return task.deferLater(reactor, 0, check)

    async def test_futures(self):
        future = reactor.loop.create_future()
        reactor.callLater(0, future.set_result, 7)
        from pollux_twisted import ensure_deferred
        assert await ensure_deferred(future) == 7
"""


def test_trial_knows_the_reactor(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TRIAL)
    done = subprocess.run(
        [sys.executable, "-c", "from twisted.scripts.trial import run; run()", "--reactor=pollux", "test_it"],
        cwd=tmp_path, env=os.environ | {"POLLUX_BACKEND": "poll", "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert "PASSED (successes=2)" in done.stdout, done.stdout + done.stderr


def test_twist_knows_the_reactor() -> None:
    """By the function that `twist --reactor=pollux` calls."""
    script = """
        from twisted.application.reactors import installReactor
        reactor = installReactor("pollux")
        print(type(reactor).__module__, reactor.loop.backend.name)
    """
    assert run(script, POLLUX_BACKEND="select") == ["pollux_twisted.reactor select"]


def test_a_descriptor_too_high_for_select_costs_only_its_connection() -> None:
    """Descriptors at or above FD_SETSIZE: Twisted #11553."""
    script = """
        import os, resource, socket, threading
        import pollux_twisted
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        reactor = pollux_twisted.install("select")
        from twisted.internet.protocol import Factory, Protocol
        from twisted.internet.threads import deferToThread
        from twisted.python import log

        class Hello(Protocol):
            def connectionMade(self):
                self.transport.write(b"hello")
                self.transport.loseConnection()

        def began():
            port = reactor.listenTCP(0, Factory.forProtocol(Hello), interface="127.0.0.1").getHost().port
            deferToThread(ask, port).addCallback(print).addErrback(lambda f: print(f)).addBoth(lambda _: reactor.stop())

        def ask(port):
            low = [socket.socket() for _ in range(2)]
            high = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
            client = low.pop()
            client.connect(("127.0.0.1", port))
            told.wait(30)
            client.close()
            for fd in high:
                os.close(fd)
            client = low.pop()
            client.connect(("127.0.0.1", port))
            answer = client.recv(10)
            client.close()
            return answer

        def logged(event):
            if event["isError"]:
                print(event["failure"].type.__name__)
                told.set()

        told = threading.Event()
        log.addObserver(logged)
        reactor.callWhenRunning(began)
        reactor.run()
    """
    assert run(script, stderr="select cannot watch fd") == ["FdLimitError", "b'hello'"]
