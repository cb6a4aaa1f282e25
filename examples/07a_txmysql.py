"""MySQL by txMySQL's names: callbacks, await, a transaction, rows one after the other.

python examples/07a_txmysql.py HOST[:PORT] USER PASSWORD DATABASE
"""

import sys
from typing import Any

from twisted.internet.defer import Deferred

from pollux import IOLoop
from pollux_txmysql import ConnectionPool, MySQLError, Transaction


def with_callbacks(pool: ConnectionPool) -> Deferred[None]:
    """A query returns a Deferred, as Twisted's programs expect."""

    def show(rows: list[Any]) -> None:
        for number, name, money in rows:
            print(f"account {number} of {name}: {money}")

    return pool.runQuery("SELECT id, name, money FROM pollux_account ORDER BY id").addCallback(show)


async def transfer(transaction: Transaction, source: int, target: int, amount: int) -> None:
    """All of it, or nothing."""
    update = "UPDATE pollux_account SET money = money + %s WHERE id = %s"
    await transaction.runOperation(update, [amount, target])
    await transaction.runOperation(update, [-amount, source])
    if await transaction.fetchone("SELECT money FROM pollux_account WHERE id = %s", [source]) < 0:
        raise ValueError(f"account {source} has not got {amount}")


async def main(pool: ConnectionPool) -> None:
    await pool.runOperation(
        "CREATE OR REPLACE TABLE pollux_account (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT, money INT)"
    )
    for name in ("Ada", "Grace"):
        await pool.runOperation("INSERT INTO pollux_account (name, money) VALUES (%s, 100)", [name])
    await with_callbacks(pool)
    for amount in (60, 60):
        try:
            await pool.runInteraction(transfer, 1, 2, amount)
            print(f"{amount} transferred")
        except ValueError as error:
            print("rolled back:", error)
    async for row in pool.stream("SELECT name, money FROM pollux_account ORDER BY id", as_dict=True):
        print(row)
    try:
        await pool.runQuery("SELECT nothing FROM pollux_account")
    except MySQLError as error:
        print(f"error {error.errno}: {error.msg}")
    await pool.runOperation("DROP TABLE pollux_account")
    await pool.disconnect()


if __name__ == "__main__":
    host, user, password, database = sys.argv[1:]
    name, _, port = host.partition(":")
    pool = ConnectionPool(name, user, password, database, port=int(port or 3306), query_timeout=10)
    IOLoop.current().run_sync(lambda: main(pool))
    IOLoop.current().close()
