"""Queries, on every backend: what they return, in which order, on which connection."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from twisted.internet import defer
from twisted.python.failure import Failure

import pollux
from pollux import gen
from pollux_txmysql import Answer, ConnectError, MySQLConnection, MySQLError
from tests.mysql.conftest import Run, connection, pool
from tests.mysql.server import Server


def test_every_method(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        one = connection(server)
        assert await one.runOperation(f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT)") == 0
        assert await one.runOperation(f"INSERT INTO {table} (name) VALUES (%s), (%s)", ["a", "b"]) == 2
        assert await one.runQuery(f"SELECT * FROM {table} ORDER BY id") == [(1, "a"), (2, "b")]
        assert await one.runQuery(f"SELECT * FROM {table} WHERE id > %s", (1,), as_dict=True) == [
            {"id": 2, "name": "b"}
        ]
        assert await one.runQuery(f"SELECT * FROM {table} WHERE id > 7") == []
        assert await one.runQuery(f"DELETE FROM {table} WHERE id = 1") == []
        assert await one.fetchone(f"SELECT name, id FROM {table}") == "b"
        assert await one.fetchone(f"SELECT name, id FROM {table} WHERE id = %s", [7]) is None
        assert await one.fetchone("SELECT LAST_INSERT_ID()") == 1
        await one.disconnect()

    run(main())


def test_parameters_never_become_sql(run: Run, server: Server) -> None:
    hostile: list[Any] = [
        "'); DROP TABLE t;--",
        '"',
        "\\",
        "\\'",
        "%s %(a)s %%",
        "\n\r\x1a\0",
        "日本 🎉",
        b"\0\xff'\\\"",
        "",
    ]

    async def main() -> None:
        one = connection(server)
        for value in hostile:
            for query, arguments in (
                ("SELECT %s, 7 %% 4", (value,)),
                ("SELECT %(a)s, 7 %% 4", {"a": value}),
                ("SELECT %s, 7 %% 4 FROM dual WHERE %s IN %s", [value, value, ["other", value]]),
            ):
                assert await one.runQuery(query, arguments) == [(value, 3)]
        assert await one.runQuery("SELECT '%', '%s', 7 % 4") == [("%", "%s", 3)]
        await one.disconnect()

    run(main())


def test_what_cannot_be_escaped_is_refused(run: Run, server: Server) -> None:
    """In this mode a backslash is a character like any other, and the driver would escape by backslashes."""

    async def main() -> None:
        one = connection(server)
        await one.runOperation("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
        quote = "' OR 1=1 -- \\"
        assert await one.runQuery("SELECT 'x' IN (%s)", (quote,)) == [(0,)]
        assert await one.runQuery("SELECT 'x' IN (%(a)s)", {"a": quote}) == [(0,)]
        refused: list[Any] = [(quote.encode(),), {"a": quote.encode()}, ([quote.encode()],), ([quote],)]
        for several in refused:
            with pytest.raises(MySQLError, match="cannot be escaped safely"):
                await one.runQuery("SELECT 1 IN (%s)", several)
        await one.disconnect()

    run(main())


def test_parameters_that_do_not_match(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        several: list[Any] = [(), (1, 2), {"b": 1}, [[1], [2]]]
        for arguments in several:
            with pytest.raises(MySQLError, match=r"format string|placeholders"):
                await one.runQuery("SELECT %s" if not isinstance(arguments, dict) else "SELECT %(a)s", arguments)
        assert await one.fetchone("SELECT 1") == 1
        await one.disconnect()

    run(main())


def test_one_connection_runs_one_after_the_other(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        one = connection(server)
        one.runOperation(f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, a INT)")
        for number in range(50):
            one.runOperation(f"INSERT INTO {table} (a) VALUES (%s)", [number])
        rows = await one.runQuery(f"SELECT id, a FROM {table} ORDER BY id")
        assert rows == [(number + 1, number) for number in range(50)]
        await one.disconnect()

    run(main())


def test_pool_uses_its_connections_at_once_and_again(run: Run, server: Server) -> None:
    async def main() -> None:
        several = pool(server, num_connections=3)
        numbers = await asyncio.gather(*[several.fetchone("SELECT CONNECTION_ID() + SLEEP(0.01)") for _ in range(12)])
        assert len(set(numbers)) == 3
        assert await several.fetchone("SELECT CONNECTION_ID()") in numbers
        assert {await several.fetchone("SELECT CONNECTION_ID()") for _ in range(5)} <= set(numbers)
        await several.disconnect()

    run(main())


def test_answers_in_every_dialect(run: Run, server: Server) -> None:
    """Callbacks, tasks, Twisted's coroutines started in a task, Tornado's, asyncio's combinations."""

    @defer.inlineCallbacks
    def twisted_generator(one: MySQLConnection) -> Any:
        value = yield one.fetchone("SELECT 1")
        try:
            yield one.runQuery("SELEC")
        except MySQLError as error:
            return value, error.errno

    async def twisted_coroutine(one: MySQLConnection) -> Any:
        return await one.fetchone("SELECT 2"), await one.fetchone("SELECT 3")

    @gen.coroutine
    def tornado_generator(one: MySQLConnection) -> Any:
        value = yield one.fetchone("SELECT 4")
        several = yield [one.fetchone("SELECT 5"), one.fetchone("SELECT 6")]
        return value, several

    async def main() -> None:
        one = connection(server)
        loop = asyncio.get_running_loop()

        def finished(deferred: Any) -> asyncio.Future[Any]:
            future = loop.create_future()
            deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
            return future

        assert await finished(twisted_generator(one)) == (1, 1064)
        assert await finished(defer.ensureDeferred(twisted_coroutine(one))) == (2, 3)
        assert await tornado_generator(one) == (4, [5, 6])
        assert await asyncio.wait_for(one.fetchone("SELECT 7"), 30) == 7
        assert await finished(one.fetchone("SELECT 8").addCallback(lambda value: value + 1)) == 9
        both = await asyncio.gather(one.runQuery("SELEC"), one.fetchone("SELECT 1"), return_exceptions=True)
        assert isinstance(both[0], MySQLError)
        assert both[1] == 1
        chained = one.fetchone("SELECT 1").addCallback(lambda value: one.fetchone("SELECT %s + 10", [value]))
        assert await chained == 11
        done = one.fetchone("SELECT 10")
        await one.fetchone("SELECT 1")
        assert await done == await done == 10
        failed = one.runQuery("SELEC")
        seen: list[Failure] = []
        failed.addErrback(seen.append)
        await one.fetchone("SELECT 1")
        assert seen[0].check(MySQLError)
        await one.disconnect()

    run(main())


def test_failure_keeps_its_traceback(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        with pytest.raises(MySQLError) as caught:
            await one.runQuery("SELEC")
        assert [entry.name for entry in caught.traceback][-1] == "_attempt"
        assert caught.value.__cause__ is not None
        await one.disconnect()

    run(main())


def test_select_db(run: Run, server: Server) -> None:
    """It holds for what is asked for afterwards, on every connection of a pool; one that fails changes nothing."""

    async def main() -> None:
        several = pool(server, num_connections=2)
        current = "SELECT CONCAT(DATABASE(), LEFT(SLEEP(0.01), 0))"
        before = [several.fetchone(current) for _ in range(4)]
        selected = several.selectDb("other")
        after = [several.fetchone(current) for _ in range(4)]
        assert [await each for each in before] == ["test"] * 4
        await selected
        assert [await each for each in after] == ["other"] * 4
        with pytest.raises(MySQLError, match="Unknown database 'nowhere'") as caught:
            await several.selectDb("nowhere")
        assert caught.value.errno == 1049
        assert await several.fetchone(current) == "other"
        await several.disconnect()
        assert await several.fetchone(current) == "other"
        one = connection(server)
        assert await one.fetchone("SELECT DATABASE()") == "test"
        await one.runOperation("use other")
        assert await one.fetchone("SELECT DATABASE()") == "other"
        await one.disconnect()
        await several.disconnect()

    run(main())


def test_several_statements_in_one(run: Run, server: Server) -> None:
    """The first result counts, and what fails later does not hit the next query."""

    async def main() -> None:
        one = connection(server)
        assert await one.runQuery("SELECT 1; SELECT 2") == [(1,)]
        with pytest.raises(MySQLError, match="nothing"):
            await one.runQuery("SELECT 1; SELECT * FROM nothing")
        assert await one.runQuery("SELECT 3") == [(3,)]
        await one.disconnect()

    run(main())


def test_table_that_changes_under_a_prepared_statement(run: Run, server: Server, table: str) -> None:
    async def main() -> None:
        one = connection(server)
        await one.runOperation(f"CREATE TABLE {table} (a INT)")
        await one.runOperation(f"INSERT INTO {table} VALUES (1)")
        query = f"SELECT * FROM {table} WHERE 1 = %s"
        expected = {"a INT": (1,), "MODIFY a TEXT": ("1",), "ADD b INT DEFAULT 7": ("1", 7), "DROP a": (7,)}
        for change, row in expected.items():
            if change != "a INT":
                await one.runOperation(f"ALTER TABLE {table} {change}")
            assert await one.runQuery(query, [1]) == [row]
            assert await one.runQuery(query, [1]) == [row]
        await one.disconnect()

    run(main())


def test_more_statements_than_are_kept_prepared(run_once: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        for number in range(250):
            assert await one.runQuery(f"SELECT {number} + %s", [1]) == [(number + 1,)]
        (row,) = await one.runQuery("SHOW STATUS LIKE 'Prepared_stmt_count'")
        assert int(row[1]) <= 101
        await one.disconnect()

    run_once(main())


def test_tls(run: Run, server: Server) -> None:
    async def main() -> None:
        trusting, strange = ssl.create_default_context(), ssl.create_default_context()
        server.authority.configure_trust(trusting)
        one = connection(server, tls=trusting)
        ((_, cipher),) = await one.runQuery("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cipher
        assert await one.fetchone("SELECT LENGTH(%s)", ["x" * 1_000_000]) == 1_000_000
        assert len(await one.fetchone("SELECT REPEAT('x', 1000000)")) == 1_000_000
        await one.disconnect()
        for context in (strange, True):
            other = connection(server, tls=context)
            with pytest.raises(ConnectError, match="certificate verify failed"):
                await other.fetchone("SELECT 1")
            await other.disconnect()

    run(main())


def test_unix_socket(run: Run, server: Server) -> None:
    async def main() -> None:
        one = MySQLConnection(server.socket, server.user, server.password)
        assert await one.runQuery("SELECT DATABASE()") == [(None,)]
        await one.disconnect()

    run(main())


def test_idle_connection_is_closed(run: Run, server: Server) -> None:
    async def main() -> None:
        one, watcher = connection(server, idle_timeout=0.05), connection(server)
        number = await one.fetchone("SELECT CONNECTION_ID()")
        while await watcher.fetchone("SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s", [number]):
            await asyncio.sleep(0)
        assert await one.fetchone("SELECT CONNECTION_ID()") != number
        await one.disconnect()
        await watcher.disconnect()

    run(main())


def test_client_lives_in_one_loop_at_a_time(server: Server) -> None:
    """What a loop leaves is closed with it; the next one may use the client. Two at a time may not."""
    one = connection(server)
    for _ in range(2):
        pollux.run(_asked(one))

    async def outer() -> None:
        await one.fetchone("SELECT 1")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, _elsewhere, one)

    pollux.run(outer())
    with pytest.raises(MySQLError, match="there is no event loop here"):
        one.runQuery("SELECT 1")


async def _asked(one: MySQLConnection) -> None:
    assert await one.fetchone("SELECT 1") == 1


def _elsewhere(one: MySQLConnection) -> None:
    with pytest.raises(MySQLError, match="a client is for one loop at a time"):
        pollux.run(_asked(one))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_connections is 0, expected at least 1"):
        pool(_Nowhere, num_connections=0)  # type: ignore[arg-type]


class _Nowhere:
    host, user, password, database, port = "localhost", "me", "secret", "test", 1


def test_answer_type(run: Run, server: Server) -> None:
    async def main() -> None:
        one = connection(server)
        answer = one.runQuery("SELECT 1")
        assert isinstance(answer, Answer)
        assert isinstance(answer, defer.Deferred)
        await answer
        await one.disconnect()

    run(main())
