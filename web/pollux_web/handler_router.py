"""`HandlerRouter`: rules whose targets are handler classes of one application, ready to be looked up fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pollux_http import HTTPServerRequest
from pollux_http.delegates import Answer
from pollux_web.arguments import Arguments
from pollux_web.handler import RequestHandler
from pollux_web.routing import (
    ReversibleRuleRouter,
    Rule,
    RuleRouter,
    Target,
    URLSpec,
    groups_of,
    raw_groups_of,
)

if TYPE_CHECKING:
    from pollux_web.application import Application

# Where a path leads: the handler class, the route's kwargs, and the positional and keyword arguments found in the
# path. A plain tuple: taking it apart is the cheapest access there is.
Match = tuple[type[RequestHandler], dict[str, Any], tuple[Any, ...], dict[str, Any]]


Groups = Callable[[re.Match[str]], tuple[tuple[Any, ...], dict[str, Any]]]

_NOTHING: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


class HandlerRouter(ReversibleRuleRouter):
    """Rules of an application.

    :ivar literals: where those paths lead that are found without a search.
    """

    def __init__(self, application: Application, rules: Iterable[Any] | None = None) -> None:
        self.application = application
        self.literals: dict[str, Match] = {}
        # Each rule that has to be tried: before it the method that matches its path, if that is all it takes, behind it
        # the function that takes the groups out of the match, if there are any.
        self._searched: list[tuple[Callable[[str], re.Match[str] | None] | None, Rule, Groups | None]] = []
        super().__init__(rules)

    def _nested(self, rules: Iterable[Any]) -> RuleRouter:
        return HandlerRouter(self.application, rules)

    def process_rule(self, rule: Rule) -> Rule:
        """See `RuleRouter.process_rule`."""
        rule = super().process_rule(rule)
        if not isinstance(rule, URLSpec) or not _is_handler(rule.target):
            self._searched.append((None, rule, None))
            return rule
        literal = rule.literal
        if literal is None or any(match is None or match(literal) for match, _, _ in self._searched):
            self._searched.append((rule.regex.fullmatch, rule, _groups_for(rule)))
        elif literal not in self.literals:
            self.literals[literal] = (rule.target, rule.target_kwargs, (), {})
        return rule

    def lookup(self, request: HTTPServerRequest, path: str) -> Match | Answer | None:
        """Return where the first rule that matches `path` leads; None if there is none."""
        return self.literals.get(path) or self.search(request, path)

    def search(self, request: HTTPServerRequest, path: str) -> Match | Answer | None:
        """As `lookup`, but for literals."""
        for match, rule, groups in self._searched:
            if match is not None:
                found = match(path)
                if found is not None:
                    args, named = groups(found) if groups is not None else _NOTHING
                    return rule.target, rule.target_kwargs, args, named
            else:
                parts = rule.matcher.match(request)
                if parts is not None:
                    if rule.target_kwargs:
                        parts = {**parts, "target_kwargs": rule.target_kwargs}
                    answer = self._lead_on(rule.target, request, path, parts)
                    if answer is not None:
                        return answer
        return None

    def _lead_on(
        self, target: Target, request: HTTPServerRequest, path: str, parts: dict[str, Any]
    ) -> Match | Answer | None:
        if isinstance(target, HandlerRouter):
            return target.lookup(request, path)
        return self.get_target_delegate(target, request, **parts)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Answer | None:
        """See `Router.find_handler`."""
        found = self.lookup(request, request.path)
        if isinstance(found, tuple):
            handler_class, target_kwargs, args, named = found
            return self.application.get_handler_delegate(request, handler_class, target_kwargs, args, named)
        return found

    def get_target_delegate(self, target: Target, request: HTTPServerRequest, **target_params: Any) -> Answer | None:
        """See `RuleRouter.get_target_delegate`."""
        if _is_handler(target):
            return self.application.get_handler_delegate(request, target, **target_params)
        return super().get_target_delegate(target, request, **target_params)


def _is_handler(target: Target) -> bool:
    return isinstance(target, type) and issubclass(target, RequestHandler)


def _groups_for(rule: URLSpec) -> Groups | None:
    """Return what takes the groups out of a match for a handler class."""
    if not rule.regex.groups:
        return None
    return groups_of if rule.target.decode_argument is Arguments.decode_argument else raw_groups_of
