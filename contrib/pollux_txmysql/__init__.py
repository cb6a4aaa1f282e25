"""txMySQL's names over a maintained asyncio driver: Deferreds that can be awaited as well."""

from pollux.errors import MissingExtraError

try:
    import asyncmy as _driver  # noqa: F401
    from twisted.internet import defer as _defer  # noqa: F401
except ImportError as error:
    raise MissingExtraError("pollux_txmysql needs Twisted and asyncmy: pip install 'pollux[mysql]'") from error

from pollux_txmysql.answer import Answer
from pollux_txmysql.client import ConnectionPool, MySQLConnection
from pollux_txmysql.errors import ConnectError, ConnectionLostError, MySQLError, PoolExhaustedError, QueryTimeoutError
from pollux_txmysql.interaction import Transaction
from pollux_txmysql.stream import RowStream

__all__ = [
    "Answer",
    "ConnectError",
    "ConnectionLostError",
    "ConnectionPool",
    "MySQLConnection",
    "MySQLError",
    "PoolExhaustedError",
    "QueryTimeoutError",
    "RowStream",
    "Transaction",
]
