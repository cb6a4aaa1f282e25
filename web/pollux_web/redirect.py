"""`RedirectHandler`: sends clients elsewhere."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pollux_web.errors import HTTPError
from pollux_web.handler import RequestHandler
from pollux_web.httputil import qs_to_qsl, url_concat


class RedirectHandler(RequestHandler):
    """Redirects GET: `(r"/old/(.*)", RedirectHandler, {"url": "/new/{0}"})`.

    Groups of the path fill in the URL (`str.format`), the arguments of the query go along.
    """

    def initialize(self, url: str, permanent: bool = True) -> None:
        """Take the arguments of the route.

        :param url: where to.
        :param permanent: 301, else 302.
        """
        self._url = url
        self._permanent = permanent

    def get(self, *args: Any, **kwargs: Any) -> None:
        """Redirect.

        :raises HTTPError: 400, what the client sent would lead to another host than the route says.
        """
        url = self._url.format(*args, **kwargs)
        if _authority(url) != _authority(self._url):
            raise HTTPError(400, "%r would redirect to another host: %r", self.request.uri, url)
        if self.request.query_arguments:
            pairs = [(name, value.decode("latin-1")) for name, value in qs_to_qsl(self.request.query_arguments)]
            url = url_concat(url, pairs)
        self.redirect(url, permanent=self._permanent)


def _authority(url: str) -> tuple[str, str]:
    """Return scheme and host as a browser sees them: it takes a backslash for a slash, drops tabs and line breaks, and
    white space and control characters at the start."""
    seen = url.translate({ord(character): None for character in "\t\r\n"})
    seen = seen.lstrip("".join(map(chr, range(0x21)))).replace("\\", "/")
    slashes = len(seen) - len(seen.lstrip("/"))
    if slashes > 2:  # three slashes are as good as two to a browser
        seen = seen[slashes - 2 :]
    try:
        parts = urlsplit(seen)
    except ValueError:  # a bracket out of place
        return "invalid", seen
    return parts.scheme, parts.netloc
