"""What a database says no with: the classes of PEP 249, the same ones whichever database it is.

sqlite3 and PyMySQL each have such classes of their own, under the same names. A program that catches them would have to
name the driver, so they become these; the driver's own error is the cause (`__cause__`).
"""

from __future__ import annotations

from pollux.errors import PolluxError

_SHOWN = 200  # characters of a statement in a message: enough to know it by, and no page of data in the log


class DatabaseError(PolluxError):
    """Base of the errors of this package.

    :ivar code: the database's own number of the error (MySQL: 1062 for a duplicate key; SQLite: its extended result
        code), None where it gave none.
    :ivar statement: the statement as it was given, without its parameters; None where there was none.
    """

    def __init__(self, message: str, code: int | None = None, statement: str | None = None) -> None:
        if statement is not None:
            shown = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]}..."
            message = f"{message} [statement: {shown}]"
        super().__init__(message)
        self.code = code
        self.statement = statement


class DataError(DatabaseError):
    """A value does not fit: too long, out of range, no date."""


class IntegrityError(DatabaseError):
    """A constraint is broken: a duplicate key, a NULL where none may be, a reference to nothing."""


class InterfaceError(DatabaseError):
    """The connection is used in a way it cannot be: closed, or from another thread."""


class InternalError(DatabaseError):
    """The database is at fault."""


class NotSupportedError(DatabaseError):
    """This database cannot do that."""


class OperationalError(DatabaseError):
    """The database could not do it now: not reachable, wrong password, connection lost, locked, disk full."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: its syntax, a table that is not there, parameters that do not match it."""


_CLASSES: dict[str, type[DatabaseError]] = {
    kind.__name__: kind
    for kind in (
        DataError, DatabaseError, IntegrityError, InterfaceError, InternalError, NotSupportedError, OperationalError,
        ProgrammingError,
    )
}  # fmt: skip


def translated(error: Exception, statement: str | None = None) -> DatabaseError:
    """Return ours for an error of a driver. What is no class of PEP 249 (a TypeError) is a `ProgrammingError`."""
    kind = next((_CLASSES[each.__name__] for each in type(error).__mro__ if each.__name__ in _CLASSES), None)
    if kind is None and isinstance(error, (UnicodeError, OverflowError)):  # not in this character set; past 64 bits
        kind = DataError
    if kind is None:
        return ProgrammingError(f"{type(error).__name__}: {error}", None, statement)
    if error.args and isinstance(error.args[0], int):  # PyMySQL: the number first
        code, words = error.args[0], " ".join(str(word) for word in error.args[1:])
        return kind(f"{words or type(error).__name__} (MySQL error {code})", code, statement)
    return kind(str(error), getattr(error, "sqlite_errorcode", None), statement)
