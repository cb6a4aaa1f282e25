"""One line for each request on `pollux.access`, for applications that have no log of their own (ASGI, WSGI)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pollux.log import access_log

if TYPE_CHECKING:
    from pollux_http.request import HTTPServerRequest

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what the client chose may hold commands to a terminal


def log_access(request: HTTPServerRequest, status: int) -> None:
    """Log method, target, client and time: info below 400, warning below 500, else error."""
    log = access_log.info if status < 400 else access_log.warning if status < 500 else access_log.error
    uri = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", request.uri)
    log("%d %s %s (%s) %.2fms", status, request.method, uri, request.remote_ip, 1000 * request.request_time())
