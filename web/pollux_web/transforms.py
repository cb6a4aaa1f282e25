"""Output transforms: what a response goes through on its way out. `ContentEncoding` compresses it.

Negotiated by Accept-Encoding (RFC 9110 12.5.3): the coding with the greatest weight that we have, of equals the first
of `CODINGS`. zstd and Brotli need their packages (extra `web`); where one is missing, it is not offered.

What is compressed: text, and the few other types that gain by it; not below `MIN_LENGTH`, where the head of a response
weighs more than what is won; not what has a Content-Encoding. Vary is sent either way: the answer to another client
may differ. A secret beside text that a client chooses may be guessed from the length (BREACH): XSRF tokens are masked,
other secrets are the application's affair.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Protocol

from pollux_http import HTTPHeaders, HTTPServerRequest
from pollux_http.response import bodiless
from pollux_web.accept import accepted


class OutputTransform:
    """Changes responses; made for each. By default it changes nothing."""

    def __init__(self, request: HTTPServerRequest) -> None:
        pass

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Return status, headers and first part of the body as they are to be sent.

        :param finishing: this is the whole body.
        """
        return status_code, headers, chunk

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        """Return a further part of the body as it is to be sent.

        :param finishing: it is the last.
        """
        return chunk

    def passes(self) -> bool:
        """Return whether further parts go out as they are: then a file may be sent without being read."""
        return type(self).transform_chunk is OutputTransform.transform_chunk


class Compressor(Protocol):
    """One response on its way through a coding."""

    def compress(self, data: bytes) -> bytes:
        """Take data in; return what is ready."""

    def flush(self) -> bytes:
        """Return all of what was taken in, so that the client can read it."""

    def finish(self) -> bytes:
        """Return what is left and the end of the coding."""


class _Gzip:
    def __init__(self, level: int) -> None:
        self._object = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.compress = self._object.compress

    def flush(self) -> bytes:
        return self._object.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._object.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self, module: Any, level: int) -> None:
        self._object = module.Compressor(quality=level)
        self.compress = self._object.process
        self.flush = self._object.flush
        self.finish = self._object.finish


class _Zstd:
    def __init__(self, module: Any, level: int) -> None:
        self._module = module
        self._object = module.ZstdCompressor(level=level).compressobj()
        self.compress = self._object.compress

    def flush(self) -> bytes:
        return self._object.flush(self._module.COMPRESSOBJ_FLUSH_BLOCK)  # type: ignore[no-any-return]

    def finish(self) -> bytes:
        return self._object.flush(self._module.COMPRESSOBJ_FLUSH_FINISH)  # type: ignore[no-any-return]


@cache
def _available(coding: str) -> Callable[[int], Compressor] | None:
    """Return what makes compressors of a coding; None if its package is missing."""
    if coding == "gzip":
        return _Gzip
    try:
        if coding == "br":
            brotli = import_module("brotli")
            return lambda level: _Brotli(brotli, level)
        zstandard = import_module("zstandard")
        return lambda level: _Zstd(zstandard, level)
    except ImportError:
        return None


class ContentEncoding(OutputTransform):
    """Compresses responses by what the client accepts: the setting `compress_response`.

    :cvar LEVELS: of compression: where a further step costs more time than the network wins.
    """

    CODINGS: ClassVar[tuple[str, ...]] = ("zstd", "br", "gzip")
    LEVELS: ClassVar[dict[str, int]] = {"zstd": 3, "br": 4, "gzip": 6}
    MIN_LENGTH = 1024  # bytes, Tornado's
    CONTENT_TYPES: ClassVar[frozenset[str]] = frozenset(
        {
            "application/atom+xml",
            "application/javascript",
            "application/json",
            "application/manifest+json",
            "application/wasm",
            "application/x-javascript",
            "application/xhtml+xml",
            "application/xml",
            "image/svg+xml",
        }
    )

    def __init__(self, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._coding = self._choose(request.headers.get("Accept-Encoding", ""))
        self._compressor: Compressor | None = None

    def _choose(self, header: str) -> str | None:
        if not header:
            return None
        weights = dict(reversed(accepted(header)))
        others = weights.get("*", 0.0)
        chosen, most = None, weights.get("identity", 0.0)
        for coding in self.CODINGS:
            weight = weights.get(coding, others)
            if weight > 0 and ((chosen is None and weight >= most) or weight > most) and _available(coding):
                chosen, most = coding, weight
        return chosen

    def compressible_type(self, content_type: str) -> bool:
        """Return whether a type gains by compression: all of `text/` and `CONTENT_TYPES`. Override it for others."""
        return content_type.startswith("text/") or content_type in self.CONTENT_TYPES

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """See `OutputTransform`."""
        headers["Vary"] = f"{headers['Vary']}, Accept-Encoding" if "Vary" in headers else "Accept-Encoding"
        make = _available(self._coding) if self._coding is not None else None
        if (
            make is not None
            and self._coding is not None
            and not bodiless(status_code)
            and status_code != 206  # a range of the plain file
            and "Content-Encoding" not in headers
            and (not finishing or len(chunk) >= self.MIN_LENGTH)
            and self.compressible_type(headers.get("Content-Type", "").partition(";")[0].strip().lower())
        ):
            self._compressor = make(self.LEVELS[self._coding])
            headers["Content-Encoding"] = self._coding
            headers.pop("Content-Length", None)  # of the plain body
            etag = headers.get("Etag", "")
            if etag.startswith('"'):
                headers["Etag"] = f"W/{etag}"  # RFC 9110 8.8.1: the bytes are others
            chunk = self.transform_chunk(chunk, finishing)
        return status_code, headers, chunk

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        """See `OutputTransform`."""
        if self._compressor is None:
            return chunk
        compressed = self._compressor.compress(chunk) if chunk else b""
        return compressed + (self._compressor.finish() if finishing else self._compressor.flush())

    def passes(self) -> bool:
        """See `OutputTransform`."""
        return self._compressor is None and type(self).transform_chunk is ContentEncoding.transform_chunk


class GZipContentEncoding(ContentEncoding):
    """Compresses with gzip only: Tornado's name, for `Application(transforms=[...])`."""

    CODINGS = ("gzip",)
