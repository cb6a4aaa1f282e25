"""What goes wrong, by asyncmongo's names.

Errors are PyMongo's own (`pymongo.errors`): they carry the server's code and words. asyncmongo's names are other names
of them here, so that `except errors.IntegrityError` of its programs catches what it means. `PoolError` alone is ours.
"""

from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from pollux.errors import PolluxError

Error = PyMongoError
InterfaceError = ConnectionFailure  # refused, reset, cut, timed out
RSConnectionError = ServerSelectionTimeoutError  # nobody in the replica set who could answer
TooManyConnections = WaitQueueTimeoutError  # with waitQueueTimeoutMS; without it one waits for a connection
DatabaseError = OperationFailure  # the server refused; `code` and `details` say why
AuthenticationError = OperationFailure  # code 18
IntegrityError = DuplicateKeyError
DataError = InvalidName
ProgrammingError = InvalidOperation


class PoolError(PolluxError, RuntimeError):
    """A pool cannot be used from here: it belongs to another loop or process, or is closed."""
