"""`Cookies`: the part of a handler that reads and sets cookies, signed ones too.

Writing refuses what would change the meaning of Set-Cookie: control characters and semicolons, in the value of any
attribute, however its name is written.
"""

from __future__ import annotations

import datetime
import re
import time
from http.cookies import Morsel, SimpleCookie
from typing import Any

from pollux_http.cookies import as_morsels, parse_cookie
from pollux_web.httputil import format_timestamp
from pollux_web.responder import Responder
from pollux_web.signing import MAX_AGE_DAYS, create_signed_value, decode_signed_value, get_signature_key_version

_FORBIDDEN = re.compile(r"[\x00-\x20]")  # in name and value: Tornado's rule; the rest is quoted by http.cookies
_FORBIDDEN_IN_ATTRIBUTE = re.compile(r"[\x00-\x1f\x7f;]")
_ALWAYS = {"expires", "max_age", "expires_days"}  # arguments of set_cookie that clear_cookie decides itself


class Cookies(Responder):
    """Cookies of a handler. See `RequestHandler`."""

    _cookies: dict[str, str] | None = None

    def _received(self) -> dict[str, str]:
        if self._cookies is None:
            # RFC 9113 8.2.3 lets Cookie be split over several fields.
            self._cookies = parse_cookie("; ".join(self.request.headers.get_list("Cookie")))
        return self._cookies

    @property
    def cookies(self) -> dict[str, Morsel[str]]:
        """The cookies that the client sent: `handler.cookies["name"].value`. Names that are not valid are left out."""
        return as_morsels(self._received())

    def get_cookie(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a cookie that the client sent; `default` if it did not."""
        return self._received().get(name, default)

    def set_cookie(
        self,
        name: str,
        value: str | bytes,
        domain: str | None = None,
        expires: float | tuple[int, ...] | datetime.datetime | None = None,
        path: str = "/",
        expires_days: float | None = None,
        *,
        max_age: int | None = None,
        httponly: bool = False,
        secure: bool = False,
        samesite: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Set a cookie. The client shows it with its next request.

        :param expires: when the browser forgets it: seconds since 1970, a time tuple or a datetime (UTC if it is
            naive).
        :param expires_days: the same in days from now; None for the end of the browser's session.
        :param max_age: the same in seconds from now; browsers prefer it.
        :param samesite: "Lax", "Strict" or "None".
        :param kwargs: further attributes; `_` in their names stands for `-`.
        :raises ValueError: name or value hold white space or control characters, or an attribute a control character or
            a semicolon.
        :raises http.cookies.CookieError: the name is no token, or an attribute is unknown.
        """
        text = value.decode() if isinstance(value, bytes) else value
        if _FORBIDDEN.search(name + text):
            raise ValueError(f"a cookie holds no white space or control characters, got {name!r}: {text!r}")
        if expires is None and expires_days is not None:
            expires = time.time() + expires_days * 86400
        attributes: dict[str, Any] = {
            "domain": domain,
            "expires": None if expires is None else format_timestamp(expires),
            "path": path,
            "max-age": None if max_age is None else str(max_age),
            "httponly": httponly,
            "secure": secure,
            "samesite": samesite,
            **{key.replace("_", "-"): item for key, item in kwargs.items()},
        }
        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = text
        for key, item in attributes.items():
            if item is None or item is False or item == "":
                continue
            if item is not True:
                if _FORBIDDEN_IN_ATTRIBUTE.search(str(item)):
                    raise ValueError(f"a cookie's {key} holds no control character or semicolon, got {item!r}")
                item = str(item)
            cookie[name][key] = item
        self._own_headers()  # so that this is no plain response
        if self._new_cookies is None:
            self._new_cookies = SimpleCookie()
        self._new_cookies.pop(name, None)
        self._new_cookies[name] = cookie[name]

    def clear_cookie(self, name: str, **kwargs: Any) -> None:
        """Make the browser forget a cookie.

        :param kwargs: as for `set_cookie`: path and domain have to be those it was set with.
        :raises TypeError: `expires`, `expires_days` or `max_age` is among them.
        """
        for argument in sorted(_ALWAYS & kwargs.keys()):
            raise TypeError(f"clear_cookie() decides when the cookie ends: leave out {argument!r}")
        self.set_cookie(name, "", expires=time.time() - 365 * 86400, **kwargs)

    def clear_all_cookies(self, **kwargs: Any) -> None:
        """Clear each cookie that the client sent. Those that were set with another path or domain remain.

        :param kwargs: as for `clear_cookie`.
        """
        for name in self.cookies:
            self.clear_cookie(name, **kwargs)

    # Signed

    def set_signed_cookie(
        self,
        name: str,
        value: str | bytes,
        expires_days: float | None = 30,
        version: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Set a cookie that nobody can change or make without the setting `cookie_secret`. Everybody can read it.

        :param version: of the format, see `pollux_web.signing`.
        :param kwargs: as for `set_cookie`.
        :raises RuntimeError: `cookie_secret` is not set.
        """
        self.set_cookie(name, self.create_signed_value(name, value, version), expires_days=expires_days, **kwargs)

    def create_signed_value(self, name: str, value: str | bytes, version: int | None = None) -> bytes:
        """Sign a value as `set_signed_cookie` does, for other uses than cookies; `get_signed_cookie` verifies it."""
        self.require_setting("cookie_secret", "signed cookies")
        secret = self.settings["cookie_secret"]
        key_version = None
        if isinstance(secret, dict):
            self.require_setting("key_version", "key rotation: cookie_secret is a dict")
            key_version = self.settings["key_version"]
        return create_signed_value(secret, name, value, version, key_version=key_version)

    def get_signed_cookie(
        self,
        name: str,
        value: str | None = None,
        max_age_days: float = MAX_AGE_DAYS,
        min_version: int | None = None,
    ) -> bytes | None:
        """Return the value of a signed cookie; None if there is none, or it was not signed by us, for this name, within
        `max_age_days`.

        :param value: to verify in place of the cookie's.
        :param min_version: of the format; None for 2.
        """
        self.require_setting("cookie_secret", "signed cookies")
        if value is None:
            value = self.get_cookie(name)
        return decode_signed_value(self.settings["cookie_secret"], name, value, max_age_days, min_version=min_version)

    def get_signed_cookie_key_version(self, name: str, value: str | None = None) -> int | None:
        """Return the key version that a signed cookie claims; None if there is none."""
        self.require_setting("cookie_secret", "signed cookies")
        if value is None:
            value = self.get_cookie(name)
        return None if value is None else get_signature_key_version(value)

    # The names before Tornado 6.3.
    set_secure_cookie = set_signed_cookie
    get_secure_cookie = get_signed_cookie
    get_secure_cookie_key_version = get_signed_cookie_key_version

    def require_setting(self, name: str, feature: str = "this feature") -> None:
        """Raise an error unless the application has a setting.

        :raises RuntimeError: says which feature needs it.
        """
        if not self.settings.get(name):
            raise RuntimeError(f"You must define the {name!r} setting in your application to use {feature}")
