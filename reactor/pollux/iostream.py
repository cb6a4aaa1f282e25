"""Tornado's `iostream`: the public names of the streams, each from the module it lives in."""

from pollux.basestream import BaseIOStream
from pollux.pipestream import PipeIOStream
from pollux.rawstream import StreamClosedError
from pollux.readbuffer import StreamBufferFullError, UnsatisfiableReadError
from pollux.socketstream import IOStream
from pollux.sslstream import SSLIOStream

__all__ = [
    "BaseIOStream",
    "IOStream",
    "PipeIOStream",
    "SSLIOStream",
    "StreamBufferFullError",
    "StreamClosedError",
    "UnsatisfiableReadError",
]
