"""MongoDB for handlers, generators and sockets: asyncmongo's names over PyMongo's asynchronous driver."""

from pollux.errors import MissingExtraError

try:
    import pymongo.asynchronous as _driver  # noqa: F401
except ImportError as error:
    raise MissingExtraError("pollux_mongo needs PyMongo 4.13 or newer: pip install 'pollux[mongo]'") from error

from pollux_mongo.bucket import Bucket
from pollux_mongo.changes import Changes
from pollux_mongo.client import Client
from pollux_mongo.connection import Connection
from pollux_mongo.cursor import Cursor
from pollux_mongo.errors import PoolError
from pollux_mongo.pool import ConnectionPool, ConnectionPools
from pollux_mongo.results import Results
from pollux_mongo.statistics import CommandStatistics, PoolStatistics

__all__ = [
    "Bucket",
    "Changes",
    "Client",
    "CommandStatistics",
    "Connection",
    "ConnectionPool",
    "ConnectionPools",
    "Cursor",
    "PoolError",
    "PoolStatistics",
    "Results",
]
