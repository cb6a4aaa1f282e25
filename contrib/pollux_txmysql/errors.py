"""What a query fails with. `MySQLError` has the shape of txMySQL's; the others say what went wrong around it."""

from __future__ import annotations

from typing import Any

from asyncmy import errors as driver

from pollux.errors import PolluxError

_SHOWN = 200  # characters of a statement in a message: enough to know it by, and no page of data in the log


class MySQLError(PolluxError):
    """The server refused, or could not be asked.

    :ivar msg: the server's words.
    :ivar errno: its number for the error, such as 1062 for a duplicate key; those from 2000 on are the driver's.
    :ivar sqlstate: five characters of SQL's own classification, if the server sent them.
    :ivar query: the statement as it was given, without its parameters.
    """

    def __init__(
        self, message: str, errno: int | None = None, sqlstate: str | None = None, query: str | None = None
    ) -> None:
        super().__init__(message, errno, sqlstate, query)
        self.msg, self.errno, self.sqlstate, self.query = message, errno, sqlstate, query

    def __str__(self) -> str:
        text = self.msg if self.errno is None else f"{self.msg} (MySQL error {self.errno})"
        if self.query is None:
            return text
        shown = self.query if len(self.query) <= _SHOWN else f"{self.query[:_SHOWN]}..."
        return f"{text} [query: {shown}]"


class ConnectError(MySQLError):
    """No connection could be made: nobody answers, wrong password, unknown database. Nothing has been run."""


class ConnectionLostError(MySQLError):
    """The connection was lost, and what ran on it is not known to have been carried out, or not to have been."""


class QueryTimeoutError(MySQLError, TimeoutError):
    """A statement ran for longer than `query_timeout`: its connection is dropped and the server was told to stop it."""


class PoolExhaustedError(MySQLError):
    """No connection became free within `wait_timeout`. Nothing has been run."""


def translated(error: Exception, query: str | None, kind: type[MySQLError] = MySQLError) -> MySQLError:
    """Return ours for what the driver raised: an error of its own, or one of Python's about the parameters."""
    if isinstance(error, MySQLError):
        return error
    arguments: tuple[Any, ...] = error.args
    if isinstance(error, driver.Error) and arguments and isinstance(arguments[0], int):
        words = " ".join(str(word) for word in arguments[1:]) or type(error).__name__
        return kind(words, arguments[0], getattr(error, "sqlstate", None), query)
    return kind(f"{type(error).__name__}: {error}", None, None, query)
