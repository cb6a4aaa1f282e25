"""The Cookie header (RFC 6265 5.4), as browsers write it and servers have come to read it.

It is split at each semicolon, white space around names and values is dropped, what has no "=" is a value without a
name: as Django does, not as the grammar of RFC 6265 4.1 has it, which browsers do not keep to. It is linear, whatever
is sent: the standard library's parser was quadratic in quoted values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.cookies import CookieError, Morsel, SimpleCookie

_ESCAPED = re.compile(r"\\([0-3][0-7][0-7]|.)")


def parse_cookie(header: str) -> dict[str, str]:
    """Return the cookies of a Cookie header; of equal names the last."""
    cookies = {}
    for part in header.split(";"):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "", name
        name, value = name.strip(), value.strip()
        if name or value:
            cookies[name] = _unquote(value)
    return cookies


def _unquote(value: str) -> str:
    """Undo the quotes and escapes that http.cookies puts around unusual characters."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)) if len(match[1]) == 3 else match[1], value[1:-1])


def as_morsels(cookies: Mapping[str, str]) -> dict[str, Morsel[str]]:
    """Return cookies in the form that the standard library has for them. Names that are not valid are left out."""
    result: SimpleCookie = SimpleCookie()
    for name, value in cookies.items():
        try:
            result[name] = value
        except CookieError:
            pass
    return result
