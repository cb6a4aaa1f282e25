"""`PipeIOStream`: a stream over a descriptor that is no socket: an end of a pipe, a terminal, a FIFO.

* read(2) and write(2) work on any descriptor, but whether they block is a property of the *open file*, which a parent
  shares with its children and a shell with its programs (fcntl(2), O_NONBLOCK). So it is changed only where it must be,
  and what was changed is put back on closing: a shell must not find its terminal non-blocking.
* A regular file never blocks in the sense of poll(2), also while the disk turns. The pollers report it as always ready,
  so it can be read to its end; but a read from a slow disk holds up the loop.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pollux.basestream import BaseIOStream

if TYPE_CHECKING:
    from pollux.ioloop import IOLoop


class PipeIOStream(BaseIOStream):
    """A stream over a descriptor, for reading or writing as it was opened; it owns the descriptor from now on.

    :param fd: a number, as of `os.pipe`. Made non-blocking here.
    :param max_buffer_size: these four: see `BaseIOStream`.
    :raises TypeError: `fd` is no integer: give `file.fileno()`, of a file that nobody else closes.
    :raises OSError: it is not open.
    """

    __slots__ = ("_was_blocking", "fd")

    def __init__(
        self,
        fd: int,
        max_buffer_size: int | None = None,
        read_chunk_size: int | None = None,
        max_write_buffer_size: int | None = None,
        io_loop: IOLoop | None = None,
    ) -> None:
        if not isinstance(fd, int):
            raise TypeError(f"PipeIOStream: expected the number of a descriptor, got {fd!r}")
        self.fd = fd
        self._was_blocking = os.get_blocking(fd)
        super().__init__(max_buffer_size, read_chunk_size, max_write_buffer_size, io_loop)
        if self._was_blocking:
            os.set_blocking(fd, False)

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self.fd

    def close_fd(self) -> None:
        """See `BaseIOStream.close_fd`."""
        fd, self.fd = self.fd, -1
        try:
            if self._was_blocking:
                os.set_blocking(fd, True)
        finally:
            os.close(fd)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """See `BaseIOStream.read_from_fd`."""
        try:
            return os.readv(self.fd, [buf])
        except BlockingIOError:
            return None

    def write_to_fd(self, data: memoryview) -> int:
        """See `BaseIOStream.write_to_fd`."""
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0

    def _recv(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def _send(self, data: bytes | memoryview) -> int:
        return os.write(self.fd, data)

    def _is_connreset(self, error: BaseException) -> bool:
        # EBADF: an end that only writes. It is "read" to learn of the reader's end, which some pollers report as READ.
        return super()._is_connreset(error) or (isinstance(error, OSError) and error.errno == errno.EBADF)
