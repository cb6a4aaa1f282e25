"""From asyncmongo's options and arguments to the driver's, without a server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pymongo import CursorType, ReadPreference
from pymongo.write_concern import WriteConcern

from pollux_mongo.options import pool_options
from pollux_mongo.queries import by_id, find_options, has_operators, last_error, write_concern


def driver(**options: Any) -> dict[str, Any]:
    found = pool_options(**options).driver
    assert found.pop("driver").name == "Pollux"
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"host": ["localhost:27017"]}),
        ({"host": "db", "port": 5}, {"host": ["db:5"]}),
        ({"host": "::1"}, {"host": ["[::1]:27017"]}),
        ({"host": "/run/mongodb.sock"}, {"host": ["/run/mongodb.sock"]}),
        ({"host": "mongodb://db/x"}, {"host": "mongodb://db/x"}),
        ({"uri": "mongodb://db/x"}, {"host": "mongodb://db/x"}),
        ({"rs": "r", "seed": [("a", 1), "b:2"]}, {"host": ["a:1", "b:2"], "replicaSet": "r"}),
        ({"maxconnections": 0}, {"host": ["localhost:27017"], "maxPoolSize": 0}),
        ({"mincached": 2, "maxcached": 3, "maxconnections": 4},
         {"host": ["localhost:27017"], "minPoolSize": 2, "maxPoolSize": 4}),
        ({"dbuser": "u", "dbpass": "p", "dbname": "d"},
         {"host": ["localhost:27017"], "username": "u", "password": "p", "authSource": "d"}),
        ({"dbuser": "u", "dbname": "d", "authSource": "admin"},
         {"host": ["localhost:27017"], "username": "u", "authSource": "admin"}),
        ({"dbuser": "u", "uri": "mongodb://db/x"}, {"host": "mongodb://db/x", "username": "u"}),
        ({"slave_okay": True}, {"host": ["localhost:27017"], "readPreference": "secondaryPreferred"}),
        ({"secondary_only": True}, {"host": ["localhost:27017"], "readPreference": "secondary"}),
        ({"autoreconnect": False}, {"host": ["localhost:27017"], "retryReads": False, "retryWrites": False}),
        ({"backend": "tornado", "tls": True}, {"host": ["localhost:27017"], "tls": True}),
    ],
)  # fmt: skip
def test_options_of_the_driver(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert driver(**given) == expected


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"maxconnections": -1}, ValueError, "maxconnections is 0 or more, got -1"),
        ({"mincached": "3"}, TypeError, "mincached is a number of connections"),
        ({"maxusage": True}, TypeError, "maxusage"),
        ({"mincached": 5, "maxcached": 3}, ValueError, "mincached=5 .* maxcached=3"),
        ({"maxcached": 5, "maxconnections": 3}, ValueError, "maxcached=5 is more than maxconnections=3"),
        ({"uri": "mongodb://a", "host": "b"}, TypeError, "uri and host or port exclude each other"),
        ({"host": "mongodb://a", "port": 5}, TypeError, "give no port"),
        ({"seed": [("a", 1)]}, TypeError, "name as rs"),
        ({"backend": "glib2"}, ValueError, "expected 'tornado'"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pool_options(**given)


def test_names_of_pools_hold_no_password() -> None:
    uri = "mongodb+srv://joe:secret@a.example,b:3/db?x=1"
    assert pool_options(uri=uri).where == "mongodb+srv://a.example,b:3/db?x=1"
    assert pool_options(rs="r", seed=[("a", 1), ("b", 2)]).where == "mongodb://a:1,b:2"
    one, other = pool_options(dbpass="secret", maxusage=1), pool_options(dbpass="other", tls=True)
    assert one.differences(other) == ["maxusage", "password", "tls"]
    assert one == pool_options(dbpass="secret", maxusage=1)


def test_arguments_of_find() -> None:
    asked = {
        "spec": {"a": 1}, "fields": [], "timeout": False, "tailable": True, "sort": "a", "hint": {"a": 1},
        "limit": None, "slave_okay": True, "snapshot": False, "max_scan": None, "debug": True, "batch_size": 5,
    }  # fmt: skip
    assert find_options(asked) == {
        "filter": {"a": 1},
        "projection": {"_id": 1},
        "no_cursor_timeout": True,
        "cursor_type": CursorType.TAILABLE_AWAIT,
        "sort": [("a", 1)],
        "hint": [("a", 1)],
        "limit": 0,
        "read_preference": ReadPreference.SECONDARY_PREFERRED,
        "batch_size": 5,
    }
    assert find_options({"tailable": False, "fields": None, "hint": "a_1"})["projection"] is None
    with pytest.raises(TypeError, match="fields and projection"):
        find_options({"fields": ["a"], "projection": ["a"]})


def test_arguments_of_writes() -> None:
    assert by_id(None) == {}
    assert by_id(5) == {"_id": 5}
    assert by_id({"a": 1}) == {"a": 1}
    assert last_error(3, upserted=1) == [{"ok": 1.0, "err": None, "n": 3, "upserted": 1}]
    options = {"w": 2, "wtimeout": 5, "j": True, "manipulate": True, "other": 1}
    assert write_concern(True, options) == WriteConcern(w=2, wtimeout=5, j=True)
    assert options == {"other": 1}
    assert write_concern(True, {}) is None
    assert write_concern(False, {}) == WriteConcern(w=0)
    assert write_concern(False, {"w": 1}) == WriteConcern(w=1)
    assert has_operators({"$set": {}})
    assert has_operators([{"$set": {}}])
    assert not has_operators({"a": 1})
    assert not has_operators({})


def test_without_the_driver() -> None:
    """The error names the extra."""
    script = "import sys; sys.modules['pymongo'] = None; import pollux_mongo"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingExtraError: pollux_mongo needs PyMongo 4.13 or newer: pip install 'pollux[mongo]'" in done.stderr
