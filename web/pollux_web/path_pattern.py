"""Patterns of paths, read backwards: what a regular expression matches, as text."""

from __future__ import annotations

import re
from functools import lru_cache

_MAGIC = re.compile(r"[\\.^$*+?{}\[\]|()]")
_ESCAPED = re.compile(r"\\([^\w\s])")  # a backslash before punctuation makes it plain, as re.escape writes it
_ANCHORS = re.compile(r"^\^|(?<!\\)\$$")


def literal_of(pattern: str) -> str | None:
    """Return the only path that `pattern` matches, or None if it may match others."""
    pattern = pattern.removesuffix("$")
    plain = _ESCAPED.sub("", pattern)
    return None if _MAGIC.search(plain) else _ESCAPED.sub(r"\1", pattern)


@lru_cache(1024)  # as many as there are routes
def template_of(pattern: str) -> tuple[str, ...] | None:
    """Return the plain text between the groups of `pattern` (one piece more than it has groups), or None if there is
    other magic than groups: then nobody can tell what to fill in.
    """
    pattern = _ANCHORS.sub("", pattern)
    pieces: list[str] = []
    start = 0
    for begin, end in _groups(pattern):
        if pattern.startswith("(?", begin) and not pattern.startswith("(?P<", begin):
            return None
        pieces.append(pattern[start:begin])
        start = end
    pieces.append(pattern[start:])
    texts = [literal_of(piece) if not piece.endswith("$") else None for piece in pieces]
    return None if None in texts else tuple([text for text in texts if text is not None])


def _groups(pattern: str) -> list[tuple[int, int]]:
    """Return where each outermost group begins and ends."""
    found = []
    depth = begin = position = 0
    in_set = False
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif in_set:
            in_set = character != "]"
        elif character == "[":
            in_set = True
            if pattern[position + 1 : position + 2] == "]":
                position += 1  # a bracket that stands first in a set belongs to it
        elif character == "(":
            begin = position if depth == 0 else begin
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                found.append((begin, position + 1))
        position += 1
    return found
