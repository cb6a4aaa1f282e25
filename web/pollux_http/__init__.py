"""HTTP/1.1 on Pollux: the server, the client, and what a request and its headers are."""

from importlib import import_module
from typing import TYPE_CHECKING

from pollux.errors import MissingExtraError

try:
    import httptools as _httptools  # noqa: F401
except ImportError as error:
    raise MissingExtraError("pollux_http needs httptools: pip install 'pollux[web]'") from error

from pollux_http.errors import HTTPInputError
from pollux_http.headers import HTTPHeaders
from pollux_http.request import HTTPServerRequest
from pollux_http.server import HTTPServer
from pollux_http.wsgi import WSGIContainer
from pollux_http.wsgi_adapter import WSGIAdapter

if TYPE_CHECKING:
    from pollux_http.client import AsyncHTTPClient, HTTPClient
    from pollux_http.client_errors import (
        HTTPClientError,
        HTTPProxyError,
        HTTPResponseError,
        HTTPStreamClosedError,
        HTTPTimeoutError,
    )
    from pollux_http.client_request import HTTPRequest
    from pollux_http.client_response import HTTPResponse

__all__ = [
    "AsyncHTTPClient",
    "HTTPClient",
    "HTTPClientError",
    "HTTPHeaders",
    "HTTPInputError",
    "HTTPProxyError",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseError",
    "HTTPServer",
    "HTTPServerRequest",
    "HTTPStreamClosedError",
    "HTTPTimeoutError",
    "WSGIAdapter",
    "WSGIContainer",
]


def __getattr__(name: str) -> object:
    """Import the client when it is asked for first (PEP 562): a server starts without it."""
    if name in __all__:
        return getattr(import_module("pollux_http.httpclient"), name)
    raise AttributeError(f"module 'pollux_http' has no attribute {name!r}")
