"""Where a redirect leads, and what of the request goes along (RFC 9110 15.4). This module knows no sockets.

What was decided
----------------
* 303 asks for the other resource with GET, and so do 301 and 302 after a POST: RFC 9110 allows it there, and browsers
  do it. All else keeps method and body.
* Whoever is redirected to another origin (scheme, host or port) takes no credentials along: each value of
  Authorization, Cookie and Proxy-Authorization stays behind, and so do user and password of the request and of the new
  URL. (Tornado CVE-2026-49853, Twisted CVE-2022-21712.)
* A body that was produced piece by piece cannot be produced again for 307 and 308: then the redirect is the response.
"""

from __future__ import annotations

import copy
from urllib.parse import quote, urldefrag, urljoin, urlsplit, urlunsplit

from pollux_http.client_request import HTTPRequest
from pollux_http.headers import HTTPHeaders
from pollux_http.response_parsing import Head
from pollux_http.target import parse_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")
ABOUT_THE_BODY = ("Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Location",
                  "Transfer-Encoding", "Expect")  # fmt: skip

_KEPT = "".join(map(chr, range(0x21, 0x7F)))  # characters of a Location that are not quoted


def is_redirect(head: Head, method: str, produced: bool) -> bool:
    """Return whether a response says to go elsewhere, and we can.

    :param produced: the body came from a `body_producer`.
    """
    if head.code not in REDIRECTS or head.value(b"location") is None:
        return False
    return not produced or becomes_get(head.code, method)


def becomes_get(code: int, method: str) -> bool:
    """Return whether the redirected request is a GET whatever it was."""
    return (code == 303 and method != "HEAD") or (code in (301, 302) and method == "POST")


def redirected(request: HTTPRequest, head: Head) -> HTTPRequest:
    """Return the request to make next. `request` is left as it is.

    :raises ValueError: Location is no URL of http or https.
    """
    # Bytes beyond ASCII, and spaces, are quoted as browsers do.
    location = quote(head.value(b"location") or b"", safe=_KEPT)
    before = parse_url(request.url)
    url = urldefrag(urljoin(before.url, location)).url
    after = parse_url(url)
    following = copy.copy(request)
    following.headers = headers = HTTPHeaders(request.headers)
    headers.pop("Host", None)
    if before.origin == after.origin:
        if before.user is not None and after.user is None:
            following.auth_username, following.auth_password = before.user
    else:
        for name in CREDENTIALS:
            headers.pop(name, None)
        following.auth_username = following.auth_password = None
        parts = urlsplit(url)
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    following.url = url
    if becomes_get(head.code, request.method):
        following.method = "GET"
        following.body = following.body_producer = None
        following.expect_100_continue = False
        for name in ABOUT_THE_BODY:
            headers.pop(name, None)
    return following
