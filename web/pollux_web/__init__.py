"""The web framework: Application and RequestHandler, as Tornado has them."""

from pollux_web.application import Application
from pollux_web.current_user import authenticated
from pollux_web.decorators import addslash, asynchronous, removeslash
from pollux_web.errors import Finish, HTTPError, MissingArgumentError
from pollux_web.fallback import FallbackHandler
from pollux_web.handler import ErrorHandler, RequestHandler
from pollux_web.redirect import RedirectHandler
from pollux_web.routing import URLSpec
from pollux_web.signing import create_signed_value, decode_signed_value, get_signature_key_version
from pollux_web.static_files import StaticFileHandler
from pollux_web.streaming import stream_request_body
from pollux_web.transforms import ContentEncoding, GZipContentEncoding, OutputTransform
from pollux_web.ui_modules import TemplateModule, UIModule

url = URLSpec

__all__ = [
    "Application",
    "ContentEncoding",
    "ErrorHandler",
    "FallbackHandler",
    "Finish",
    "GZipContentEncoding",
    "HTTPError",
    "MissingArgumentError",
    "OutputTransform",
    "RedirectHandler",
    "RequestHandler",
    "StaticFileHandler",
    "TemplateModule",
    "UIModule",
    "URLSpec",
    "addslash",
    "asynchronous",
    "authenticated",
    "create_signed_value",
    "decode_signed_value",
    "get_signature_key_version",
    "removeslash",
    "stream_request_body",
    "url",
]
