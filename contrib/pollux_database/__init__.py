"""A small synchronous database module: SQLite, and MySQL by a URL; and its twin that can be awaited."""

from pollux_database.async_connection import AsyncConnection
from pollux_database.blocking import BlockingWarning
from pollux_database.connection import Connection
from pollux_database.errors import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from pollux_database.row import Row

__all__ = [
    "AsyncConnection",
    "BlockingWarning",
    "Connection",
    "DataError",
    "DatabaseError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Row",
]
