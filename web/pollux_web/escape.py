"""Escaping and unescaping for HTML, JSON and URLs, under Tornado's names (tornado.escape).

Thin over the standard library: `html`, `json` and `urllib.parse`. What is ours is `linkify`, and that JSON never
contains "</", which would end a script element it stands in.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, overload
from urllib.parse import parse_qs, quote, quote_plus, unquote_plus, unquote_to_bytes

__all__ = [
    "json_decode",
    "json_encode",
    "linkify",
    "native_str",
    "parse_qs_bytes",
    "recursive_unicode",
    "squeeze",
    "to_basestring",
    "to_unicode",
    "url_escape",
    "url_unescape",
    "utf8",
    "xhtml_escape",
    "xhtml_unescape",
]


def _json_encoder() -> Callable[[Any], str]:
    """Return `json.dumps` with its defaults, made ready once: `dumps` makes a new C encoder for each call, which
    takes four times as long as encoding a small dict.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    plain = json.JSONEncoder()
    if make is None:  # a Python without it
        return plain.encode
    encode = make(
        None, plain.default, json.encoder.encode_basestring_ascii, None, plain.key_separator, plain.item_separator,
        plain.sort_keys, plain.skipkeys, plain.allow_nan,
    )  # fmt: skip
    return lambda value: "".join(encode(value, 0))


encode_json = _json_encoder()  # as `json.dumps`


@overload
def utf8(value: str | bytes) -> bytes: ...
@overload
def utf8(value: None) -> None: ...
def utf8(value: str | bytes | None) -> bytes | None:
    """Return str as UTF-8; bytes and None as they are.

    :raises TypeError: any other type.
    """
    if isinstance(value, str):
        return value.encode()
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError(f"expected str, bytes or None, got {type(value).__name__}")


@overload
def to_unicode(value: str | bytes) -> str: ...
@overload
def to_unicode(value: None) -> None: ...
def to_unicode(value: str | bytes | None) -> str | None:
    """Return bytes as str, decoded as UTF-8; str and None as they are.

    :raises TypeError: any other type.
    :raises UnicodeDecodeError: the bytes are no UTF-8.
    """
    if isinstance(value, bytes):
        return value.decode()
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"expected str, bytes or None, got {type(value).__name__}")


native_str = to_basestring = to_unicode


def recursive_unicode(value: Any) -> Any:
    """Return lists, tuples and dicts with all bytes in them as str."""
    if isinstance(value, dict):
        return {recursive_unicode(key): recursive_unicode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [recursive_unicode(item) for item in value]
    if isinstance(value, tuple):
        return tuple([recursive_unicode(item) for item in value])
    return to_unicode(value) if isinstance(value, bytes) else value


def xhtml_escape(value: str | bytes) -> str:
    """Escape `<`, `>`, `&` and both quotes: safe as text, and as an attribute's value within quotes."""
    return html.escape(to_unicode(value))


def xhtml_unescape(value: str | bytes) -> str:
    """Undo `xhtml_escape`, and all character references of HTML 5."""
    return html.unescape(to_unicode(value))


def json_encode(value: Any) -> str:
    """Return JSON that may stand in a script element: "</" in it becomes "<\\/", which means the same."""
    return encode_json(value).replace("</", "<\\/")


def json_decode(value: str | bytes) -> Any:
    """Return what JSON stands for.

    :raises ValueError: it is malformed.
    """
    return json.loads(value)


def squeeze(value: str) -> str:
    """Return `value` with each run of white space and control characters as one space, none at the ends."""
    return re.sub(r"[\x00-\x20]+", " ", value).strip()


def url_escape(value: str | bytes, plus: bool = True) -> str:
    """Escape for a URL.

    :param plus: for a query: a space becomes "+", a slash "%2F". Without, for a path: "%20", and slashes stay.
    """
    return quote_plus(utf8(value)) if plus else quote(utf8(value))


@overload
def url_unescape(value: str | bytes, encoding: None, plus: bool = True) -> bytes: ...
@overload
def url_unescape(value: str | bytes, encoding: str = "utf-8", plus: bool = True) -> str: ...
def url_unescape(value: str | bytes, encoding: str | None = "utf-8", plus: bool = True) -> str | bytes:
    """Undo `url_escape`.

    :param encoding: of the result; None for bytes.
    :param plus: "+" means a space.
    """
    text = to_unicode(value) if encoding is not None else value
    if encoding is None:
        raw = utf8(text)
        return unquote_to_bytes(raw.replace(b"+", b" ") if plus else raw)
    text = to_unicode(text)
    return unquote_plus(text if plus else text.replace("+", "%2B"), encoding=encoding)


def parse_qs_bytes(
    qs: str | bytes, keep_blank_values: bool = False, strict_parsing: bool = False, *, max_num_fields: int | None = None
) -> dict[str, list[bytes]]:
    """As `urllib.parse.parse_qs`, with bytes for values; the names are decoded as ISO-8859-1.

    :raises ValueError: more than `max_num_fields`; or it is malformed, with `strict_parsing`.
    """
    text = qs.decode("latin-1") if isinstance(qs, bytes) else qs
    found = parse_qs(
        text, keep_blank_values, strict_parsing, encoding="latin-1", errors="strict", max_num_fields=max_num_fields
    )
    return {name: [value.encode("latin-1") for value in values] for name, values in found.items()}


# What looks like a URL in text: a scheme with slashes, or "www."; then neither white space nor quotes nor markup. A
# scheme is short here, so that no text takes more than linear time.
_URL = re.compile(r"\b(?:([A-Za-z][A-Za-z0-9+.\-]{0,19}):/{1,3}|www\d{0,3}\.)[^\s<>\"']+")
_PUNCTUATION = ".,;:!?"
_SHORTENED = 30  # characters of a shortened link


def linkify(
    text: str | bytes,
    shorten: bool = False,
    extra_params: str | Callable[[str], str] = "",
    require_protocol: bool = False,
    permitted_protocols: Iterable[str] = ("http", "https"),
) -> str:
    """Return plain text as HTML with links; everything else in it is escaped.

    :param shorten: show only the beginning of long URLs (the whole is the link's title).
    :param extra_params: attributes for each link, or a function from the URL to them. They are not escaped.
    :param require_protocol: leave "www." without a protocol alone.
    :param permitted_protocols: that become links. `javascript` must never be among them.
    """
    permitted = set(permitted_protocols)
    source = to_unicode(text)
    result: list[str] = []
    position = 0
    for match in _URL.finditer(source):
        protocol = match[1]
        if (require_protocol and not protocol) or (protocol and protocol.lower() not in permitted):
            continue
        url = _trim(match[0])
        href = url if protocol else f"http://{url}"
        extra = extra_params(href) if callable(extra_params) else extra_params
        shown, title = url, ""
        if shorten and len(url) > _SHORTENED:
            shown = url[: _SHORTENED - 3].rstrip(".") + "..."
            title = f' title="{html.escape(href)}"'
        attributes = f" {extra.strip()}" if extra.strip() else ""
        result.append(html.escape(source[position : match.start()]))
        result.append(f'<a href="{html.escape(href)}"{title}{attributes}>{html.escape(shown)}</a>')
        position = match.start() + len(url)
    result.append(html.escape(source[position:]))
    return "".join(result)


def _trim(url: str) -> str:
    """Take off what ends the sentence rather than the URL: punctuation, and a bracket that the URL does not open."""
    surplus = {")": url.count(")") - url.count("("), "]": url.count("]") - url.count("[")}
    end = len(url)
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _PUNCTUATION:
            break
        end -= 1
    return url[:end]
