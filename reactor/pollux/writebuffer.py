"""`WriteBuffer`: what the kernel has not taken yet. No sockets, no loop.

A large piece is kept by reference: to write 100 MiB must not need 200. Small ones are joined, for each piece costs a
system call. They are taken from the head of a bytearray, which is linear in all (see `pollux.readbuffer`).
"""

from __future__ import annotations

from collections import deque

JOIN_BELOW = 16 * 1024  # bytes: a smaller piece is copied behind the one before it
JOINED_SIZE = 256 * 1024  # bytes at which a joined piece is full. It is also what one `send` is offered: more than a
# socket buffer takes at a time, so offering more is wasted.


class WriteBuffer:
    """Pieces of bytes, in order.

    :ivar taken: bytes that have left, since this was made.
    """

    __slots__ = ("_pieces", "_size", "taken")

    def __init__(self) -> None:
        self._pieces: deque[bytearray | memoryview] = deque()
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

    def head(self) -> memoryview:
        """Return a view of the first bytes, at most `JOINED_SIZE`; release it before anything else is done here."""
        with memoryview(self._pieces[0]) as view:
            return view[:JOINED_SIZE]

    def advance(self, count: int) -> None:
        """Remove the first `count` bytes, which are all of `head` or less."""
        piece = self._pieces[0]
        if count == len(piece):
            self._pieces.popleft()
        elif isinstance(piece, bytearray):
            del piece[:count]
        else:
            self._pieces[0] = piece[count:]
        self._size -= count
        self.taken += count
