"""MySQL and MariaDB, by PyMySQL: the protocol in Python, synchronous; what the extra `mysql` brings.

* PyMySQL puts the parameters into the statement on this side, escaped by the character set and SQL mode of the
  connection. A statement without parameters is sent as it is, percent signs and all.
* It connects in the same call that makes the connection, and closes it by itself when the server is gone: `open` tells.
* A server ends a connection that has been idle for `wait_timeout` (8 hours unless set), and routers forget it earlier.

https://pymysql.readthedocs.io/, https://mariadb.com/kb/en/mariadb-error-code-reference/
"""

from __future__ import annotations

from typing import Any

from pollux.errors import MissingExtraError
from pollux_database.engine import Parameters
from pollux_database.errors import ProgrammingError

# Shutdown, connection killed (MariaDB, MySQL), idle for too long: the server says this and then hangs up.
_FAREWELLS = frozenset({1053, 1927, 3169, 4031})
_IN_TRANSACTION = 1  # SERVER_STATUS_IN_TRANS


class Mysql:
    """A database of a server.

    :param address: `host`, `port`, `unix_socket`, `user`, `password` and `database`, as far as they are known.
    :param options: for `pymysql.connect`, and `time_zone` ("+0:00"), the session's. Unless they say otherwise: text is
        `utf8mb4`, connecting may take 10 seconds, and `sql_mode` is TRADITIONAL, in which data that does not fit is an
        error rather than cut off.
    :raises MissingExtraError: PyMySQL is not installed.
    """

    may_be_lost = True

    def __init__(self, address: dict[str, Any], options: dict[str, Any]) -> None:
        try:
            import pymysql  # type: ignore[import-untyped, unused-ignore]
            import pymysql.cursors  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            raise MissingExtraError("a MySQL database needs PyMySQL: pip install 'pollux[mysql]'") from error
        self._driver = pymysql
        self.failures: tuple[type[Exception], ...] = (
            pymysql.err.Error, pymysql.err.Warning, OSError, UnicodeError,
        )  # fmt: skip
        known = {name: value for name, value in address.items() if value is not None}
        at = known.get("unix_socket") or f"{known.get('host', 'localhost')}:{known.get('port', 3306)}"
        self.where = f"mysql://{known.get('user', '')}@{at}/{known.get('database', '')}"
        usual = {"charset": "utf8mb4", "connect_timeout": 10, "sql_mode": "TRADITIONAL", "time_zone": "+0:00"}
        self._options = usual | known | options
        self._time_zone = self._options.pop("time_zone")

    def connect(self) -> Any:
        connection = self._driver.connect(**self._options, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = %s", (self._time_zone,))
        return connection

    def execute(self, connection: Any, statement: str, parameters: Parameters, *, stream: bool) -> Any:
        cursor = connection.cursor(self._driver.cursors.SSCursor if stream else None)
        cursor.execute(self._complete(cursor, statement, parameters))
        return cursor

    def execute_many(self, connection: Any, statement: str, parameters: list[Parameters]) -> tuple[int, int]:
        with connection.cursor() as cursor:
            for each in parameters:
                self._complete(cursor, statement, each)
            changed = cursor.executemany(statement, parameters)
            return max(changed or 0, 0), cursor.lastrowid or 0

    def _complete(self, cursor: Any, statement: str, parameters: Parameters) -> str:
        try:
            complete: str = cursor.mogrify(statement, parameters or None)
        # Of Python's % operator, or what PyMySQL makes of that.
        except (TypeError, ValueError, KeyError, self._driver.err.ProgrammingError) as error:
            raise _mismatch(error, statement) from error
        return complete

    def abandon(self, cursor: Any) -> None:
        """PyMySQL's cursor and its result both read what is left when they are deleted, closed connection or not."""
        cursor.connection = None
        if cursor._result is not None:
            cursor._result.unbuffered_active = False

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.server_status & _IN_TRANSACTION)

    def alive(self, connection: Any) -> bool:
        try:
            connection.ping(reconnect=False)
        except self.failures:
            return False
        return True

    def lost(self, connection: Any, error: BaseException) -> bool:
        return not connection.open or (bool(error.args) and error.args[0] in _FAREWELLS)


def _mismatch(error: Exception, statement: str) -> ProgrammingError:
    return ProgrammingError(
        f"the parameters do not match the placeholders: {type(error).__name__}: {error}; expected a %s for each (or "
        "%(name)s for named ones), and %% for a percent sign",
        None,
        statement,
    )
