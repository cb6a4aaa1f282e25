"""From a request to what answers it. Names are Tornado's (tornado.routing).

A rule has a matcher (of the path, the host, anything) and a target: a handler class, more rules, a router, or a
function that takes the request. The first rule that matches wins.

What was decided: a path pattern without groups or other magic is a literal, and literals are one dict look-up. Rules
are tried in the order in which they were given, and so a literal may stand in the dict only if no rule before it also
matches it; those that are shadowed keep their place in the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from pollux.log import gen_log
from pollux_http import HTTPServerRequest
from pollux_http.delegates import Answer
from pollux_web.path_pattern import literal_of, template_of

if TYPE_CHECKING:
    from pollux_web.application import Application

Target = Any  # where a rule leads: a handler class or its dotted name, a list of rules, a Router, an Answer


class Matcher:
    """Says whether a rule is for a request."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return None if it is not; else what it found: `path_args` (a sequence), `path_kwargs` (a dict), both if
        any. Further entries go to `Router.find_handler`."""
        raise NotImplementedError

    def reverse(self, *args: Any) -> str | None:
        """Return a path that matches, with `args` in place of groups; None if that cannot be told."""
        return None


class AnyMatches(Matcher):
    """Matches every request."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """See `Matcher.match`."""
        return {}


class HostMatches(Matcher):
    """Matches hosts.

    :param host_pattern: a regular expression for the whole host name, in lower case, without a port.
    """

    def __init__(self, host_pattern: str | re.Pattern[str]) -> None:
        self.host_pattern = re.compile(host_pattern) if isinstance(host_pattern, str) else host_pattern

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """See `Matcher.match`."""
        return {} if self.host_pattern.fullmatch(request.host_name) else None


class DefaultHostMatches(Matcher):
    """Matches requests for other hosts than those there are rules for, if `application.default_host` matches. Not those
    that came through a proxy that says so (X-Real-Ip)."""

    def __init__(self, application: Application, host_pattern: re.Pattern[str]) -> None:
        self.application = application
        self.host_pattern = host_pattern

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """See `Matcher.match`."""
        default = self.application.default_host
        if default is None or "X-Real-Ip" in request.headers or not self.host_pattern.fullmatch(default):
            return None
        return {}


class PathMatches(Matcher):
    """Matches paths.

    :param path_pattern: a regular expression for the whole path.
    :raises ValueError: it is no regular expression.
    """

    def __init__(self, path_pattern: str | re.Pattern[str]) -> None:
        if isinstance(path_pattern, str):
            try:
                self.regex = re.compile(path_pattern)
            except re.error as error:
                raise ValueError(f"route {path_pattern!r} is no regular expression: {error}") from None
        else:
            self.regex = path_pattern
        self.literal = literal_of(self.regex.pattern) if not self.regex.flags & re.IGNORECASE else None

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """See `Matcher.match`; groups come decoded, as str."""
        found = self.regex.fullmatch(request.path)
        if found is None:
            return None
        args, named = groups_of(found)
        return {"path_args": args, "path_kwargs": named} if args or named else {}

    def reverse(self, *args: Any) -> str | None:
        """See `Matcher.reverse`. Groups are filled in order, named or not.

        :raises ValueError: the number of arguments is not that of the groups.
        """
        template = template_of(self.regex.pattern)
        if template is None:
            return None
        if len(args) != len(template) - 1:
            raise ValueError(f"{self.regex.pattern!r} has {len(template) - 1} groups, got {len(args)} arguments")
        filled = [quote(arg if isinstance(arg, bytes) else str(arg)) for arg in args]
        return template[0] + "".join([part + rest for part, rest in zip(filled, template[1:], strict=True)])


def groups_of(found: re.Match[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments found in a path, decoded; those that are no UTF-8 as
    `raw_groups_of` does, for the handler to refuse.
    """
    plain = "%" not in found.string
    try:
        if found.re.groupindex:
            named = found.groupdict()
            return (), named if plain else {name: _unquote(value) for name, value in named.items()}
        groups = found.groups()
        return groups if plain else tuple([_unquote(group) for group in groups]), {}
    except UnicodeDecodeError:
        return raw_groups_of(found)


def raw_groups_of(found: re.Match[str]) -> tuple[Undecoded, dict[str, bytes | None]]:
    """As `groups_of`, for the handler's `decode_argument` to decode."""
    if found.re.groupindex:
        return Undecoded(), {name: _bytes(value) for name, value in found.groupdict().items()}
    return Undecoded([_bytes(group) for group in found.groups()]), {}


class Undecoded(tuple[Any, ...]):
    """Arguments found in a path, and those by keyword beside them, that are still bytes."""

    __slots__ = ()


def _unquote(group: str | None) -> str | None:
    """Decode %XX in a group, as UTF-8."""
    if group is None or "%" not in group:
        return group
    return unquote_to_bytes(group).decode()


def _bytes(group: str | None) -> bytes | None:
    return None if group is None else unquote_to_bytes(group)


class Rule:
    """One route.

    :param matcher: which requests it is for.
    :param target: what answers them: a `RequestHandler` class or its dotted name, a list of rules, a `Router`, or a
        function that takes the request.
    :param target_kwargs: for the handler's `initialize`, or a router's `find_handler`.
    :param name: for `reverse_url`.
    """

    __slots__ = ("matcher", "name", "target", "target_kwargs")

    def __init__(
        self, matcher: Matcher, target: Target, target_kwargs: dict[str, Any] | None = None, name: str | None = None
    ) -> None:
        self.matcher = matcher
        self.target = _imported(target) if isinstance(target, str) else target
        self.target_kwargs = target_kwargs or {}
        self.name = name

    def reverse(self, *args: Any) -> str | None:
        """See `Matcher.reverse`."""
        return self.matcher.reverse(*args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.matcher!r}, {self.target!r}, name={self.name!r})"


class URLSpec(Rule):
    """One route by path.

    :param pattern: a regular expression for the whole path; its groups become the handler method's arguments, named
        groups by keyword.
    :param handler: see `Rule`.
    :param kwargs: for the handler's `initialize`.
    :param name: for `reverse_url`.
    :raises ValueError: the pattern is no regular expression.
    """

    __slots__ = ("literal", "regex")
    matcher: PathMatches

    def __init__(
        self,
        pattern: str | re.Pattern[str],
        handler: Target,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        matcher = PathMatches(pattern)
        super().__init__(matcher, handler, kwargs, name)
        self.regex = matcher.regex
        self.literal = matcher.literal

    @property
    def handler_class(self) -> Any:
        """The target."""
        return self.target

    @property
    def kwargs(self) -> dict[str, Any]:
        """For the handler's `initialize`."""
        return self.target_kwargs

    def __repr__(self) -> str:
        target = getattr(self.target, "__name__", self.target)
        return f"URLSpec({self.regex.pattern!r}, {target}, name={self.name!r})"


def _imported(name: str) -> Any:
    """Return what a dotted name stands for.

    :raises ImportError: there is no such module, or nothing of that name in it.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ImportError(f"a target by name is 'module.Class', got {name!r}")
    try:
        return getattr(import_module(module), attribute)
    except AttributeError:
        raise ImportError(f"{module} has no {attribute!r}") from None


class Router:
    """Finds what answers a request; itself callable with one, so that it can be served: `HTTPServer(router)`."""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Answer | None:
        """Return what answers `request`: a function that takes it, or an `HTTPMessageDelegate`; or None.

        :param kwargs: what the matcher that led here found, and the rule's `target_kwargs`.
        """
        raise NotImplementedError

    def __call__(self, request: HTTPServerRequest) -> None:
        """Answer a request, with 404 if nothing is found."""
        answer = self.find_handler(request)
        if answer is None:
            request.connection.respond(404, body=b"404 Not Found\n", content_type="text/plain; charset=UTF-8")
        else:
            answer(request)


class ReversibleRouter(Router):
    """A router that finds paths by name."""

    def reverse_url(self, name: str, *args: Any) -> str | None:
        """Return the path of a named rule with `args` in place of its groups; None if there is no such rule."""
        raise NotImplementedError


class RuleRouter(Router):
    """A router with a list of rules.

    :param rules: `Rule`s, or tuples of their arguments; a pattern in place of a matcher is one of the path.
    """

    def __init__(self, rules: Iterable[Any] | None = None) -> None:
        self.rules: list[Rule] = []
        if rules:
            self.add_rules(rules)

    def add_rules(self, rules: Iterable[Any]) -> None:
        """Add rules behind those that are there.

        :raises TypeError: one is neither a `Rule` nor a tuple of two to four.
        """
        for rule in rules:
            self.rules.append(self.process_rule(as_rule(rule)))

    def process_rule(self, rule: Rule) -> Rule:
        """Return the rule to add; rules as its target become a router. Override it to check or change rules."""
        if isinstance(rule.target, (list, tuple)):
            rule.target = self._nested(rule.target)
        return rule

    def _nested(self, rules: Iterable[Any]) -> RuleRouter:
        return type(self)(rules)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Answer | None:
        """See `Router.find_handler`."""
        for rule in self.rules:
            found = rule.matcher.match(request)
            if found is not None:
                answer = self.get_target_delegate(rule.target, request, **{**found, **_extra(rule)})
                if answer is not None:
                    return answer
        return None

    def get_target_delegate(self, target: Target, request: HTTPServerRequest, **target_params: Any) -> Answer | None:
        """Return a function that answers `request` by a rule's target; None to go on with the next rule."""
        if isinstance(target, Router):
            return target.find_handler(request, **target_params)
        if callable(target):
            return target  # type: ignore[no-any-return]
        return None


def _extra(rule: Rule) -> dict[str, Any]:
    return {"target_kwargs": rule.target_kwargs} if rule.target_kwargs else {}


class ReversibleRuleRouter(ReversibleRouter, RuleRouter):
    """A router with a list of rules that can be found by name."""

    def __init__(self, rules: Iterable[Any] | None = None) -> None:
        self.named_rules: dict[str, Rule] = {}
        super().__init__(rules)

    def process_rule(self, rule: Rule) -> Rule:
        """See `RuleRouter.process_rule`; keeps the name."""
        rule = super().process_rule(rule)
        if rule.name:
            if rule.name in self.named_rules:
                gen_log.warning("Several rules are named %r: the last is used", rule.name)
            self.named_rules[rule.name] = rule
        return rule

    def reverse_url(self, name: str, *args: Any) -> str | None:
        """See `ReversibleRouter.reverse_url`."""
        if name in self.named_rules:
            return self.named_rules[name].reverse(*args)
        for rule in self.rules:
            if isinstance(rule.target, ReversibleRouter):
                found = rule.target.reverse_url(name, *args)
                if found is not None:
                    return found
        return None


def as_rule(rule: Any) -> Rule:
    """Return a `Rule` made of a tuple; a `Rule` as it is.

    :raises TypeError: it is neither.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, (tuple, list)) or not 2 <= len(rule) <= 4:
        raise TypeError(f"a rule is a Rule, or (pattern or matcher, target[, kwargs[, name]]), got {rule!r}")
    if isinstance(rule[0], Matcher):
        return Rule(*rule)
    return URLSpec(*rule)
