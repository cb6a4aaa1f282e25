"""From asyncmongo's arguments of a query or a write to the driver's, without I/O; and answers back.

What MongoDB has dropped since (`snapshot` in 4.0, `max_scan` in 4.2) is an error, which says what does the same now, if
it was asked for. `debug`, `manipulate`, `_must_use_master` and `_is_command` have no meaning any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import CursorType, ReadPreference
from pymongo.errors import WriteError
from pymongo.write_concern import WriteConcern

_GONE = {
    "snapshot": "sort by _id, or read in a session with snapshot=True",
    "max_scan": "max_time_ms limits the time that a query may take",
}
_IGNORED = ("debug", "manipulate", "_must_use_master", "_is_command")
_CONCERN = {"w": "w", "wtimeout": "wtimeout", "j": "j", "fsync": "fsync"}


def by_id(spec_or_id: Any) -> Any:
    """Return a query; anything but a mapping is the _id looked for."""
    if spec_or_id is None:
        return {}
    return spec_or_id if isinstance(spec_or_id, Mapping) else {"_id": spec_or_id}


def find_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the driver's arguments of `find`; asyncmongo's names become PyMongo's, all others stay.

    :raises TypeError: an option is given twice, by both names, or has no meaning any more.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in _GONE:
            if value:
                raise TypeError(f"{name}={value!r}: MongoDB has dropped it; {_GONE[name]}")
        elif name == "spec":
            _put(found, options, "filter", name, value)
        elif name == "fields":
            # asyncmongo: no fields, an empty list, means _id alone
            _put(found, options, "projection", name, {"_id": 1} if value is not None and not value else value)
        elif name == "timeout":
            _put(found, options, "no_cursor_timeout", name, not value)
        elif name == "tailable":
            if value:
                _put(found, options, "cursor_type", name, CursorType.TAILABLE_AWAIT)
        elif name == "slave_okay":
            if value:
                found["read_preference"] = ReadPreference.SECONDARY_PREFERRED
        elif name == "sort" and isinstance(value, str):
            found["sort"] = [(value, 1)]
        elif name == "hint" and isinstance(value, Mapping):
            found["hint"] = list(value.items())
        elif name in ("limit", "skip"):
            found[name] = value or 0
        elif name not in _IGNORED:
            found[name] = value
    return found


def _put(found: dict[str, Any], options: dict[str, Any], name: str, old: str, value: Any) -> None:
    if name in options:
        raise TypeError(f"{old} and {name} are two names of one argument: give one of them")
    found[name] = value


def write_concern(safe: bool, options: dict[str, Any]) -> WriteConcern | None:
    """Take what asks for acknowledgement out of `options`; return the write concern, None for the collection's.

    :raises TypeError: `safe` is no bool.
    """
    if not isinstance(safe, bool):
        raise TypeError(f"safe is True or False, got {safe!r}")
    for name in _IGNORED:
        options.pop(name, None)
    asked = {name: options.pop(name) for name in _CONCERN if name in options}
    if asked:
        return WriteConcern(**asked)
    return None if safe else WriteConcern(w=0)


def last_error(count: int, **more: Any) -> list[dict[str, Any]]:
    """Return what getLastError said to asyncmongo: a list of one document.

    `n` is how many documents were written, of a multi-document update how many were matched.
    """
    return [{"ok": 1.0, "err": None, "n": count, **more}]


def has_operators(update: Any) -> bool:
    """Return whether an update is made of operators (`$set`) rather than a document to put in place of the old one.

    :raises TypeError: it is neither.
    """
    if isinstance(update, list):  # a pipeline
        return True
    if not isinstance(update, Mapping):
        raise TypeError(f"an update is a document, or operators, or a pipeline, got {update!r}")
    operators = [name for name in update if str(name).startswith("$")]
    if operators and len(operators) < len(update):
        raise WriteError(f"an update has operators alone, or fields alone; got both: {list(update)!r}")
    return bool(operators)
