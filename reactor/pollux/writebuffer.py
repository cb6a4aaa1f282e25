"""`WriteBuffer`: what the kernel has not taken yet, bytes and parts of files. No loop.

A large piece is kept by reference: to write 100 MiB must not need 200. Small ones are joined, for each piece costs a
system call. They are taken from the head of a bytearray, which is linear in all (see `pollux.readbuffer`).

A part of a file goes from the kernel's cache to the socket by sendfile(2), which saves two copies and the memory. Not
everything is a file or a socket to it (TLS, pipes, some file systems): there the part is read, a piece at a time.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import BinaryIO

JOIN_BELOW = 16 * 1024  # bytes: a smaller piece is copied behind the one before it
JOINED_SIZE = 256 * 1024  # bytes at which a joined piece is full. It is also what one `send` is offered: more than a
# socket buffer takes at a time, so offering more is wasted.


_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class FilePart:
    """Bytes of a file that are still to be sent.

    :ivar left: how many.
    """

    __slots__ = ("_file", "_offset", "left")

    def __init__(self, file: BinaryIO, offset: int, count: int) -> None:
        self._file = file
        self._offset = offset
        self.left = count

    def send(self, target: int) -> int | None:
        """Send some to a socket; return how many bytes, or None if the system cannot do that here.

        :raises BlockingIOError: the socket takes nothing now.
        :raises OSError: the file has become shorter, or the socket is broken.
        """
        try:
            sent = os.sendfile(target, self._file.fileno(), self._offset, min(self.left, JOINED_SIZE))
        except AttributeError:  # there is no such call
            return None
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                return None
            raise
        if not sent:
            raise self._too_short()
        return sent

    def read(self) -> bytes:
        """Return the next bytes.

        :raises OSError: the file has become shorter, or cannot be read.
        """
        data = os.pread(self._file.fileno(), min(self.left, JOINED_SIZE), self._offset)
        if not data:
            raise self._too_short()
        return data

    def advance(self, count: int) -> None:
        """The next `count` bytes are dealt with."""
        self._offset += count
        self.left -= count
        if not self.left:
            self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _too_short(self) -> OSError:
        # The client was told a length: nothing else can be sent in place of what is missing.
        return OSError(errno.ENODATA, f"the file has become shorter while it was sent: {self.left} bytes are missing")


class WriteBuffer:
    """Pieces of bytes, in order.

    :ivar taken: bytes that have left, since this was made.
    """

    __slots__ = ("_pieces", "_size", "taken")

    def __init__(self) -> None:
        self._pieces: deque[bytearray | memoryview | FilePart] = deque()
        self._size = 0
        self.taken = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes | memoryview) -> int:
        """Add `data`, which must not change from now on; return what `taken` will be when it has left.

        :param data: a memoryview has format "B".
        """
        size = len(data)
        self._size += size
        if size >= JOIN_BELOW:
            self._pieces.append(memoryview(data))
        elif size:
            last = self._pieces[-1] if self._pieces else None
            if isinstance(last, bytearray) and len(last) < JOINED_SIZE:
                last += data
            else:
                self._pieces.append(bytearray(data))
        return self.taken + self._size

    def append_file(self, file: BinaryIO, offset: int, count: int) -> None:
        """Add `count` bytes of a file, more than 0; it is closed when they have left."""
        self._pieces.append(FilePart(file, offset, count))
        self._size += count

    def file(self) -> FilePart | None:
        """Return what is first if it is part of a file, else None: then it is `head`."""
        piece = self._pieces[0]
        return piece if isinstance(piece, FilePart) else None

    def read_file(self) -> None:
        """Put the next bytes of the file that is first in its place, before the rest of it."""
        part = self._pieces[0]
        if isinstance(part, FilePart):
            data = part.read()
            part.advance(len(data))
            if not part.left:
                self._pieces.popleft()
            self._pieces.appendleft(memoryview(data))

    def close(self) -> None:
        """Close the files: nothing will be sent any more."""
        for piece in self._pieces:
            if isinstance(piece, FilePart):
                piece.close()

    def head(self) -> memoryview:
        """Return a view of the first bytes, at most `JOINED_SIZE`; release it before anything else is done here."""
        with memoryview(self._pieces[0]) as view:  # type: ignore[arg-type]  # `file` said that it is none
            return view[:JOINED_SIZE]

    def advance(self, count: int) -> None:
        """Remove the first `count` bytes, which are all of `head`, or of `file`, or less."""
        piece = self._pieces[0]
        if isinstance(piece, FilePart):
            piece.advance(count)
            if not piece.left:
                self._pieces.popleft()
        elif count == len(piece):
            self._pieces.popleft()
        elif isinstance(piece, bytearray):
            del piece[:count]
        else:
            self._pieces[0] = piece[count:]
        self._size -= count
        self.taken += count
