"""HTTP/1.1 on Pollux: the server, and what a request and its headers are."""

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

__all__ = ["HTTPHeaders", "HTTPInputError", "HTTPServer", "HTTPServerRequest", "WSGIAdapter", "WSGIContainer"]
