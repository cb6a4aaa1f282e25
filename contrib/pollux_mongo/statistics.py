"""What a pool can say of itself, from PyMongo's monitors (docs: pymongo.monitoring).

The events of connections and servers are always counted: two counters change for each operation. Commands are counted
only if asked for (`count_commands=True`), as the driver then makes three objects and takes two times for each.

The driver calls monitors in the loop, between two steps of its own, so nothing here may wait or raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymongo import monitoring


@dataclass(frozen=True, slots=True)
class CommandStatistics:
    """One kind of command.

    :ivar count: how often the server has answered, or could not.
    :ivar failures: how many of them failed.
    :ivar seconds: from sending to the answer, of all together.
    """

    count: int
    failures: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot of a pool; counts are since it was made.

    :ivar pool_id: its name.
    :ivar open: connections that are open now, those that monitor servers not counted.
    :ivar in_use: those of them that are at work.
    :ivar waiting: operations that wait for a connection now.
    :ivar created: connections that were made.
    :ivar closed: connections that were closed: idle, worn out, or broken.
    :ivar operations: how often a connection was taken for an operation; a retry counts again.
    :ivar refused: how often none was to be had: no connection could be made, or none was free in time.
    :ivar cleared: how often all connections to a server were given up, because it failed.
    :ivar heartbeats: answered ones.
    :ivar failed_heartbeats: the others.
    :ivar servers: pairs ("host:port", kind of server), as of now; "Unknown" is one that does not answer.
    :ivar commands: by name; empty without `count_commands=True`.
    """

    pool_id: str
    open: int
    in_use: int
    waiting: int
    created: int
    closed: int
    operations: int
    refused: int
    cleared: int
    heartbeats: int
    failed_heartbeats: int
    servers: tuple[tuple[str, str], ...]
    commands: dict[str, CommandStatistics]


class ConnectionMonitor(monitoring.ConnectionPoolListener):
    """Counts what happens to connections."""

    def __init__(self) -> None:
        self.created = self.closed = self.started = self.taken = self.returned = self.refused = self.cleared = 0

    def pool_created(self, event: Any) -> None:
        """Nothing to count."""

    pool_ready = pool_closed = connection_ready = pool_created

    def pool_cleared(self, event: Any) -> None:
        """Count."""
        self.cleared += 1

    def connection_created(self, event: Any) -> None:
        """Count."""
        self.created += 1

    def connection_closed(self, event: Any) -> None:
        """Count."""
        self.closed += 1

    def connection_check_out_started(self, event: Any) -> None:
        """Count."""
        self.started += 1

    def connection_check_out_failed(self, event: Any) -> None:
        """Count."""
        self.refused += 1

    def connection_checked_out(self, event: Any) -> None:
        """Count."""
        self.taken += 1

    def connection_checked_in(self, event: Any) -> None:
        """Count."""
        self.returned += 1


class HeartbeatMonitor(monitoring.ServerHeartbeatListener):
    """Counts heartbeats."""

    def __init__(self) -> None:
        self.answered = self.failed_ones = 0

    def started(self, event: Any) -> None:
        """Nothing to count."""

    def succeeded(self, event: Any) -> None:
        """Count."""
        self.answered += 1

    def failed(self, event: Any) -> None:
        """Count."""
        self.failed_ones += 1


class CommandMonitor(monitoring.CommandListener):
    """Counts and times commands."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}  # name: count, failures, seconds

    def started(self, event: Any) -> None:
        """Nothing to count."""

    def succeeded(self, event: Any) -> None:
        """Count."""
        self._ended(event, 0)

    def failed(self, event: Any) -> None:
        """Count."""
        self._ended(event, 1)

    def _ended(self, event: Any, failures: int) -> None:
        numbers = self._found.setdefault(event.command_name, [0, 0, 0.0])
        numbers[0] += 1
        numbers[1] += failures
        numbers[2] += event.duration_micros / 1e6

    def snapshot(self) -> dict[str, CommandStatistics]:
        """Return what was counted."""
        return {
            name: CommandStatistics(int(count), int(failures), seconds)
            for name, (count, failures, seconds) in sorted(self._found.items())
        }
