"""The web framework: Application and RequestHandler, as Tornado has them."""

from pollux_web.application import Application
from pollux_web.errors import HTTPError, MissingArgumentError
from pollux_web.handler import ErrorHandler, RequestHandler
from pollux_web.routing import URLSpec

url = URLSpec

__all__ = ["Application", "ErrorHandler", "HTTPError", "MissingArgumentError", "RequestHandler", "URLSpec", "url"]
