"""Undoing the compression of a request body, with a bound on what comes out. This module knows no sockets.

A few kilobytes of gzip (RFC 1952) can stand for gigabytes of zeros, so the size that counts is that of the output, and
zlib is never asked for more than may still come. "deflate" is zlib's format (RFC 9110 8.4.1.2); some clients send raw
DEFLATE under that name, and the first byte tells them apart.
"""

from __future__ import annotations

import zlib

from pollux_http.errors import HTTPInputError

_GZIP = 31  # zlib's wbits: 16 for gzip and 15 for the largest window
_ZLIB = 15
_RAW = -15


class Inflater:
    """Decompresses one body, piece by piece.

    :param coding: one of `CODINGS`.
    """

    CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})

    __slots__ = ("_object", "_size", "_wbits")

    def __init__(self, coding: bytes) -> None:
        self._wbits = _ZLIB if coding == b"deflate" else _GZIP
        self._object: zlib._Decompress | None = None
        self._size = 0  # bytes that have come out

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Return what `data` stands for.

        :param limit: bytes that the whole body may become.
        :raises HTTPInputError: it becomes more (413), or is not compressed as was said (400).
        """
        pieces = []
        while data:
            if self._object is None or (self._object.eof and self._wbits == _GZIP):  # RFC 1952 2.2: several members
                if self._wbits == _ZLIB and data[0] & 0x0F != 8:  # RFC 1950 2.2: the method, 8 for deflate
                    self._wbits = _RAW
                self._object = zlib.decompressobj(self._wbits)
            elif self._object.eof:
                raise HTTPInputError("there is more behind the compressed request body")
            try:
                # One byte more than is allowed tells "just as much" from "too much"; 0 would mean "no limit".
                piece = self._object.decompress(data, limit - self._size + 1)
            except zlib.error as error:
                raise HTTPInputError(f"the request body is not compressed as Content-Encoding says: {error}") from None
            self._size += len(piece)
            if self._size > limit:
                raise HTTPInputError(f"request body above {limit} bytes when decompressed", 413)
            pieces.append(piece)
            data = self._object.unused_data or self._object.unconsumed_tail
        return b"".join(pieces)

    @property
    def done(self) -> bool:
        """Whether the compressed data has come to its end."""
        return self._object is not None and self._object.eof
