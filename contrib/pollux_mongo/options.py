"""From asyncmongo's options to the driver's, without I/O.

Where the two differ:

* asyncmongo had no limit of connections and failed at once when one was given and reached. The driver has 100, and
  whoever finds none free waits: without limit, or for `waitQueueTimeoutMS`.
* asyncmongo looked for its user in the database it worked on; so `dbuser` without a URI does that, too, and not in
  `admin`, which is the driver's default.
* Every option of the driver (docs: pymongo.asynchronous.mongo_client) may be given beside asyncmongo's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pymongo.driver_info import DriverInfo

PORT = 27017
BACKENDS = (None, "tornado", "pollux")  # of asyncmongo there were others: glib


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What makes a pool. Two clients with one `pool_id` must agree in all of it.

    :ivar dbname: the database, None for the URI's.
    :ivar maxcached: idle connections that are kept, 0 for all.
    :ivar maxusage: operations after which a connection is closed, 0 for none.
    :ivar count_commands: whether commands are counted and timed, each by its name.
    :ivar listeners: the caller's own monitors.
    :ivar driver: keyword arguments of `AsyncMongoClient`.
    """

    dbname: str | None
    maxcached: int
    maxusage: int
    count_commands: bool
    listeners: tuple[Any, ...]
    driver: dict[str, Any]

    @property
    def where(self) -> str:
        """The server or servers, as a name for a pool that was given none. Without a password."""
        host = self.driver["host"]
        text = ",".join(host) if isinstance(host, list) else str(host)
        scheme, _, rest = text.rpartition("://")
        return f"{scheme or 'mongodb'}://{rest.rpartition('@')[2]}"

    def differences(self, other: PoolOptions) -> list[str]:
        """Return the names of what `other` has otherwise; never the values, as one may be a password."""
        mine, others = self._flat(), other._flat()
        absent = object()
        return sorted(name for name in {*mine, *others} if mine.get(name, absent) != others.get(name, absent))

    def _flat(self) -> dict[str, Any]:
        own = {"dbname": self.dbname, "maxcached": self.maxcached, "maxusage": self.maxusage}
        return {**self.driver, **own, "count_commands": self.count_commands, "event_listeners": self.listeners}


def pool_options(
    host: str | None = None,
    port: int | None = None,
    dbname: str | None = None,
    dbuser: str | None = None,
    dbpass: str | None = None,
    mincached: int = 0,
    maxcached: int = 0,
    maxconnections: int | None = None,
    maxusage: int = 0,
    *,
    uri: str | None = None,
    rs: str | None = None,
    seed: Iterable[tuple[str, int] | str] | None = None,
    slave_okay: bool = False,
    secondary_only: bool = False,
    autoreconnect: bool = True,
    backend: str | None = None,
    count_commands: bool = False,
    event_listeners: Iterable[Any] = (),
    **driver: Any,
) -> PoolOptions:
    """Return the options of `Client`, checked; see there for what they mean.

    :raises ValueError: a limit is negative or contradicts another one; the backend is unknown.
    :raises TypeError: options exclude each other, or a limit is no integer.
    """
    limits = {"mincached": mincached, "maxcached": maxcached, "maxconnections": maxconnections, "maxusage": maxusage}
    for name, limit in limits.items():
        if limit is None and name == "maxconnections":
            continue
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"{name} is a number of connections (maxusage: of operations), got {limit!r}")
        if limit < 0:
            raise ValueError(f"{name} is 0 or more, got {limit}; 0 means no limit (mincached: none)")
    if maxcached and mincached > maxcached:
        raise ValueError(f"mincached={mincached} connections cannot be kept where maxcached={maxcached} is the limit")
    for name in ("mincached", "maxcached"):
        if maxconnections and (least := limits[name] or 0) > maxconnections:
            raise ValueError(f"{name}={least} is more than maxconnections={maxconnections}")
    if backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r}: expected 'tornado' or nothing; which poller the loop uses is chosen with the loop "
            "(pollux.run(main(), backend=...), POLLUX_BACKEND)"
        )
    driver["host"] = _hosts(uri, host, port, rs, seed)
    if rs is not None:
        driver["replicaSet"] = rs
    if dbuser is not None:
        driver["username"] = dbuser
        if uri is None and dbname is not None and "authMechanism" not in driver:
            driver.setdefault("authSource", dbname)
    if dbpass is not None:
        driver["password"] = dbpass
    if maxconnections is not None:
        driver["maxPoolSize"] = maxconnections
    if mincached:
        driver["minPoolSize"] = mincached
    if secondary_only or slave_okay:
        driver.setdefault("readPreference", "secondary" if secondary_only else "secondaryPreferred")
    if not autoreconnect:
        driver.setdefault("retryReads", False)
        driver.setdefault("retryWrites", False)
    driver.setdefault("driver", DriverInfo("Pollux", _version()))
    return PoolOptions(dbname, maxcached, maxusage, count_commands, tuple(event_listeners), driver)


def _hosts(
    uri: str | None,
    host: str | None,
    port: int | None,
    rs: str | None,
    seed: Iterable[tuple[str, int] | str] | None,
) -> str | list[str]:
    """Return what the driver calls `host`: a URI, or "host:port" of each server."""
    ways = {"uri": uri, "host or port": host or port, "seed": seed}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise TypeError(f"{' and '.join(given)} exclude each other: each says where the servers are")
    if uri is not None:
        return uri
    if seed is not None:
        if rs is None:
            raise TypeError("seed is a list of members of a replica set: give its name as rs")
        return [_pair(*member) if isinstance(member, tuple) else member for member in seed]
    if host is not None and "://" in host:
        if port is not None:
            raise TypeError("host is a URI, which says the port: give no port beside it")
        return host
    return [_pair(host or "localhost", port or PORT)]


def _pair(host: str, port: int) -> str:
    if host.startswith("/"):  # a Unix socket, whose name ends in .sock
        return host
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _version() -> str:
    try:
        return version("pollux")
    except PackageNotFoundError:  # a source tree on the path
        return "0"
