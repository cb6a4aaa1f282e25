"""What a connection asks of a database: the seam between `Connection` and sqlite3 or PyMySQL.

Both drivers follow PEP 249 (DB-API 2.0), so that a cursor is used alike. What they differ in is here.
"""

from __future__ import annotations

from typing import Any, Protocol

Parameters = tuple[Any, ...] | list[Any] | dict[str, Any]


class Engine(Protocol):
    """One database, not connected to.

    :ivar where: how messages name it, without a password.
    :ivar may_be_lost: whether a connection that lies idle may be lost: that of a server.
    :ivar failures: what the driver may raise.
    """

    where: str
    may_be_lost: bool
    failures: tuple[type[Exception], ...]

    def connect(self) -> Any:
        """Return a new connection of the driver, each statement a transaction of its own until one says BEGIN."""

    def execute(self, connection: Any, statement: str, parameters: Parameters, *, stream: bool) -> Any:
        """Run a statement and return its cursor. `stream`: leave the rows with the server until they are fetched."""

    def execute_many(self, connection: Any, statement: str, parameters: list[Parameters]) -> tuple[int, int]:
        """Run a statement once for each of the parameters, which are not empty; return rows changed and last key."""

    def abandon(self, cursor: Any) -> None:
        """Let go of a streaming cursor whose connection is to be closed or lost."""

    def in_transaction(self, connection: Any) -> bool:
        """Tell whether there has been a BEGIN without COMMIT or ROLLBACK."""

    def alive(self, connection: Any) -> bool:
        """Ask the server whether the connection still stands."""

    def lost(self, connection: Any, error: BaseException) -> bool:
        """Tell whether `error` means that the connection is of no more use."""
