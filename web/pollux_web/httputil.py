"""Names of tornado.httputil: what programs use of HTTP besides handlers. Thin over `pollux_http` and the standard
library.
"""

from __future__ import annotations

import calendar
import datetime
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import formatdate
from http.client import responses
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pollux_http import HTTPHeaders, HTTPInputError, HTTPServerRequest
from pollux_http.cookies import parse_cookie
from pollux_http.delegates import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from pollux_http.multipart_form import HTTPFile, boundary_of, parse_multipart
from pollux_http.start_line import (
    RequestStartLine,
    ResponseStartLine,
    parse_request_start_line,
    parse_response_start_line,
)
from pollux_web.escape import parse_qs_bytes

__all__ = [
    "HTTPConnection",
    "HTTPFile",
    "HTTPHeaders",
    "HTTPInputError",
    "HTTPMessageDelegate",
    "HTTPServerConnectionDelegate",
    "HTTPServerRequest",
    "RequestStartLine",
    "ResponseStartLine",
    "encode_username_password",
    "format_timestamp",
    "parse_body_arguments",
    "parse_cookie",
    "parse_multipart_form_data",
    "parse_qs_bytes",
    "parse_request_start_line",
    "parse_response_start_line",
    "qs_to_qsl",
    "responses",
    "split_host_and_port",
    "url_concat",
]

MAX_ARGUMENTS = 1000  # of an urlencoded form: each costs more to keep than to send

_HOST_AND_PORT = re.compile(r"(.+):([0-9]+)", re.ASCII)


def url_concat(url: str, args: Mapping[str, str] | Sequence[tuple[str, str]] | None) -> str:
    """Return `url` with further query arguments behind those it has, before the fragment.

    :raises TypeError: `args` is neither a mapping nor a sequence of pairs.
    """
    if args is None:
        return url
    if isinstance(args, Mapping):
        pairs = list(args.items())
    elif isinstance(args, (list, tuple)):
        pairs = list(args)
    else:
        raise TypeError(f"args is a dict, or a list or tuple of pairs, got {type(args).__name__}")
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *pairs])
    return urlunsplit(parts._replace(query=query))


def format_timestamp(
    ts: float | tuple[int, ...] | time.struct_time | datetime.datetime,
) -> str:
    """Return a time in HTTP's form (RFC 9110 5.6.7), "Sun, 27 Jan 2013 18:43:20 GMT".

    :param ts: seconds since 1970, a tuple as of `time.gmtime`, or a datetime (UTC if it is naive).
    :raises TypeError: any other type.
    """
    if isinstance(ts, datetime.datetime):
        seconds: float = calendar.timegm(ts.utctimetuple())
    elif isinstance(ts, (tuple, time.struct_time)):
        seconds = calendar.timegm(ts)
    elif isinstance(ts, (int, float)):
        seconds = ts
    else:
        raise TypeError(f"a timestamp is a number, a time tuple or a datetime, got {ts!r}")
    return formatdate(seconds, usegmt=True)


def parse_body_arguments(
    content_type: str,
    body: bytes,
    arguments: dict[str, list[bytes]],
    files: dict[str, list[HTTPFile]],
    headers: Mapping[str, str] | None = None,
) -> None:
    """Add the arguments and files of a form to two dicts.

    :param content_type: urlencoded and multipart are parsed, others ignored.
    :param headers: of the request.
    :raises HTTPInputError: the form is malformed or past a limit, or the body has a Content-Encoding.
    """
    is_urlencoded = content_type.startswith("application/x-www-form-urlencoded")
    if not is_urlencoded and not content_type.startswith("multipart/form-data"):
        return
    if headers is not None and "Content-Encoding" in headers:
        raise HTTPInputError(f"a form with the Content-Encoding {headers['Content-Encoding']!r} cannot be parsed")
    if is_urlencoded:
        try:
            found = parse_qs_bytes(body, keep_blank_values=True, max_num_fields=MAX_ARGUMENTS)
        except ValueError as error:
            raise HTTPInputError(f"malformed urlencoded form: {error}") from None
        for name, values in found.items():
            arguments.setdefault(name, []).extend(values)
    else:
        boundary = boundary_of(content_type)
        if boundary is not None:
            parse_multipart_form_data(boundary.encode("latin-1"), body, arguments, files)


def parse_multipart_form_data(
    boundary: bytes, data: bytes, arguments: dict[str, list[bytes]], files: dict[str, list[HTTPFile]]
) -> None:
    """Add the arguments and files of a multipart form to two dicts.

    :raises HTTPInputError: it is malformed or past a limit; the dicts are left alone.
    """
    form = parse_multipart(boundary.decode("latin-1"), data)
    for name, values in form.arguments.items():
        arguments.setdefault(name, []).extend(values)
    for name, uploaded in form.files.items():
        files.setdefault(name, []).extend(uploaded)


def encode_username_password(username: str | bytes, password: str | bytes) -> bytes:
    """Return user and password as the Basic scheme joins them, in UTF-8, before base64 (RFC 7617 2)."""
    return b":".join([part.encode() if isinstance(part, str) else part for part in (username, password)])


def split_host_and_port(netloc: str) -> tuple[str, int | None]:
    """Return host and port of "host:port"; None if there is no port. An IPv6 address keeps its brackets."""
    match = _HOST_AND_PORT.fullmatch(netloc)
    return (match[1], int(match[2])) if match else (netloc, None)


def qs_to_qsl(qs: Mapping[str, Iterable[Any]]) -> Iterable[tuple[str, Any]]:
    """Yield the (name, value) pairs of what `parse_qs` returned."""
    for name, values in qs.items():
        for value in values:
            yield name, value
