"""From a path to a handler class.

What was decided: a pattern without groups or other magic is a literal, and literals are one dict look-up. Patterns are
tried in the order in which they were given, and so a literal may stand in the dict only if no pattern before it also
matches it; those that are shadowed keep their place in the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from pollux_web.handler import RequestHandler

_MAGIC = re.compile(r"[\\.^$*+?{}\[\]|()]")
_ESCAPED = re.compile(r"\\([^\w\s])")  # a backslash before punctuation makes it plain, as re.escape writes it


class URLSpec:
    """One route.

    :param pattern: a regular expression for the whole path; its groups become the handler method's arguments, named
        groups by keyword.
    :param handler: a `RequestHandler` class.
    :param kwargs: for the handler's `initialize`.
    :param name: for those who look routes up by name.
    :raises ValueError: the pattern is no regular expression.
    """

    __slots__ = ("handler_class", "kwargs", "literal", "name", "regex")

    def __init__(
        self,
        pattern: str,
        handler: type[RequestHandler],
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        try:
            self.regex = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"route {pattern!r} is no regular expression: {error}") from None
        self.handler_class = handler
        self.kwargs = kwargs or {}
        self.name = name
        self.literal = _literal(pattern.removesuffix("$"))

    def __repr__(self) -> str:
        return f"URLSpec({self.regex.pattern!r}, {self.handler_class.__name__}, name={self.name!r})"


# Where a path leads: the handler class, the route's kwargs, and the positional and keyword arguments found in the
# path. A plain tuple: taking it apart is the cheapest access there is.
Match = tuple[type["RequestHandler"], dict[str, Any], tuple[str | None, ...], dict[str, str | None]]


class RouteTable:
    """Routes in order, ready to be looked up.

    :ivar literals: where those paths lead that are found without a search.
    """

    def __init__(self, specs: Iterable[URLSpec]) -> None:
        self.literals: dict[str, Match] = {}
        self._patterns: list[URLSpec] = []
        self.specs: list[URLSpec] = []
        self.add(specs)

    def add(self, specs: Iterable[URLSpec]) -> None:
        """Add routes behind those that are there."""
        for spec in specs:
            self.specs.append(spec)
            literal = spec.literal
            if literal is None:
                self._patterns.append(spec)
            elif literal not in self.literals and not any(p.regex.fullmatch(literal) for p in self._patterns):
                self.literals[literal] = (spec.handler_class, spec.kwargs, (), {})

    def find(self, path: str) -> Match | None:
        """Return where the first pattern that matches `path` leads, or None. Literals are for the caller to look up
        first."""
        for spec in self._patterns:
            found = spec.regex.fullmatch(path)
            if found is not None:
                if not spec.regex.groups:
                    return spec.handler_class, spec.kwargs, (), {}
                if spec.regex.groupindex:
                    named = {name: _unquote(value) for name, value in found.groupdict().items()}
                    return spec.handler_class, spec.kwargs, (), named
                return spec.handler_class, spec.kwargs, tuple([_unquote(group) for group in found.groups()]), {}
        return None


def _literal(pattern: str) -> str | None:
    """Return the only path that `pattern` matches, or None if it may match others."""
    plain = _ESCAPED.sub("", pattern)
    return None if _MAGIC.search(plain) else _ESCAPED.sub(r"\1", pattern)


def _unquote(group: str | None) -> str | None:
    """Decode %XX in a group, as UTF-8."""
    if group is None or "%" not in group:
        return group
    return unquote_to_bytes(group).decode("utf-8", "replace")
