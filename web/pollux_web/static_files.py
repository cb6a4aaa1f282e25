"""`StaticFileHandler`: files of a directory, with validators, ranges and versions.

Facts and decisions:

* A path is judged twice: as written (`../`), then as the file system resolves it, symlinks and all. What leads out of
  the root is 403 whether or not it exists, so that nobody learns what lies outside.
* A browser may keep a file for ever if its URL changes with it: `static_url` puts a hash of the content into the query.
  Hashes are kept by path, size and time of change: a changed file gets a new one. Files above
  `MAX_VERSION_CONTENT_SIZE` are not read through for that; their entity tag is made of size and time.
* Up to `CHUNK_SIZE` a file is read and leaves together with the head: one write is cheaper than two. From
  `SENDFILE_SIZE` on it goes from the kernel's cache to the socket (sendfile(2)): for 8 MiB that saves a fifth of the
  time and all of the memory, for 128 KiB nothing. What is between, goes through a compressor or is content from
  elsewhere is read a piece at a time, the next one when the client has taken the last. Either way the disk is read on
  the loop: those of today answer within the time of a system call, and what is read again is in memory.
* A file that is cut off while it is sent cannot be what was announced: the connection is closed.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import quote

from pollux.iostream import StreamClosedError
from pollux_web.errors import HTTPError
from pollux_web.etag import matches_strongly
from pollux_web.handler import RequestHandler
from pollux_web.ranges import UnsatisfiableRange, content_range, parse_range

CHUNK_SIZE = 64 * 1024  # bytes read and sent at once
SENDFILE_SIZE = 256 * 1024  # bytes

_COMPRESSED = {"gzip": "application/gzip", "br": "application/octet-stream"}  # RFC 6713: a .gz is served as what it is


class StaticFileHandler(RequestHandler):
    """Serves the files of a directory: `(r"/static/(.*)", StaticFileHandler, {"path": "/var/www"})`.

    The pattern's group is the path of the file. See `initialize` for the arguments.
    """

    CACHE_MAX_AGE = 86400 * 365 * 10  # seconds, for URLs with a version
    MAX_VERSION_CONTENT_SIZE = 64 * 1024 * 1024  # bytes
    MAX_CACHED_VERSIONS = 10_000

    _versions: ClassVar[dict[tuple[Any, ...], str]] = {}
    _file_status: os.stat_result | None = None
    _content_is_file = True  # no subclass says where else it comes from

    def initialize(
        self,
        path: str,
        default_filename: str | None = None,
        allowed_symlink_directory: str | Iterable[str] | None = None,
    ) -> None:
        """Take the arguments of the route.

        :param path: the root directory.
        :param default_filename: served for a directory, such as "index.html"; None: 403.
        :param allowed_symlink_directory: where symlinks may lead, one or several; None: only within the root.
        """
        self.root = path
        self.default_filename = default_filename
        if isinstance(allowed_symlink_directory, str):
            allowed_symlink_directory = [allowed_symlink_directory]
        self.allowed_directories = [path, *(allowed_symlink_directory or ())]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._content_is_file = cls.get_content.__func__ is StaticFileHandler.get_content.__func__  # type: ignore[attr-defined]

    @classmethod
    def reset(cls) -> None:
        """Forget the versions of all files."""
        StaticFileHandler._versions.clear()

    async def head(self, path: str) -> None:
        """Answer as GET without the content."""
        await self.get(path, include_body=False)

    async def get(self, path: str, include_body: bool = True) -> None:
        """Serve a file."""
        self.path = self.parse_url_path(path)
        absolute_path = self.get_absolute_path(self.root, self.path)
        validated = self.validate_absolute_path(self.root, absolute_path)
        if validated is None:  # redirected
            return
        self.absolute_path = validated
        self.modified = self.get_modified_time()
        self.set_headers()
        if self.should_return_304():
            self.set_status(304)
            return
        size = self.get_content_size()
        start, end = 0, size
        wanted = self.request.headers.get("Range")
        if wanted is not None and self._range_applies():
            try:
                part = parse_range(wanted, size)
            except UnsatisfiableRange:
                self.set_status(416)
                self.set_header("Content-Type", "text/plain")
                self.set_header("Content-Range", f"bytes */{size}")
                return
            if part is not None and part != (0, size):
                start, end = part
                self.set_status(206)
                self.set_header("Content-Range", content_range(start, end, size))
        self.set_header("Content-Length", end - start)
        if include_body:
            await self._send(start, end)

    async def _send(self, start: int, end: int) -> None:
        try:
            if end - start >= SENDFILE_SIZE and self._content_is_file:
                file = open(self.absolute_path, "rb")  # noqa: SIM115  # the stream closes it
                try:
                    self.flush()
                except BaseException:
                    file.close()
                    raise
                if all(transform.passes() for transform in self._transforms):
                    await self.request.connection.write_file(file, start, end - start)
                    return
                file.close()
            await self._send_pieces(start, end)
        except StreamClosedError:
            self._finished = True  # the client has gone, as clients do: there is nobody to answer
            self._done()

    async def _send_pieces(self, start: int, end: int) -> None:
        content: Any = self.get_content(self.absolute_path, start, end)
        if isinstance(content, bytes):
            content = [content]
        try:
            for chunk in content:
                self.write(chunk)
                if end - start > CHUNK_SIZE:
                    await self.flush()  # not more than a chunk ahead of the client
        finally:
            if hasattr(content, "close"):
                content.close()  # a generator would keep its file until it is collected

    def _range_applies(self) -> bool:
        """Whether the client's part is of the present file (If-Range, RFC 9110 13.1.5)."""
        validator = self.request.headers.get("If-Range")
        if validator is None:
            return True
        if validator.startswith(('"', "W/")):
            return matches_strongly(validator, self._own_headers().get("Etag"))
        return self.modified is not None and _parsed_date(validator) == self.modified

    # Headers

    def compute_etag(self) -> str | None:
        """Return the entity tag: the file's version; of large files its size and time of change."""
        version = self._version_of(self.absolute_path)
        if version is not None:
            return f'"{version}"'
        if self.get_content_size() > self.MAX_VERSION_CONTENT_SIZE:
            status = self._status()
            return f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
        return None

    def set_etag_header(self) -> None:
        """It is set by `set_headers`, for whatever part of the file."""

    def set_headers(self) -> None:
        """Set the headers that tell about the file."""
        self.set_header("Accept-Ranges", "bytes")
        etag = self.compute_etag()
        if etag is not None:
            self.set_header("Etag", etag)
        if self.modified is not None:
            self.set_header("Last-Modified", self.modified)
        content_type = self.get_content_type()
        if content_type:
            self.set_header("Content-Type", content_type)
        seconds = self.get_cache_time(self.path, self.modified, content_type)
        if seconds > 0:
            expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
            self.set_header("Expires", expires)
            self.set_header("Cache-Control", f"max-age={seconds}")
        self.set_extra_headers(self.path)

    def set_extra_headers(self, path: str) -> None:
        """Set further headers. Override it."""

    def should_return_304(self) -> bool:
        """Return whether the client has the file already: by If-None-Match, else by If-Modified-Since (RFC 9110
        13.2.2)."""
        if "If-None-Match" in self.request.headers:
            return self.check_etag_header()
        since = self.request.headers.get("If-Modified-Since")
        if since is None or self.modified is None:
            return False
        date = _parsed_date(since)
        return date is not None and date >= self.modified

    def get_content_type(self) -> str:
        """Return the content type, guessed by the file's name."""
        import mimetypes  # it reads the system's tables when it is first asked

        kind, encoding = mimetypes.guess_type(self.absolute_path)
        if encoding is not None:
            return _COMPRESSED.get(encoding, "application/octet-stream")
        return kind or "application/octet-stream"

    def get_cache_time(self, path: str, modified: datetime.datetime | None, mime_type: str) -> int:
        """Return for how many seconds browsers may use the file without asking; 0 leaves it to them. By default ten
        years for URLs with a version (`?v=`)."""
        return self.CACHE_MAX_AGE if "v" in self.request.arguments else 0

    # The file

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        """Return where a file is.

        :param path: relative to the root.
        :raises HTTPError: 403, it leads out of the root as it is written.
        """
        base = os.path.abspath(root)
        absolute = os.path.abspath(os.path.join(base, path))
        if "\0" in path or not _is_within(absolute, base):
            raise HTTPError(403, "%s is not in root static directory", path)
        return absolute

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Return the path of the file to serve; None after answering otherwise.

        :raises HTTPError: 403, it is no regular file, or leads out of the root by a symlink; 404, there is none.
        """
        absolute_path = self._resolved(absolute_path)
        if os.path.isdir(absolute_path) and self.default_filename is not None:
            if not self.request.path.endswith("/"):
                if self.request.path.startswith("//"):
                    # A Location of //host/ would be another site's.
                    raise HTTPError(403, "cannot redirect a path that begins with two slashes")
                self.redirect(f"{self.request.path}/", permanent=True)
                return None
            absolute_path = self._resolved(os.path.join(absolute_path, self.default_filename))
        try:
            status = os.stat(absolute_path)
        except (OSError, ValueError):
            raise HTTPError(404) from None
        if not stat.S_ISREG(status.st_mode):
            raise HTTPError(403, "%s is not a file", self.path)
        self._file_status = status
        return absolute_path

    def _resolved(self, absolute_path: str) -> str:
        """Return a path without symlinks: what is opened later is what was judged.

        :raises HTTPError: 403, it leads out of the root.
        """
        real = os.path.realpath(absolute_path)
        if not any(_is_within(real, os.path.realpath(directory)) for directory in self.allowed_directories):
            raise HTTPError(403, "%s is not in root static directory", self.path)
        return real

    def _status(self) -> os.stat_result:
        if self._file_status is None:
            self._file_status = os.stat(self.absolute_path)
        return self._file_status

    def get_content_size(self) -> int:
        """Return the size of the file in bytes."""
        return self._status().st_size

    def get_modified_time(self) -> datetime.datetime | None:
        """Return when the file was changed, in whole seconds (that is all that HTTP can say)."""
        return datetime.datetime.fromtimestamp(int(self._status().st_mtime), datetime.UTC)

    @classmethod
    def get_content(cls, abspath: str, start: int | None = None, end: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file, or of a part of it, in pieces of `CHUNK_SIZE`. Override it for content from
        elsewhere; it may also return bytes.

        :param start: the first byte; None for 0.
        :param end: behind the last byte; None for the end of the file.
        """
        with open(abspath, "rb") as file:
            file.seek(start or 0)
            left = None if end is None else end - (start or 0)
            while left is None or left > 0:
                chunk = file.read(CHUNK_SIZE if left is None else min(CHUNK_SIZE, left))
                if not chunk:
                    return
                if left is not None:
                    left -= len(chunk)
                yield chunk

    # Versions

    def parse_url_path(self, url_path: str) -> str:
        """Return the path of a file from that of its URL: the inverse of `make_static_url`."""
        return url_path.replace("/", os.sep) if os.sep != "/" else url_path

    @classmethod
    def make_static_url(cls, settings: dict[str, Any], path: str, include_version: bool = True) -> str:
        """Return the URL of a file below the setting `static_path`, with its version.

        :param path: relative to it. Never what a client sent: the file is read.
        :raises HTTPError: 403, it leads out of the root.
        """
        url = settings.get("static_url_prefix", "/static/") + quote(path)
        version = cls.get_version(settings, path) if include_version else None
        return f"{url}?v={version}" if version else url

    @classmethod
    def get_version(cls, settings: dict[str, Any], path: str) -> str | None:
        """Return the version of a file below the setting `static_path`; None if it cannot be read, or is too large."""
        return cls._version_of(cls.get_absolute_path(settings["static_path"], path), settings)

    @classmethod
    def get_content_version(cls, abspath: str) -> str:
        """Return a version of the content of a file: its SHA-512.

        :raises ValueError: it is larger than `MAX_VERSION_CONTENT_SIZE`.
        """
        digest = hashlib.sha512()
        size = 0
        for chunk in cls.get_content(abspath):
            size += len(chunk)
            if size > cls.MAX_VERSION_CONTENT_SIZE:
                raise ValueError(f"{abspath} is too large for a version by content")
            digest.update(chunk)
        return digest.hexdigest()

    @classmethod
    def _version_of(cls, abspath: str, settings: dict[str, Any] | None = None) -> str | None:
        try:
            status = os.stat(abspath)
            if not stat.S_ISREG(status.st_mode) or status.st_size > cls.MAX_VERSION_CONTENT_SIZE:
                return None
            key: tuple[Any, ...] = (cls, abspath, status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            key = (cls, abspath)  # content from elsewhere
        cached = StaticFileHandler._versions
        if key not in cached or (settings is not None and not settings.get("static_hash_cache", True)):
            try:
                version = cls.get_content_version(abspath)
            except (OSError, ValueError):
                return None
            if len(cached) >= cls.MAX_CACHED_VERSIONS:
                cached.clear()
            cached[key] = version
        return cached[key]


def _is_within(path: str, directory: str) -> bool:
    """Whether a path is a directory or below it: not one that merely begins with the same letters."""
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)


def _parsed_date(text: str) -> datetime.datetime | None:
    """Return a date of HTTP; None if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
