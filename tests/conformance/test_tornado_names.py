"""What is public in Tornado is public here, in the module that docs/tornado.md names; or a table says why not."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tornado

PAGE = (Path(__file__).parents[2] / "docs" / "tornado.md").read_text()
ROWS = re.findall(r"^\| `(tornado\.[\w.]+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
WHERE = {theirs: re.findall(r"`([\w.]+)`", ours) for theirs, ours in ROWS}

ABSENT = {
    "tornado.iostream": {"doctests": "of its own tests"},
    "tornado.httputil": {
        "doctests": "of its own tests",
        "HTTPOutputError": "a response that breaks its own Content-Length is a RuntimeError",
        "ParseBodyConfig": "the limits of forms are constants of pollux_http",
        "ParseMultipartConfig": "as above",
        "ParseUrlEncodedConfig": "as above",
        "set_parse_body_config": "as above",
    },
    "tornado.web": {"is_absolute": "a helper of its own, not documented"},
    "tornado.websocket": {
        "WebSocketProtocol": "for old versions of the protocol, not documented",
        "WebSocketProtocol13": "as above; pollux_websocket.protocol has ours, which does no I/O",
    },
    "tornado.wsgi": {"to_wsgi_str": "of its own adapter, not documented"},
}
# Of a class; what is said of one in its base classes is said there.
ABSENT_MEMBERS = {
    # Of Configurable: pollers are plugins here.
    "ioloop.IOLoop": {"configurable_base", "configurable_default", "initialize"},
    "netutil.Resolver": {"configurable_base", "configurable_default"},
    "httpclient.AsyncHTTPClient": {"configurable_base", "configurable_default"},
    "httpserver.HTTPServer": {"configurable_base", "configurable_default", "initialize", "start_request", "on_close"},
    "gen.Runner": {"run", "handle_yield"},  # of its own engine
    "log.LogFormatter": {"DEFAULT_FORMAT", "DEFAULT_DATE_FORMAT", "DEFAULT_COLORS"},  # defaults of its __init__
    "web.HTTPError": {"log_message"},  # set by __init__
    "httpclient.HTTPResponse": {"error"},  # set by __init__
    "web.StaticFileHandler": {"allowed_symlink_directory"},  # no symbolic link leaves the directory
    "web.GZipContentEncoding": {"GZIP_LEVEL"},
    "routing.Router": {"start_request"},  # `find_handler` is what is overridden
    "websocket.WebSocketHandler": {"on_ws_connection_close", "get_websocket_protocol"},  # between it and its protocol
    "websocket.WebSocketClientConnection": {
        "protocol", "on_connection_close", "on_ws_connection_close", "headers_received", "get_websocket_protocol",
    },
    "testing.AsyncHTTPSTestCase": {"default_ssl_options"},  # a helper of its own
    "wsgi.WSGIContainer": {"handle_request"},
}  # fmt: skip


def _public(module: ModuleType) -> dict[str, Any]:
    """What a module of Tornado's defines for others."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    }


def test_the_page_names_each_module() -> None:
    """All that a user imports, but for what the page says is not here."""
    folder = Path(tornado.__file__).parent
    modules = {f"tornado.{file.stem}" for file in folder.glob("*.py") if not file.stem.startswith("_")}
    not_here = {
        "tornado.auth",  # the page says so
        "tornado.template",  # Jinja2, see the page
        "tornado.util",  # helpers of its own
        "tornado.http1connection", "tornado.simple_httpclient", "tornado.curl_httpclient",  # behind other modules
    }  # fmt: skip
    assert modules - set(WHERE) == not_here


@pytest.mark.parametrize("name", WHERE)
def test_a_module_has_the_names(name: str) -> None:
    ours = [importlib.import_module(where) for where in WHERE[name]]
    try:
        theirs = importlib.import_module(name)
    except ModuleNotFoundError:
        assert name in ("tornado.stack_context", "tornado.database"), "removed by Tornado"
        return
    public = _public(theirs)
    missing = {each for each in public if not any(hasattr(module, each) for module in ours)}
    assert missing == set(ABSENT.get(name, ()))
    for each, thing in public.items():
        if isinstance(thing, type) and each not in missing:
            (our_class,) = [getattr(module, each) for module in ours if hasattr(module, each)][:1]
            members = {
                member for member in vars(thing) if not member.startswith("_") and not hasattr(our_class, member)
            }
            assert members == ABSENT_MEMBERS.get(f"{name.removeprefix('tornado.')}.{each}", set()), each
