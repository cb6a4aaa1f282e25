"""Rules, matchers and routers; hosts; names read backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tornado.httputil
import tornado.routing
import tornado.web

from pollux_http import HTTPServerRequest
from pollux_web import Application, FallbackHandler, RequestHandler, StaticFileHandler, URLSpec, url
from pollux_web.routing import (
    AnyMatches,
    HostMatches,
    Matcher,
    PathMatches,
    ReversibleRuleRouter,
    Router,
    Rule,
    RuleRouter,
)
from tests.web.client import Web, get, post
from tests.web.oracle import ask_all


class Show(RequestHandler):
    def initialize(self, word: str = "-") -> None:
        self.word = word

    def get(self, *args: Any, **kwargs: Any) -> None:
        self.write({"word": self.word, "args": args, "kwargs": kwargs})


def show(word: str) -> dict[str, str]:
    return {"word": word}


def say(text: bytes) -> Callable[[HTTPServerRequest], None]:
    """Return a function that answers requests."""
    return lambda request: request.connection.respond(body=text)


def words(web: Web, callback: Any, *requests: bytes) -> list[Any]:
    """Return what each request was answered: the word of the handler, or status and body."""
    server = web.serve(callback)
    found: list[Any] = []
    for answer in web.run(ask_all(web, server.sockets[0].getsockname(), list(requests))):
        body = answer.body.decode()
        found.append(body.split('"')[3] if body.startswith("{") else body if answer.status == 200 else answer.status)
    return found


def test_hosts(web: Web) -> None:
    application = Application([("/", Show, show("any")), ("/only", Show, show("only"))], default_host="b.example")
    application.add_handlers(r"a\.example", [("/", Show, show("a")), ("/a(.*)", Show, show("a group"))])
    application.add_handlers(r"(.*\.)?b\.example", [("/", Show, show("b")), ("/b", Show, show("b only"))])
    requests = [
        get("/", "Host: a.example"), get("/", "Host: A.EXAMPLE:8080"), get("/ax", "Host: a.example"),
        get("/", "Host: www.b.example"), get("/", "Host: xa.example"), get("/", "Host: a.example.evil"),
        get("/only", "Host: a.example"), get("/b", "Host: unknown"), get("/b", "Host: unknown", "X-Real-Ip: 1.2.3.4"),
        get("/none", "Host: b.example"),
    ]  # fmt: skip
    assert words(web, application, *requests) == ["a", "a", "a group", "b", "any", "any", "only", "b only", 404, 404]


def test_routers_within_routers(web: Web) -> None:
    class OwnRouter(Router):
        def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
            if request.path.endswith("/skip"):
                return None
            return application.get_handler_delegate(request, Show, show("own"), path_args=[b"\xc3\xa9"])

    class Posts(Matcher):
        def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
            return {} if request.method == "POST" else None

    inner = Application([(".*", Show, show("inner"))])
    application = Application(
        [
            ("/first", Show, show("first")),
            (HostMatches("nested"), [("/first", Show, show("never")), ("/(x)", Show, show("nested"))]),
            Rule(Posts(), say(b"posted")),
            Rule(PathMatches("/own/.*"), OwnRouter()),
            ("/own/skip", Show, show("behind")),
            Rule(PathMatches("/rules/.*"), RuleRouter([("/rules/say", say(b"said"))])),
            ("/app/.*", inner),
            ("/fallback/.*", FallbackHandler, {"fallback": say(b"fallen back")}),
            Rule(AnyMatches(), [(r"/deep/(\d+)", Show, show("deep"))]),
            ("/late", Show, show("late")),
        ]
    )
    requests = [
        get("/first"), get("/first", "Host: nested"), get("/x", "Host: nested"), post("/first/", b""), get("/own/a"),
        get("/own/skip"), get("/rules/say"), get("/rules/other"), get("/app/a"), get("/fallback/a"), get("/deep/7"),
        get("/late"), get("/none"),
    ]  # fmt: skip
    assert words(web, application, *requests) == [
        "first", "first", "nested", "posted", "own", "behind", "said", 404, "inner", "fallen back", "deep", "late", 404,
    ]  # fmt: skip


def test_a_router_can_be_served(web: Web) -> None:
    router = RuleRouter([(PathMatches("/a"), say(b"a")), ("/b", [("/b", say(b"b"))])])
    assert words(web, router, get("/a"), get("/b"), get("/c")) == ["a", "b", 404]


def test_the_default_handler(web: Web) -> None:
    application = Application([], default_handler_class=Show, default_handler_args=show("default"))
    assert words(web, application, get("/x")) == ["default"]


PATTERNS: list[tuple[str, tuple[Any, ...]]] = [
    (r"/a/(\d+)/b", (5,)), (r"/a/([^/]+)/(\w+)", ("x y", "é")), (r"^/x/(?P<name>.*)$", ("a/b",)),
    (r"/a\.b/(.*)", ("&",)), ("/plain", ()), (r"/([)]x)", ("y",)), (r"/x/([^/]*)", (b"\xff",)),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "args"), PATTERNS)
def test_names_are_read_backwards_as_tornado_does(pattern: str, args: tuple[Any, ...]) -> None:
    expected = tornado.web.url(pattern, tornado.web.RequestHandler, name="n").reverse(*args)
    if pattern == r"/([)]x)":
        expected = "/y"  # Tornado takes the bracket for the group's end
    assert Application([url(pattern, Show, name="n")]).reverse_url("n", *args) == expected


def test_names_that_cannot_be_read_backwards() -> None:
    nested = [(HostMatches("h"), [url("/nested/(.*)", Show, name="nested")])]
    application = Application([url("/a/?", Show, name="magic"), url("/(a)(b)", Show, name="two"), *nested])
    application.add_handlers("host", [url("/host/(.*)", Show, name="host")])
    assert application.reverse_url("nested", "x") == "/nested/x"
    assert application.reverse_url("host", "x") == "/host/x"
    for name in ("magic", "unknown"):
        with pytest.raises(KeyError, match=name):
            application.reverse_url(name)
    with pytest.raises(ValueError, match="has 2 groups, got 1 arguments"):
        application.reverse_url("two", "x")
    assert ReversibleRuleRouter([url("/x", Show, name="x")]).reverse_url("none") is None


def test_what_is_no_rule_is_told() -> None:
    wrongs: list[Any] = ["/x", ("/x",), ("/x", Show, {}, "n", 5), 7]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="a rule is a Rule, or"):
            Application([wrong])
    with pytest.raises(ImportError, match=r"'module\.Class', got 'Show'"):
        Application([("/", "Show")])
    with pytest.raises(ImportError, match="pollux_web has no 'Nothing'"):
        Application([("/", "pollux_web.Nothing")])


def test_rules_show_themselves() -> None:
    spec = URLSpec("/a", Show, {"k": 1}, name="n")
    assert (spec.handler_class, spec.kwargs, spec.name) == (Show, {"k": 1}, "n")
    assert repr(spec) == "URLSpec('/a', Show, name='n')"
    assert "PathMatches" in repr(Rule(PathMatches("/a"), Show))


def test_static_files_by_settings(web: Web, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("static")

    class Own(StaticFileHandler):
        def set_extra_headers(self, path: str) -> None:
            self.set_header("X-Own", path)

    application = Application(static_path=str(tmp_path), static_url_prefix="/s.x/", static_handler_class=Own)
    server = web.serve(application)
    answer = web.run(web.ask(server, get("/s.x/a.txt")))
    assert (answer.body, answer.one("X-Own")) == (b"static", "a.txt")
    assert web.run(web.ask(server, get("/sxx/a.txt"))).status == 404
