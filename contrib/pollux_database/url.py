"""From what a user writes to the database that is meant."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from pollux_database.engine import Engine
from pollux_database.errors import ProgrammingError
from pollux_database.mysql import Mysql
from pollux_database.sqlite import Sqlite

_EXPECTED = (
    "expected a path or ':memory:', 'sqlite://' (in memory), 'sqlite:///PATH' (four slashes for an absolute one), or "
    "'mysql://USER:PASSWORD@HOST:PORT/DATABASE'"
)


def engine_of(
    host: str | os.PathLike[str], database: str | None, user: str | None, password: str | None, options: dict[str, Any]
) -> Engine:
    """Return the database that the arguments of `Connection` name.

    :raises ProgrammingError: they name none.
    """
    name = os.fspath(host)
    if database is not None:
        return _mysql_by_arguments(name, database, user, password, options)
    if user is not None or password is not None:
        raise ProgrammingError(f"user and password are for MySQL, with a database; got {_safe(name)!r}, {_EXPECTED}")
    scheme, separator, _ = name.partition("://")
    if not separator:
        return Sqlite(name, options)
    if scheme == "sqlite":
        return _sqlite_by_url(name, options)
    if scheme in ("mysql", "mariadb"):
        return _mysql_by_url(name, options)
    raise ProgrammingError(f"cannot tell which database {_safe(name)!r} is: {_EXPECTED}")


def _mysql_by_arguments(
    host: str, database: str, user: str | None, password: str | None, options: dict[str, Any]
) -> Mysql:
    """As Tornado had it: a host may bring its port, and one with a slash is a Unix socket."""
    if "://" in host:
        raise ProgrammingError(f"got the URL {_safe(host)!r} and the database {database!r}: put it into the URL")
    named = {"user": user, "password": password, "database": database}
    if "/" in host:
        return Mysql(named | {"unix_socket": host}, options)
    name, _, port = host.partition(":") if host.count(":") == 1 else (host, "", "")  # several are an IPv6 address
    if port and not (port.isascii() and port.isdigit()):
        raise ProgrammingError(f"the port in {host!r} is not a number")
    return Mysql(named | {"host": name, "port": int(port) if port else None}, options)


def _sqlite_by_url(url: str, options: dict[str, Any]) -> Sqlite:
    rest = url.removeprefix("sqlite://")
    if rest in ("", "/", "/:memory:"):
        return Sqlite(":memory:", options)
    if not rest.startswith("/") or "?" in rest:
        raise ProgrammingError(f"{url!r}: {_EXPECTED}; options are keyword arguments")
    return Sqlite(unquote(rest[1:]), options)


def _mysql_by_url(url: str, options: dict[str, Any]) -> Mysql:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ProgrammingError(f"{_safe(url)!r}: {error}; {_EXPECTED}") from None
    name = unquote(parts.path[1:])
    if parts.query or parts.fragment or "/" in name:
        raise ProgrammingError(f"{_safe(url)!r}: {_EXPECTED}; options are keyword arguments, such as charset='latin1'")
    address = {
        "host": parts.hostname,
        "port": port,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "database": name or None,
    }
    return Mysql(address, options)


def _safe(url: str) -> str:
    """A URL without its password: messages end in logs."""
    head, separator, tail = url.rpartition("@")
    scheme, slashes, account = head.partition("://")
    return f"{scheme}{slashes}{account.partition(':')[0]}{separator}{tail}"
