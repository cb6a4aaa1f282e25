"""What goes wrong, against the real server: a clear error, nothing hung, the client whole again, nothing run twice."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from pollux.testing.descriptors import refusing_address
from pollux_txmysql import (
    ConnectError,
    ConnectionLostError,
    MySQLConnection,
    MySQLError,
    PoolExhaustedError,
    QueryTimeoutError,
)
from tests.mysql.conftest import Run, connection, pool, until_running
from tests.mysql.server import Server


async def counted_table(one: MySQLConnection, table: str) -> None:
    """A table in which each run of `bump` leaves a row, whatever becomes of it: Aria knows no rollback."""
    await one.runOperation(f"CREATE TABLE {table} (a INT) ENGINE=Aria")


def bump(table: str, seconds: float = 60) -> str:
    """A statement that leaves a row at once, and then runs on."""
    return f"BEGIN NOT ATOMIC INSERT INTO {table} VALUES (1); DO SLEEP({seconds}); END"


async def killed_under(server: Server, watcher: MySQLConnection, words: str) -> None:
    """Wait until the statement runs, kill the server, and start it again."""
    await until_running(watcher, words)
    server.kill()
    server.start()


# Kill -9


def test_killed_under_a_query(run: Run, server: Server, table: str) -> None:
    """An error that says what is not known; not run again; the next query has a new connection."""

    async def main() -> None:
        watcher, one = connection(server), connection(server)
        await counted_table(one, table)
        running, next_one = one.runOperation(bump(table)), one.fetchone("SELECT 1")
        await killed_under(server, watcher, "SLEEP(60)")
        with pytest.raises(ConnectionLostError, match="whether the statement was carried out is not known") as caught:
            await running
        assert caught.value.query == bump(table)
        assert await next_one == 1
        assert await one.fetchone(f"SELECT COUNT(*) FROM {table}") <= 1
        await one.disconnect()
        await watcher.disconnect()

    run(main())


def test_killed_under_a_query_that_may_be_run_again(run_once: Run, server: Server) -> None:
    async def main() -> None:
        watcher, one = connection(server), connection(server, retry_on_error=True)
        number = await one.fetchone("SELECT CONNECTION_ID()")
        running = one.runQuery("SELECT SLEEP(IF(CONNECTION_ID() = %s, 60, 0))", [number])
        await until_running(watcher, "SLEEP(IF(")
        await watcher.runOperation(f"KILL {number}")
        assert await running == [(0,)]  # on the second connection it does not sleep
        await one.disconnect()
        await watcher.disconnect()

    run_once(main())


def test_run_again_three_times_at_most(run_once: Run, server: Server, table: str) -> None:
    """A statement that ends its connection each time."""

    async def main() -> None:
        one = connection(server, retry_on_error=True)
        await counted_table(one, table)
        with pytest.raises(ConnectionLostError):
            await one.runOperation(f"INSERT INTO {table} VALUES (1); KILL CONNECTION_ID()")
        assert await one.fetchone(f"SELECT COUNT(*) FROM {table}") == 3
        other = connection(server)
        with pytest.raises(ConnectionLostError):
            await other.runOperation(f"INSERT INTO {table} VALUES (1); KILL CONNECTION_ID()")
        assert await one.fetchone(f"SELECT COUNT(*) FROM {table}") == 4
        await one.disconnect()
        await other.disconnect()

    run_once(main())


def test_killed_while_idle(run: Run, server: Server) -> None:
    """It is known before the next query is sent, so the caller sees nothing of it; also with many connections."""

    async def main() -> None:
        several = pool(server, num_connections=4)
        await asyncio.gather(*[several.runQuery("SELECT SLEEP(0.01)") for _ in range(8)])
        server.kill()
        server.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await asyncio.gather(*[several.fetchone("SELECT 1") for _ in range(8)]) == [1] * 8
        await several.disconnect()

    run(main())


def test_down_and_up_again(run_once: Run, server: Server) -> None:
    """A query that is asked for while the server is down waits for it, within `connect_timeout`."""

    async def main() -> None:
        one = connection(server)
        await one.fetchone("SELECT 1")
        server.kill()
        await asyncio.sleep(0)
        waiting = one.fetchone("SELECT 2")
        await asyncio.sleep(0.1)  # some attempts in vain
        server.start()
        assert await waiting == 2
        await one.disconnect()

    run_once(main())


@pytest.mark.parametrize("by", ["interaction", "hand"])
def test_killed_in_a_transaction(run: Run, server: Server, table: str, by: str) -> None:
    """Nothing of it stays, nothing of it is run again, not even where `retry_on_error` says so."""

    async def main() -> None:
        one = connection(server, retry_on_error=True)
        await one.runOperation(f"CREATE TABLE {table} (a INT)")
        calls = 0

        async def function(transaction: Any) -> None:
            nonlocal calls
            calls += 1
            await transaction.runOperation(f"INSERT INTO {table} VALUES (1)")
            server.kill()
            server.start()
            await transaction.runOperation(f"INSERT INTO {table} VALUES (2)")

        if by == "interaction":
            with pytest.raises(ConnectionLostError):
                await one.runInteraction(function)
            assert calls == 1
        else:
            await one.runOperation("BEGIN")
            with pytest.raises(ConnectionLostError, match="undone"):
                await function(one)
        assert await one.runQuery(f"SELECT * FROM {table}") == []
        await one.disconnect()

    run(main())


def test_rest_of_a_lost_transaction_is_not_carried_out_by_itself(run_once: Run, server: Server, table: str) -> None:
    """Asked for all at once, as txMySQL's users do: what stands in line behind the loss may be part of it."""

    async def main() -> None:
        watcher, one = connection(server), connection(server, query_timeout=10)
        await one.runOperation(f"CREATE TABLE {table} (a INT)")
        statements = [
            "BEGIN",
            f"INSERT INTO {table} VALUES (1)",
            "DO SLEEP(60)",
            f"INSERT INTO {table} VALUES (2)",
            "COMMIT",
        ]
        for way in ("killed", "cancelled"):
            answers = [one.runOperation(statement) for statement in statements]
            await until_running(watcher, "SLEEP(60)")
            if way == "killed":
                server.kill()
                server.start()
            else:
                answers[2].cancel()
            results = await asyncio.gather(*answers, return_exceptions=True)
            assert [type(result) for result in results[:2]] == [int, int]
            kinds = [
                ConnectionLostError if way == "killed" else CancelledError,
                ConnectionLostError,
                ConnectionLostError,
            ]
            assert [type(result) for result in results[2:]] == kinds
            assert await one.runQuery(f"SELECT * FROM {table}") == []
        await one.disconnect()
        await watcher.disconnect()

    run_once(main())


def test_killed_under_a_statement_of_a_transaction(run_once: Run, server: Server, table: str) -> None:
    async def main() -> None:
        watcher, several = connection(server), pool(server, retry_on_error=True)
        await several.runOperation(f"CREATE TABLE {table} (a INT)")

        async def function(transaction: Any) -> None:
            await transaction.runOperation(f"INSERT INTO {table} VALUES (1)")
            try:
                await transaction.runQuery("SELECT SLEEP(60)")
            except ConnectionLostError:
                await transaction.runOperation(f"INSERT INTO {table} VALUES (2)")

        running = several.runInteraction(function)
        await killed_under(server, watcher, "SLEEP(60)")
        with pytest.raises(ConnectionLostError, match="undone"):
            await running
        assert await several.runQuery(f"SELECT * FROM {table}") == []
        await several.disconnect()
        await watcher.disconnect()

    run_once(main())


def test_killed_while_committing(run_once: Run, server: Server, table: str) -> None:
    """Whether it was committed cannot be known, and that is what is said."""

    async def main() -> None:
        one = connection(server)
        await one.runOperation(f"CREATE TABLE {table} (a INT)")

        async def function(transaction: Any) -> None:
            await transaction.runOperation(f"INSERT INTO {table} VALUES (1)")
            server.freeze()
            asyncio.get_running_loop().call_later(0.1, server.kill)

        with pytest.raises(ConnectionLostError, match="whether the transaction was committed is not known"):
            await one.runInteraction(function)
        server.start()
        assert await one.runQuery(f"SELECT * FROM {table}") == []
        await one.disconnect()

    run_once(main())


# Connecting


@pytest.mark.parametrize(
    ("wrong", "errno", "words"),
    [
        ({"password": "guessed"}, 1045, "Access denied for user 'tester'"),
        ({"username": "stranger"}, 1045, "Access denied for user 'stranger'"),
        ({"database": "nowhere"}, 1049, "Unknown database 'nowhere'"),
    ],
)
def test_server_says_no(run: Run, server: Server, wrong: dict[str, str], errno: int, words: str) -> None:
    """At once: another attempt would change nothing."""

    async def main() -> None:
        account = {"username": server.user, "password": server.password, "database": server.database} | wrong
        user, password, database = account.values()
        one = MySQLConnection(server.host, user, password, database, connect_timeout=3600, port=server.port)
        for _ in range(2):
            with pytest.raises(ConnectError, match=words) as caught:
                await one.runQuery("SELECT 1")
            assert caught.value.errno == errno
            assert "guessed" not in str(caught.value)
        await one.disconnect()

    run(main())


def test_nobody_listens(run: Run) -> None:
    async def main() -> None:
        with refusing_address() as (host, port):
            one = MySQLConnection(host, "me", "secret", port=port, connect_timeout=0.2, retry_on_error=True)
            with pytest.raises(ConnectError, match=r"mysql://me@.* attempts in 0.2 s\): Can't connect"):
                await one.runQuery("SELECT 1")
            await one.disconnect()

    run(main())


def test_host_that_never_answers(run: Run) -> None:
    """It takes the connection and says nothing, as a firewall or a stuck server does."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            one = MySQLConnection("127.0.0.1", "me", "secret", port=silent.getsockname()[1], connect_timeout=0.1)
            with pytest.raises(ConnectError, match="no answer"):
                await one.runQuery("SELECT 1")
            await one.disconnect()

    run(main())


def test_name_that_is_unknown(run_once: Run) -> None:
    async def main() -> None:
        one = MySQLConnection("nowhere.invalid", "me", "secret", connect_timeout=0.3)
        with pytest.raises(ConnectError, match=r"nowhere\.invalid"):
            await one.runQuery("SELECT 1")
        await one.disconnect()

    run_once(main())


# Time


def test_query_past_its_time_is_stopped_on_the_server(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        watcher, several = connection(server), pool(server, num_connections=2, query_timeout=0.1)
        await counted_table(watcher, table)
        before = await several.fetchone("SELECT CONNECTION_ID()")
        with pytest.raises(QueryTimeoutError, match=r"query_timeout, 0.1 s; it was stopped on the server") as caught:
            await several.runOperation(bump(table))
        assert isinstance(caught.value, TimeoutError)
        await until_running(watcher, "SLEEP(60)", count=0)
        numbers = await asyncio.gather(*[several.fetchone("SELECT CONNECTION_ID()") for _ in range(4)])
        assert before not in numbers
        assert await several.fetchone(f"SELECT COUNT(*) FROM {table}") == 1
        await several.disconnect()
        await watcher.disconnect()

    run(main())


def test_queries_within_their_time_are_left_alone(run_once: Run, server: Server) -> None:
    """The time is each statement's own, not that of all of them."""

    async def main() -> None:
        one = connection(server, query_timeout=5)
        for _ in range(3):
            assert await one.fetchone("SELECT SLEEP(0.02)") == 0
        await one.disconnect()

    run_once(main())


def test_frozen_server_is_given_up(run_once: Run, server: Server) -> None:
    """It cannot be told to stop, and that is said."""

    async def main() -> None:
        one = connection(server, query_timeout=0.1, connect_timeout=0.5)
        await one.fetchone("SELECT 1")
        server.freeze()
        try:
            with pytest.raises(QueryTimeoutError, match="could not be stopped on the server"):
                await one.runQuery("SELECT 1")
        finally:
            server.thaw()
        one.connect_timeout = 30
        assert await one.fetchone("SELECT 2") == 2
        await one.disconnect()

    run_once(main())


@pytest.mark.parametrize("way", ["task", "answer"])
def test_cancelled_query_is_stopped_on_the_server(run: Run, server: Server, way: str) -> None:
    async def main() -> None:
        watcher, one = connection(server), connection(server)
        if way == "task":

            async def wait() -> None:
                await one.runQuery("SELECT SLEEP(60)")

            task = asyncio.ensure_future(wait())
            await until_running(watcher, "SLEEP(60)")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            answer = one.runQuery("SELECT SLEEP(60)")
            await until_running(watcher, "SLEEP(60)")
            answer.cancel()
            with pytest.raises(CancelledError):
                await answer
        assert await one.fetchone("SELECT 1") == 1
        await until_running(watcher, "SLEEP(60)", count=0)
        await one.disconnect()
        await watcher.disconnect()

    run(main())


def test_cancelled_in_line_is_never_run(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        one = connection(server)
        await counted_table(one, table)
        first = one.runQuery("SELECT SLEEP(0.02)")
        second, third = one.runOperation(bump(table, 0)), one.fetchone("SELECT 3")
        second.cancel()
        with pytest.raises(CancelledError):
            await second
        assert (await first, await third) == ([(0,)], 3)
        assert await one.fetchone(f"SELECT COUNT(*) FROM {table}") == 0
        await one.disconnect()

    run(main())


# The pool


def test_exhausted_pool(run: Run, server: Server) -> None:
    async def main() -> None:
        watcher, several = connection(server), pool(server, num_connections=2, wait_timeout=0.05)
        busy = [several.runQuery("SELECT SLEEP(60)") for _ in range(2)]
        await until_running(watcher, "SLEEP(60)", count=2)
        with pytest.raises(PoolExhaustedError, match=r"within wait_timeout, 0.05 s: 2 of 2 are in use, 0 others wait"):
            await several.runQuery("SELECT 1")
        for each in busy:
            each.cancel()
            with pytest.raises(CancelledError):
                await each
        several.wait_timeout = None
        assert await asyncio.gather(*[several.fetchone("SELECT 1") for _ in range(4)]) == [1] * 4
        await several.disconnect()
        await watcher.disconnect()

    run(main())


def test_pool_is_whole_after_every_kind_of_failure(run_once: Run, server: Server) -> None:
    async def main() -> None:
        several = pool(server, num_connections=2, query_timeout=0.05)

        async def fails(transaction: Any) -> None:
            raise KeyError("mine")

        for _ in range(3):
            failing: list[Any] = [
                several.runQuery("SELEC"),
                several.runQuery("SELECT SLEEP(60)"),
                several.runOperation("KILL CONNECTION_ID()"),
                several.runInteraction(fails),
                several.selectDb("nowhere"),
                several.runQuery("SELECT %s", [1, 2]),
            ]
            results = await asyncio.gather(*failing, return_exceptions=True)
            kinds = [MySQLError, QueryTimeoutError, ConnectionLostError, KeyError, MySQLError, MySQLError]
            assert [isinstance(result, kind) for result, kind in zip(results, kinds, strict=True)] == [True] * 6
            assert [getattr(results[index], "errno", None) for index in (0, 4)] == [1064, 1049]
        several.query_timeout = None
        numbers = await asyncio.gather(*[several.fetchone("SELECT CONNECTION_ID() + SLEEP(0.02)") for _ in range(6)])
        assert len(set(numbers)) == 2
        await several.disconnect()

    run_once(main())


def test_transaction_by_hand_is_refused_on_a_pool(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        several = pool(server, num_connections=2)
        with pytest.raises(MySQLError, match="Use runInteraction"):
            await several.runOperation("BEGIN")
        await several.runOperation(f"CREATE TABLE {table} (a INT)")
        await several.runOperation(f"INSERT INTO {table} VALUES (1)")
        assert await several.fetchone("SELECT @@in_transaction") == 0
        await several.disconnect()

    run(main())


def test_disconnect_fails_what_runs_and_what_waits(run: Run, server: Server) -> None:
    async def main() -> None:
        watcher, one = connection(server), connection(server)
        running, waiting = one.runQuery("SELECT SLEEP(60)"), one.runQuery("SELECT 2")
        await until_running(watcher, "SLEEP(60)")
        await one.disconnect()
        for each in (running, waiting):
            with pytest.raises(MySQLError, match=r"disconnect\(\)"):
                await each
        await until_running(watcher, "SLEEP(60)", count=0)
        assert await one.fetchone("SELECT 3") == 3
        await one.disconnect()
        await watcher.disconnect()

    run(main())


# What the server says


def test_malformed_sql(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        for method in (one.runQuery, one.runOperation, one.fetchone):
            with pytest.raises(MySQLError, match="You have an error in your SQL syntax") as caught:
                await method("SELEC %s", ["secret"])
            assert (caught.value.errno, caught.value.sqlstate, caught.value.query) == (1064, "42000", "SELEC %s")
            assert caught.value.args[0] == caught.value.msg
        number = await one.fetchone("SELECT CONNECTION_ID()")
        with pytest.raises(MySQLError):
            await one.runQuery("SELECT * FROM nothing")
        assert await one.fetchone("SELECT CONNECTION_ID()") == number
        await one.disconnect()

    run(main())


def test_temporary_errors_are_tried_again_on_another_connection(run_once: Run, server: Server, table: str) -> None:
    """But not in a transaction."""

    async def main() -> None:
        one = connection(server, temporary_error_strings=["come back later"])
        await counted_table(one, table)
        await one.runOperation(
            f"CREATE PROCEDURE {table}() BEGIN INSERT INTO {table} VALUES (CONNECTION_ID());"
            f"IF (SELECT COUNT(*) FROM {table}) < 3 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'come back later';"
            " END IF; END"
        )
        await one.runOperation(f"CALL {table}()")
        assert await one.fetchone(f"SELECT COUNT(DISTINCT a) FROM {table}") == 3
        await one.runOperation(f"TRUNCATE {table}")
        with pytest.raises(MySQLError, match="come back later"):
            await one.runInteraction(lambda transaction: transaction.runOperation(f"CALL {table}()"))
        assert await one.fetchone(f"SELECT COUNT(*) FROM {table}") == 1
        await one.disconnect()

    run_once(main())


def test_server_that_shuts_down_in_order(run_once: Run, server: Server) -> None:
    """It says goodbye (1053, 1927), which is a lost connection like any other."""

    async def main() -> None:
        watcher, one = connection(server), connection(server)
        running = one.runQuery("SELECT SLEEP(60)")
        await until_running(watcher, "SLEEP(60)")
        os.kill(server.pid, signal.SIGTERM)
        with pytest.raises(ConnectionLostError):
            await running
        server.wait()
        server.start()
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()
        await watcher.disconnect()

    run_once(main())
