"""`XSRF`: the part of a handler that tells its own forms from those of other sites.

Two ways, either by a setting. `xsrf_cookies`: a random token in a cookie must come back in the form or a header, which
another site cannot read. `cross_origin_protection`: browsers say where a request comes from (Fetch metadata and the
Origin header); what says another origin is refused unless that is trusted.

A token in a page that is compressed could be guessed from its length (BREACH). So it is XORed with a new mask for each
page. Format, Tornado's: `2|<mask, 4 bytes in hex>|<masked token, hex>|<time>`; version 1 is the bare token in hex.
"""

from __future__ import annotations

import os
import time
from hmac import compare_digest
from html import escape
from typing import Any
from urllib.parse import urlsplit

from pollux_web.arguments import Arguments
from pollux_web.cookies import Cookies
from pollux_web.current_user import CurrentUser
from pollux_web.errors import HTTPError

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))  # RFC 9110 9.2.1

_TOKEN_SIZE = 16  # bytes
_MAX_TOKEN = 256  # characters of a token that is looked at


class XSRF(CurrentUser, Arguments, Cookies):
    """Protection against forged requests. See `RequestHandler`."""

    _raw_token: tuple[int | None, bytes, float] | None = None
    _xsrf_token: bytes | None = None

    @property
    def xsrf_token(self) -> bytes:
        """The token for this page; asking for it sets the cookie if the client has none."""
        if self._xsrf_token is None:
            version, token, timestamp = self._raw_xsrf_token()
            output = self.settings.get("xsrf_cookie_version", 2)
            if output == 1:
                self._xsrf_token = token.hex().encode()
            elif output == 2:
                mask = os.urandom(4)
                self._xsrf_token = b"2|%b|%b|%d" % (mask.hex().encode(), _xor(mask, token).hex().encode(), timestamp)
            else:
                raise ValueError(f"xsrf_cookie_version is 1 or 2, got {output!r}")
            if version is None:
                options: dict[str, Any] = dict(self.settings.get("xsrf_cookie_kwargs", {}))
                if self.current_user and "expires_days" not in options:
                    options["expires_days"] = 30
                self.set_cookie(self._xsrf_cookie_name, self._xsrf_token, **options)
        return self._xsrf_token

    @property
    def _xsrf_cookie_name(self) -> str:
        return str(self.settings.get("xsrf_cookie_name", "_xsrf"))

    def _raw_xsrf_token(self) -> tuple[int | None, bytes, float]:
        """Return format version (None for a new token), token and time of the cookie."""
        if self._raw_token is None:
            cookie = self.get_cookie(self._xsrf_cookie_name)
            found = _decode(cookie) if cookie else None
            self._raw_token = found if found is not None else (None, os.urandom(_TOKEN_SIZE), time.time())
        return self._raw_token

    def check_xsrf_cookie(self) -> None:
        """Refuse the request unless the token of the cookie came back in the argument `_xsrf` or a header, X-XSRFToken
        or X-CSRFToken. Called before `prepare` for methods other than GET, HEAD and OPTIONS with the setting
        `xsrf_cookies`; override it with nothing to leave a handler unprotected.

        :raises HTTPError: 403.
        """
        headers = self.request.headers
        sent = self.get_argument("_xsrf", None) or headers.get("X-Xsrftoken") or headers.get("X-Csrftoken")
        if not sent:
            raise HTTPError(403, "'_xsrf' argument missing from POST")
        found = _decode(sent)
        if found is None or not found[1]:
            raise HTTPError(403, "'_xsrf' argument has invalid format")
        if not compare_digest(found[1], self._raw_xsrf_token()[1]):
            raise HTTPError(403, "XSRF cookie does not match POST argument")

    def xsrf_form_html(self) -> str:
        """Return the hidden input element that each form has to contain with the setting `xsrf_cookies`."""
        return f'<input type="hidden" name="_xsrf" value="{escape(self.xsrf_token.decode())}"/>'

    def check_trusted_origin(self, origin: str) -> bool:
        """Return whether a request that changes something may come from another origin. Called before `prepare` with
        the setting `cross_origin_protection`. Default: it is in the setting `trusted_origins`.

        :param origin: as in the Origin header, such as "https://example.com"; "null" for a page that hides its own.
        """
        return origin in self.settings.get("trusted_origins", ())

    def _check_origin(self) -> None:
        """Refuse what a browser says comes from elsewhere. What sends neither header is no browser of today: it has no
        cookies that another site could use."""
        headers = self.request.headers
        origin = headers.get("Origin")
        site = headers.get("Sec-Fetch-Site")
        if site in ("same-origin", "none"):
            return
        if origin is None:
            if site is None:
                return
            raise HTTPError(403, "Cross-origin request (Sec-Fetch-Site: %r) without an Origin", site)
        if site is None and urlsplit(origin).netloc.lower() == self.request.host.lower():
            return
        if not self.check_trusted_origin(origin):
            raise HTTPError(403, "Cross-origin request from %r", origin)

    def _check_forgery(self, method: str) -> None:
        """Called for each method that is not safe."""
        settings = self.application.settings
        if settings.get("cross_origin_protection"):
            self._check_origin()
        if settings.get("xsrf_cookies"):
            self.check_xsrf_cookie()


def _decode(text: str) -> tuple[int, bytes, float] | None:
    """Return format version, token and time; None if it is malformed."""
    if len(text) > _MAX_TOKEN:
        return None
    try:
        if text[1:2] != "|":
            return 1, bytes.fromhex(text), time.time()
        version, mask, masked, timestamp = text.split("|")
        if version != "2" or len(mask) != 8:
            return None
        return 2, _xor(bytes.fromhex(mask), bytes.fromhex(masked)), float(int(timestamp))
    except ValueError:
        return None


def _xor(mask: bytes, data: bytes) -> bytes:
    return bytes([byte ^ mask[index % len(mask)] for index, byte in enumerate(data)])
