"""`Cursor`: the operations on a collection. asyncmongo's word: what one gets from a client for a collection's name.

Every operation takes `callback=`, see `answering.py`, or returns an awaitable. asyncmongo's names take its arguments
and answer as it did; PyMongo's (`insert_one`, `update_many`, `bulk_write`, ...) take and answer as PyMongo does.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pymongo import CursorType, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection

from pollux_mongo.answering import Callback, answer, begin
from pollux_mongo.changes import Changes
from pollux_mongo.queries import by_id, find_options, has_operators, last_error, write_concern
from pollux_mongo.results import Results

if TYPE_CHECKING:
    from pymongo.asynchronous.client_session import AsyncClientSession

    from pollux_mongo.pool import ConnectionPool

# PyMongo's operations that answer once; those that answer with a cursor are written out below.
FORWARDED = frozenset(
    name
    for name, method in inspect.getmembers(AsyncCollection, inspect.iscoroutinefunction)
    if not name.startswith("_")
    and name not in {"aggregate", "aggregate_raw_batches", "list_indexes", "list_search_indexes", "watch"}
)


class Cursor:
    """One collection; `client.users`, `client["users"]` and `client.connection("users", "other_database")` make it.

    :ivar dbname: the database's name.
    :ivar name: the collection's.
    """

    def __init__(self, pool: ConnectionPool, dbname: str, name: str, session: AsyncClientSession | None = None) -> None:
        self.pool = pool
        self.dbname = dbname
        self.name = name
        self._session = session
        self._collection: AsyncCollection[dict[str, Any]] = pool.driver[dbname][name]

    def __repr__(self) -> str:
        return f"<Cursor {self.full_collection_name}>"

    @property
    def full_collection_name(self) -> str:
        """The name with the database's before it."""
        return f"{self.dbname}.{self.name}"

    @property
    def collection(self) -> AsyncCollection[dict[str, Any]]:
        """PyMongo's `AsyncCollection`.

        :raises PoolError: the pool cannot be used from here.
        """
        self.pool.check()
        return self._collection

    def with_options(self, **options: Any) -> Cursor:
        """Return the same collection with other options: `read_preference`, `write_concern`, `read_concern`,
        `codec_options`."""
        other = Cursor(self.pool, self.dbname, self.name, self._session)
        other._collection = self._collection.with_options(**options)
        return other

    # Reading

    def find(
        self,
        spec: Any = None,
        fields: Any = None,
        skip: int = 0,
        limit: int | None = 0,
        *,
        callback: Callback | None = None,
        **options: Any,
    ) -> Any:
        """Find documents.

        :param spec: the query; None finds all.
        :param fields: names of the fields to return, or a projection; None: whole documents.
        :param limit: how many at most; 0 or None: all.
        :param callback: called with the list of all of them.
        :param options: `sort` (a name, or pairs of name and direction), `hint`, `tailable` (go on when more is written:
            of a capped collection), `timeout` (False: the server keeps an unused cursor for ever), `slave_okay`, and
            all of PyMongo's `find`.
        :returns: `Results`; None with a callback.
        """
        options.update(skip=skip, limit=limit)
        _name_twice(options, spec=spec, fields=fields)
        chosen = self._in_session(find_options(options))
        collection = self._reading(chosen)
        tailable = chosen.get("cursor_type", CursorType.NON_TAILABLE) in (
            CursorType.TAILABLE,
            CursorType.TAILABLE_AWAIT,
        )
        results = Results(
            self.pool,
            partial(collection.find, **chosen),
            tailable=tailable,
            batch_size=chosen.get("batch_size", 0),
            codec_options=collection.codec_options,
        )
        return results if callback is None else answer(self.pool, results.to_list(), callback)

    def find_one(
        self, spec_or_id: Any = None, fields: Any = None, *, callback: Callback | None = None, **options: Any
    ) -> Any:
        """Find one document: the first, by a query or by its _id. None if there is none.

        :param options: as of `find`.
        """
        pool = self.pool
        pool.check()
        if options or fields is not None or self._session is not None:
            _name_twice(options, spec=spec_or_id, fields=fields)
            chosen = self._in_session(find_options(options))
            chosen.pop("limit", None)
            chosen["filter"] = by_id(chosen.get("filter"))
            work = self._reading(chosen).find_one(**chosen)
        else:
            work = self._collection.find_one(spec_or_id)
        if callback is None and pool.opening is None:
            return work
        return answer(pool, work, callback)

    def count(self, spec: Any = None, *, callback: Callback | None = None, **options: Any) -> Any:
        """Count the documents that a query finds; None counts all."""
        return self._do("count_documents", spec or {}, callback=callback, **options)

    def distinct(self, key: str, spec: Any = None, *, callback: Callback | None = None, **options: Any) -> Any:
        """Return the list of a field's values among the documents that a query finds."""
        if spec is not None:
            options["filter"] = spec
        return self._do("distinct", key, callback=callback, **options)

    def aggregate(self, pipeline: Any, *, callback: Callback | None = None, **options: Any) -> Any:
        """Run an aggregation pipeline.

        :param options: as of PyMongo's `aggregate`: `allowDiskUse`, `batchSize`, `let`, ...
        :returns: `Results`; None with a callback, which is called with the list.
        """
        return self._many("aggregate", pipeline, callback=callback, **options)

    def list_indexes(self, *, callback: Callback | None = None, **options: Any) -> Any:
        """Return `Results` of the indexes' definitions; see also `index_information`."""
        return self._many("list_indexes", callback=callback, **options)

    def list_search_indexes(self, *args: Any, callback: Callback | None = None, **options: Any) -> Any:
        """Return `Results` of the search indexes' definitions."""
        return self._many("list_search_indexes", *args, callback=callback, **options)

    def watch(self, pipeline: Any = None, **options: Any) -> Changes:
        """Return the `Changes` of this collection from now on. Needs a replica set.

        :param options: as of PyMongo's `watch`: `full_document="updateLookup"`, `resume_after`, ...
        """
        return Changes(self.pool, partial(self.collection.watch, pipeline, **self._in_session(options)))

    # Writing, as asyncmongo did

    def insert(
        self, doc_or_docs: Any, manipulate: bool = True, safe: bool = True, check_keys: bool = True,
        callback: Callback | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Insert a document or a list of them. Those without an _id get one, in place.

        :param safe: False: the server is not to answer. It begins at once, also if nobody awaits it; what goes wrong
            on the server, nobody learns.
        :param options: `w`, `wtimeout`, `j`: the acknowledgement to wait for; `continue_on_error`: insert the documents
            behind one that fails, too.
        :returns: what getLastError said: `[{"ok": 1.0, "err": None, "n": how many}]`.
        :raises pymongo.errors.DuplicateKeyError: a unique index has the key already (of a list: `BulkWriteError`).
        """
        collection = self._writing(safe, options)
        ordered = not options.pop("continue_on_error", False)
        options = self._in_session(options)

        async def insert() -> Any:
            if isinstance(doc_or_docs, (list, tuple)):
                await collection.insert_many(doc_or_docs, ordered=ordered, **options)
                return last_error(len(doc_or_docs))
            await collection.insert_one(doc_or_docs, **options)
            return last_error(1)

        return self._write(insert(), safe, callback)

    def update(
        self, spec: Any, document: Any, upsert: bool = False, manipulate: bool = False, safe: bool = True,
        multi: bool = False, callback: Callback | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Update the first document that `spec` finds, or with `multi` all of them.

        :param document: operators (`{"$set": ...}`), or a document to put in its place.
        :param upsert: insert it if none is found.
        :param safe: see `insert`, `options` too.
        :returns: `[{"ok": 1.0, "err": None, "n": found, "updatedExisting": bool}]`, with `upserted`, the _id, if it was
            inserted.
        """
        operators = has_operators(document)
        if multi and not operators:
            raise TypeError(f"multi updates by operators such as $set; got a whole document: {document!r}")
        collection = self._writing(safe, options)
        write: Callable[..., Coroutine[Any, Any, Any]] = (
            (collection.update_many if multi else collection.update_one) if operators else collection.replace_one
        )
        return self._write(_updated(write(spec, document, upsert=upsert, **self._in_session(options))), safe, callback)

    def remove(
        self, spec_or_id: Any = None, safe: bool = True, multi: bool = True, callback: Callback | None = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Remove the documents that a query finds, or the one with an _id. None removes all.

        :param safe: see `insert`, `options` too.
        :param multi: False: the first alone.
        :returns: `[{"ok": 1.0, "err": None, "n": how many}]`.
        """
        collection = self._writing(safe, options)
        spec, options = by_id(spec_or_id), self._in_session(options)

        async def remove() -> Any:
            done = await (collection.delete_many if multi else collection.delete_one)(spec, **options)
            return last_error(done.deleted_count if done.acknowledged else 0)

        return self._write(remove(), safe, callback)

    def save(
        self, doc: Any, manipulate: bool = True, safe: bool = True, callback: Callback | None = None, **options: Any
    ) -> Any:
        """Insert a document, or put it in place of the one with its _id."""
        if "_id" not in doc:
            return self.insert(doc, safe=safe, callback=callback, **options)
        return self.update({"_id": doc["_id"]}, doc, upsert=True, safe=safe, callback=callback, **options)

    def find_and_modify(
        self, query: Any = None, update: Any = None, upsert: bool = False, sort: Any = None, remove: bool = False,
        new: bool = False, fields: Any = None, callback: Callback | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Update or remove one document in one step; return it as it was, or with `new` as it is then. None if none was
        found.

        :raises TypeError: both `update` and `remove` are given, or neither.
        """
        if remove == (update is not None):
            raise TypeError("find_and_modify either updates or removes: give update=..., or remove=True")
        chosen = find_options({**options, "fields": fields, "sort": sort})
        if remove:
            return self._do("find_one_and_delete", query or {}, callback=callback, **chosen)
        chosen.update(upsert=upsert, return_document=ReturnDocument.AFTER if new else ReturnDocument.BEFORE)
        name = "find_one_and_update" if has_operators(update) else "find_one_and_replace"
        return self._do(name, query or {}, update, callback=callback, **chosen)

    def ensure_index(self, key_or_list: Any, *, callback: Callback | None = None, **options: Any) -> Any:
        """Make an index if there is none; return its name. `create_index` is the same."""
        return self._do("create_index", key_or_list, callback=callback, **options)

    # All others

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; cursor[{name!r}] is a collection")
        if name in FORWARDED:
            return partial(self._do, name)
        if hasattr(AsyncCollection, name) or name in ("database", "full_name", "codec_options", "read_preference"):
            return getattr(self.collection, name)
        return self[name]

    def __getitem__(self, name: str) -> Cursor:
        return Cursor(self.pool, self.dbname, f"{self.name}.{name}", self._session)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        collection, _, operation = self.name.rpartition(".")
        near = difflib.get_close_matches(operation, {*FORWARDED, *vars(Cursor)}, 1)
        meant = f"; did you mean {near[0]}()?" if near else ""
        raise TypeError(f"{collection or self.dbname!r} has no operation {operation!r}: that is a collection{meant}")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self!r} is a collection: iterate over .find(), with async for")

    # How

    def _in_session(self, options: dict[str, Any]) -> dict[str, Any]:
        if self._session is not None:
            options.setdefault("session", self._session)
        return options

    def _reading(self, options: dict[str, Any]) -> AsyncCollection[dict[str, Any]]:
        """Take `read_preference` out of `options` and return the collection to read from."""
        preference = options.pop("read_preference", None)
        collection = self.collection
        return collection if preference is None else collection.with_options(read_preference=preference)

    def _writing(self, safe: bool, options: dict[str, Any]) -> AsyncCollection[dict[str, Any]]:
        """Take the write concern out of `options` and return the collection to write to."""
        concern = write_concern(safe, options)
        collection = self.collection
        return collection if concern is None else collection.with_options(write_concern=concern)

    def _do(self, name: str, *args: Any, callback: Callback | None = None, **options: Any) -> Any:
        """Run one of PyMongo's operations."""
        return answer(self.pool, getattr(self.collection, name)(*args, **self._in_session(options)), callback)

    def _many(self, name: str, *args: Any, callback: Callback | None = None, **options: Any) -> Any:
        """Run one of PyMongo's operations that return a cursor."""
        collection = self.collection
        call = partial(getattr(collection, name), *args, **self._in_session(options))
        size = options.get("batchSize", 0)
        results = Results(self.pool, call, batch_size=size, codec_options=collection.codec_options)
        return results if callback is None else answer(self.pool, results.to_list(), callback)

    def _write(self, work: Coroutine[Any, Any, Any], safe: bool, callback: Callback | None) -> Any:
        if safe:
            return answer(self.pool, work, callback)
        if callback is not None:
            work.close()
            raise TypeError("callback= needs safe=True: without it the server does not answer")
        if self.pool.opening is not None:
            work = self.pool.opened_first(work)
        return begin(self.pool, work)


async def _updated(work: Coroutine[Any, Any, Any]) -> list[dict[str, Any]]:
    done = await work
    if not done.acknowledged:
        return last_error(0)
    if done.upserted_id is not None:
        return last_error(1, updatedExisting=False, upserted=done.upserted_id)
    return last_error(done.matched_count, updatedExisting=done.matched_count > 0)


def _name_twice(options: dict[str, Any], **given: Any) -> None:
    """Put the positional arguments among the options, by asyncmongo's names."""
    options.update({name: value for name, value in given.items() if value is not None})
