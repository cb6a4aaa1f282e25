"""Entity tags: making and comparing them (RFC 9110 8.8.3 and 13.1.2).

The tag is the SHA-1 of the body, as Tornado's: it tells versions apart and guards nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from pollux_http.request import Fields

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE. Anchored by the quotes: linear.
_TAG = re.compile(r'\*|(?:W/)?"[^"]*"')


def etag_of(chunks: Iterable[bytes]) -> str:
    """Return the entity tag of a body in parts, quotes included."""
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return f'"{digest.hexdigest()}"'


# Fields that are known to have no condition, by identity: the parser remembers those of a client that repeats them.
_unconditional: dict[int, Fields] = {}
_MAX_UNCONDITIONAL = 256


def is_conditional(fields: Fields) -> bool:
    """Return whether a request has an If-None-Match."""
    key = id(fields)
    if _unconditional.get(key) is fields:
        return False
    for name, _ in fields:
        if name == b"if-none-match":
            return True
    if len(_unconditional) >= _MAX_UNCONDITIONAL:
        _unconditional.clear()
    _unconditional[key] = fields
    return False


def matches(if_none_match: str, etag: str) -> bool:
    """Return whether a list of entity tags has `etag`, or is "*": the weak comparison, which ignores `W/`."""
    wanted = etag.removeprefix("W/")
    return any(tag == "*" or tag.removeprefix("W/") == wanted for tag in _TAG.findall(if_none_match))


def matches_strongly(if_range: str, etag: str | None) -> bool:
    """Return whether a tag is `etag`, and neither is weak: what ranges need (RFC 9110 13.1.5)."""
    return etag is not None and if_range.strip() == etag and not etag.startswith("W/")
