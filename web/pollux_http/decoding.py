"""Undoing the content coding of a response, with a bound on what comes out. This module knows no sockets.

What the outside world fixes
----------------------------
* A few kilobytes can stand for gigabytes in all of these codings, so the size that counts is that of the output.
* zlib and Brotli (from 1.2 of its package) stop at a given size of output. zstd's decompressor does not; but a block is
  at most 128 KiB, of at least 4 bytes (RFC 8878 3.1.1.2), so the input bounds the output.
* A zstd frame may ask for a window of terabytes; RFC 8878 3.1.1.1.2 recommends 8 MiB as what everybody supports.

What was decided
----------------
* Input goes in by slices, and each slice's output is handed out before the next goes in. Whoever streams a response
  can thus stop in between, and holds little.
* Brotli and zstd need their packages (extra `web`). Where one is missing, or too old, it is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

from pollux_http.errors import HTTPInputError
from pollux_http.inflating import Inflater

SLICE = 4096  # bytes of input: at most about 4 MiB of output in DEFLATE, whose best ratio is 1032
OUTPUT = 256 * 1024  # bytes that Brotli is asked for at a time
ZSTD_WINDOW = 8 * 1024 * 1024  # bytes
ZSTD_SLICE = 128  # bytes of input: at most 4 MiB of output, in blocks of 128 KiB that take 4 bytes each


@cache
def _brotli() -> Any:
    """Return the module, None if it is missing or cannot bound its output."""
    try:
        module = import_module("brotli")
        module.Decompressor().process(b"", output_buffer_limit=1)
    except (ImportError, TypeError, AttributeError):
        return None
    return module


@cache
def _zstandard() -> Any:
    try:
        return import_module("zstandard")
    except ImportError:
        return None


@cache
def accepted() -> str:
    """Return the codings that can be undone here, as Accept-Encoding (RFC 9110 12.5.3)."""
    names = ["gzip", "deflate"]
    if _brotli() is not None:
        names.append("br")
    if _zstandard() is not None:
        names.append("zstd")
    return ", ".join(names)


class Decoder:
    """Undoes the coding of one body.

    :param coding: a value of Content-Encoding for which `decodes` is true.
    :param limit: bytes that may come out.
    """

    __slots__ = ("_coding", "_limit", "_object", "_size", "_step")

    def __init__(self, coding: bytes, limit: int) -> None:
        self._coding = coding.lower()
        self._limit = limit
        self._size = 0
        self._object: Any = None
        self._step: Callable[[bytes], Iterator[bytes]]
        if self._coding in Inflater.CODINGS:
            self._object = Inflater(self._coding)
            self._step = self._inflate
        elif self._coding == b"br":
            self._object = _brotli().Decompressor()
            self._step = self._brotli
        else:
            self._step = self._zstd

    @staticmethod
    def decodes(coding: bytes) -> bool:
        """Return whether a coding can be undone here."""
        coding = coding.lower()
        return coding in Inflater.CODINGS or (
            (coding == b"br" and _brotli() is not None) or (coding == b"zstd" and _zstandard() is not None)
        )

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` stands for, in pieces.

        :raises HTTPInputError: it is more than the limit, or not coded as was said.
        """
        for piece in self._step(data):
            self._size += len(piece)
            if self._size > self._limit:
                raise HTTPInputError(f"response body above {self._limit} bytes when decompressed")
            if piece:
                yield piece

    @property
    def done(self) -> bool:
        """Whether the coded data has come to its end."""
        if self._coding == b"br":
            return bool(self._object.is_finished())
        if self._coding == b"zstd":
            return self._object is not None and bool(self._object.eof)
        return bool(self._object.done)

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), SLICE):
            try:
                yield self._object.inflate(data[start : start + SLICE], self._limit)
            except HTTPInputError as error:
                if error.status == 413:
                    raise HTTPInputError(f"response body above {self._limit} bytes when decompressed") from None
                raise self._refused(error) from None

    def _brotli(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._object
        if decompressor.is_finished():
            raise self._refused("there is more behind its end")
        try:
            yield decompressor.process(data, output_buffer_limit=OUTPUT)
            while not decompressor.is_finished() and not decompressor.can_accept_more_data():
                yield decompressor.process(b"", output_buffer_limit=OUTPUT)
        except _brotli().error as error:
            raise self._refused(error) from None

    def _zstd(self, data: bytes) -> Iterator[bytes]:
        module = _zstandard()
        for start in range(0, len(data), ZSTD_SLICE):
            left = data[start : start + ZSTD_SLICE]
            while left:
                if self._object is None or self._object.eof:  # RFC 8878 3: several frames
                    self._object = module.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
                try:
                    piece = self._object.decompress(left)
                except module.ZstdError as error:
                    raise self._refused(error) from None
                left = self._object.unused_data
                yield piece

    def _refused(self, why: object) -> HTTPInputError:
        return HTTPInputError(f"the response body is not {self._coding.decode()}, as Content-Encoding says: {why}")
