"""`Bucket`: files in GridFS, read and written piece by piece (docs: MongoDB manual, "GridFS").

A file is cut into chunks of 255 KiB, each a document. Neither side holds more than a chunk, so a file may be larger
than memory, and whoever reads slowly is waited for. A file becomes visible when it is complete: of one whose source
fails, or whose writer is cancelled, nothing stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any

from gridfs.asynchronous import AsyncGridFSBucket

from pollux_mongo.answering import Callback, answer
from pollux_mongo.cursor import Cursor

if TYPE_CHECKING:
    from pollux_mongo.pool import ConnectionPool

Source = bytes | bytearray | memoryview | AsyncIterable[bytes]


class Bucket:
    """The files of a database under a name.

    :param name: of the bucket; its collections are `<name>.files` and `<name>.chunks`.
    :param options: as of PyMongo's `AsyncGridFSBucket`: `chunk_size_bytes`, `write_concern`, ...
    :ivar driver: that bucket; everything that is not here is there.
    :ivar files: the `Cursor` of what is known of the files.
    """

    def __init__(self, pool: ConnectionPool, name: str = "fs", **options: Any) -> None:
        self._pool = pool
        self.driver = AsyncGridFSBucket(pool.database, name, **options)
        self.files = Cursor(pool, pool.dbname, f"{name}.files")

    def put(
        self,
        source: Source,
        filename: str = "",
        *,
        metadata: dict[str, Any] | None = None,
        callback: Callback | None = None,
    ) -> Any:
        """Write a file: bytes, or anything that `async for` gives pieces of: a request's body, say.

        :returns: its id.
        """
        self._pool.check()
        return answer(self._pool, self._put(source, filename, metadata), callback)

    async def _put(self, source: Source, filename: str, metadata: dict[str, Any] | None) -> Any:
        stream = self.driver.open_upload_stream(filename, metadata=metadata)
        try:
            if isinstance(source, (bytes, bytearray, memoryview)):
                await stream.write(bytes(source))
            else:
                async for piece in source:
                    await stream.write(piece)
            await stream.close()
        except BaseException:
            await stream.abort()
            raise
        return stream._id

    def get(self, file_id: Any, *, callback: Callback | None = None) -> Any:
        """Return a whole file.

        :raises gridfs.errors.NoFile: there is none with this id.
        """
        self._pool.check()
        return answer(self._pool, self._get(file_id), callback)

    async def _get(self, file_id: Any) -> bytes:
        return b"".join([piece async for piece in self.read(file_id)])

    async def read(self, file_id: Any) -> AsyncIterator[bytes]:
        """Iterate over the pieces of a file, as they come.

        :raises gridfs.errors.NoFile: there is none with this id.
        :raises gridfs.errors.CorruptGridFile: a chunk is missing.
        """
        self._pool.check()
        stream = await self.driver.open_download_stream(file_id)
        try:
            while piece := await stream.readchunk():
                yield piece
        finally:
            await stream.close()

    def find(self, spec: Any = None, **options: Any) -> Any:
        """Find files. The `Results` are documents: `_id`, `filename`, `length`, `chunkSize`, `uploadDate`, `metadata`.

        :param options: as of `Cursor.find`.
        """
        return self.files.find(spec, **options)

    def delete(self, file_id: Any, *, callback: Callback | None = None) -> Any:
        """Delete a file.

        :raises gridfs.errors.NoFile: there is none with this id.
        """
        self._pool.check()
        return answer(self._pool, self.driver.delete(file_id), callback)

    def rename(self, file_id: Any, filename: str, *, callback: Callback | None = None) -> Any:
        """Give a file another name."""
        self._pool.check()
        return answer(self._pool, self.driver.rename(file_id, filename), callback)
