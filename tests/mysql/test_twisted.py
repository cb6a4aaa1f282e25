"""In programs of Twisted: an existing one, whose reactor our loop attaches to, and one on our reactor."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.mysql.server import Server
from tests.reactor.loops import BACKENDS, usable

# A program as txMySQL's users have it: it knows nothing of our loop but the line that is put before it.
PROGRAM = """
import sys
{first}
from twisted.internet import defer, reactor, task
from pollux_txmysql import ConnectionPool, MySQLError

pool = ConnectionPool(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], port=int(sys.argv[5]), query_timeout=0.2)

@defer.inlineCallbacks
def with_generators():
    rows = yield pool.runQuery("SELECT %s, %s", ["a", 1])
    print("generator", rows)
    try:
        yield pool.runQuery("SELECT SLEEP(60)")
    except MySQLError as error:
        print("timeout", type(error).__name__)

async def with_coroutines():
    print("coroutine", await pool.fetchone("SELECT 2"))
    await task.deferLater(reactor, 0)
    async def function(transaction):
        return await transaction.fetchone("SELECT @@in_transaction")
    print("transaction", await pool.runInteraction(function))
    print("stream", sum([row[0] async for row in pool.stream("SELECT seq FROM seq_1_to_500")]))

def with_callbacks():
    return defer.gatherResults([pool.fetchone("SELECT %s", [n]) for n in range(10)]).addCallback(
        lambda found: print("callbacks", found))

def main():
    d = with_callbacks()
    d.addCallback(lambda _: with_generators())
    d.addCallback(lambda _: defer.ensureDeferred(with_coroutines()))
    d.addCallback(lambda _: pool.disconnect())
    d.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    d.addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(main)
reactor.run()
print("stopped", type(reactor).__name__)
"""
SAID = [
    "callbacks [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
    "generator [('a', 1)]",
    "timeout QueryTimeoutError",
    "coroutine 2",
    "transaction 1",
    "stream 125250",
]


def output(server: Server, first: str, backend: str | None = None, warnings: str = "error") -> list[str]:
    """Run the program in a process of its own and return its lines; nothing may be said on stderr."""
    account = [server.host, server.user, server.password, server.database, str(server.port)]
    command = [sys.executable, "-W", warnings, "-c", PROGRAM.replace("{first}", textwrap.dedent(first)), *account]
    environment = os.environ | ({"POLLUX_BACKEND": backend} if backend else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("reactor", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
def test_existing_program_attaches(server: Server, reactor: str) -> None:
    first = f"""
    from twisted.internet import {reactor}
    {reactor}.install()
    import pollux_twisted
    pollux_twisted.attach()
    """
    # The loop that asyncioreactor makes for itself is never closed.
    *lines, end = output(server, first, warnings="ignore" if reactor == "asyncioreactor" else "error")
    assert lines == SAID
    assert end != "stopped PolluxReactor"


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "twisted"])
def test_program_on_our_reactor(server: Server, backend: str) -> None:
    first = """
    import pollux_twisted
    pollux_twisted.install()
    """
    assert output(server, first, usable(backend).name) == [*SAID, "stopped PolluxReactor"]


def test_program_that_forgets_to_attach_is_told(server: Server) -> None:
    """Not left to wait for a loop that never runs."""
    script = """
    from pollux_txmysql import ConnectionPool, MySQLError
    try:
        ConnectionPool("localhost", "me", "secret").runQuery("SELECT 1")
    except MySQLError as error:
        print(error)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("there is no event loop here")
    assert done.stderr == ""
