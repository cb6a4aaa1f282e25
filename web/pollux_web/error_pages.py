"""The pages of errors: HTML, JSON for clients that prefer it, and in debug mode the traceback with its source.

Whatever came from the client or an exception is escaped: an error page runs in the site's origin.
"""

from __future__ import annotations

import linecache
import traceback
from html import escape
from types import TracebackType

from pollux_web.accept import best
from pollux_web.escape import json_encode

HTML = "text/html"
JSON = "application/json"
TEXT = "text/plain"

CONTEXT = 4  # lines of source around the one at fault
MAX_VALUE = 300  # characters of a local variable that are shown

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;margin:2em;color:#222;background:#fff}h1{font-size:1.4em;color:#a00}
pre{background:#f6f6f6;padding:.5em;overflow:auto;margin:.3em 0}b{background:#fd8;font-weight:normal}
summary{cursor:pointer;color:#666}td{vertical-align:top;padding-right:1em;font-family:monospace;white-space:pre-wrap}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#222}pre{background:#333}b{background:#740}}"""


def plain_page(status: int, reason: str, accept: str) -> tuple[str, str]:
    """Return content type and text of a page that says nothing but the status.

    :param accept: the client's Accept header: JSON goes to those who prefer it to HTML.
    """
    if accept and best(accept, (HTML, JSON), HTML) == JSON:
        return f"{JSON}; charset=UTF-8", json_encode({"error": {"code": status, "message": reason}})
    title = f"{status}: {escape(reason)}"
    return f"{HTML}; charset=UTF-8", f"<html><title>{title}</title><body>{title}</body></html>"


def debug_page(status: int, reason: str, accept: str, request: str, exc_info: ExcInfo) -> tuple[str, str]:
    """Return content type and text of a page with the traceback. For developers only: it shows source and variables.

    :param accept: HTML goes to those who ask for it by name, JSON to those who prefer it, plain text to others.
    :param request: method and target.
    """
    lines = traceback.format_exception(*exc_info)
    kind = best(accept, (TEXT, HTML, JSON), TEXT) if accept else TEXT
    if kind == JSON:
        error = {"code": status, "message": reason, "traceback": "".join(lines).splitlines()}
        return f"{JSON}; charset=UTF-8", json_encode({"error": error})
    if kind == TEXT:
        return f"{TEXT}; charset=UTF-8", "".join(lines)
    title = escape(f"{type(exc_info[1]).__name__}: {exc_info[1]}")
    frames = "".join(_frames(exc_info[2]))
    text = escape("".join(lines))
    page = (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{status} {escape(reason)}, in answer to <code>{escape(request)}</code></p>{frames}"
        f"<details><summary>As text, with its causes</summary><pre>{text}</pre></details></body></html>"
    )
    return f"{HTML}; charset=UTF-8", page


def _frames(tb: TracebackType | None) -> list[str]:
    """Return each frame as HTML, the innermost first."""
    result = []
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        shown = []
        for number in range(max(1, line - CONTEXT), line + CONTEXT + 1):
            if source := linecache.getline(code.co_filename, number):
                text = escape(f"{number:5} {source.rstrip()}")
                shown.append(f"<b>{text}</b>" if number == line else text)
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(_shortened(value))}</td></tr>"
            for name, value in frame.f_locals.items()
        )
        where = escape(f"{code.co_qualname}, {code.co_filename}:{line}")
        table = f"<details><summary>variables</summary><table>{rows}</table></details>" if rows else ""
        result.append(f"<h3>{where}</h3><pre>{chr(10).join(shown)}</pre>{table}")
    return result[::-1]


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # a broken __repr__ must not hide the error that is shown
        return f"<repr() raised {type(error).__name__}>"
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."
