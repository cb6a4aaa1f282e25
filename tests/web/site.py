"""One application that uses each feature of a handler, written once for Tornado and Pollux."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

import tornado.locale
import tornado.web

import pollux_web
import pollux_web.locale

SECRET = "a long and random text"
NOW = 1_700_000_000

TRANSLATIONS = {
    "de_DE.csv": '"Sign in","Anmelden"\n"%(n)d thing","%(n)d Ding","singular"\n"%(n)d things","%(n)d Dinge","plural"\n',
    "fr.csv": '"Sign in","Connexion"\n',
}
TEMPLATES = {
    "values.html": "<p>{{ text }} {{ number }} {{ current_user }} {{ request.method }} {{ _('Sign in') }} "
    "{{ static_url('a.txt') }} {{ reverse_url('article', 5) }} {{ handler.settings['word'] }} {{ squeeze('a  b') }} "
    "{{ url_escape('a b/c') }} {{ json_encode([1]) }} {{ shout('x') }} {{ locale.code }}</p>",
}
MODULES = {
    tornado.web: "<html><head></head><body>{% module Entry('<a>') %}{% module Entry('b') %}"
    "{% module linkify('www.a.b') %}{% module Template('inner.html', x=1) %}</body></html>",
    pollux_web: "<html><head></head><body>{{ module.Entry('<a>') }}{{ module.Entry('b') }}"
    "{{ module.linkify('www.a.b') }}{{ module.Template('inner.html', x=1) }}</body></html>",
}


def application(web: Any, routing: Any, directory: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return handlers and settings, written once for both frameworks."""
    handler: Any = web.RequestHandler

    class Cookies(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.set_cookie("plain", "value")
            self.set_cookie("quoted", 'a"b;c,d')
            self.set_cookie("all", "x", domain="a.b", path="/p", max_age=5, httponly=True, secure=True, samesite="Lax")
            self.set_cookie("date", "x", expires=datetime.datetime(2030, 1, 2, 3, 4, 5))
            self.set_cookie("number", "x", expires=NOW)
            self.set_cookie("tuple", "x", expires=time.gmtime(NOW))
            self.set_cookie("twice", "1")
            self.set_cookie("twice", "2")
            self.write({"seen": {name: morsel.value for name, morsel in self.cookies.items()}})
            self.write({"one": self.get_cookie("a"), "none": self.get_cookie("no", "default")})

        def post(self) -> None:
            self.set_cookie("kept", "1")
            raise web.HTTPError(403)

        def put(self) -> None:
            kind = self.get_argument("kind")
            if kind == "name":
                self.set_cookie("a b", "x")
            elif kind == "value":
                self.set_cookie("a", "x\n")
            elif kind == "clear":
                self.clear_cookie("a", max_age=1)
            else:
                self.set_cookie("a", "x", **{kind: self.get_argument("value", "a\r\nb")})

    class Signed(handler):  # type: ignore[misc]
        def get(self, name: str) -> None:
            value = self.get_signed_cookie(name, min_version=int(self.get_argument("min", "2")))
            assert value == self.get_secure_cookie(name, min_version=int(self.get_argument("min", "2")))
            version = self.get_signed_cookie_key_version(name)
            self.write({"value": value.decode() if value is not None else None, "version": version})

    class Form(handler):  # type: ignore[misc]
        def post(self) -> None:
            self.write({"a": self.get_body_arguments("a"), "q": self.get_query_arguments("a")})

    class Redirect(handler):  # type: ignore[misc]
        def get(self) -> None:
            status = self.get_argument("status", None)
            self.redirect(
                self.get_argument("to", "/x?a=b#c"),
                permanent=bool(self.get_argument("permanent", "")),
                status=int(status) if status else None,
            )

    class Etag(handler):  # type: ignore[misc]
        def get(self, kind: str) -> None:
            if kind == "post":
                self.set_header("X", "y")
            if kind == "own":
                self.set_header("Etag", '"mine"')
            if kind == "long":
                self.write("x" * 5000)
            if kind == "status":
                self.set_status(201)
            self.write("body")

        head = post = get

    class NoEtag(handler):  # type: ignore[misc]
        def compute_etag(self) -> str | None:
            return None

        def get(self) -> None:
            self.write("body")

    class Page(handler):  # type: ignore[misc]
        def get_current_user(self) -> Any:
            return self.get_argument("user", None)

        @web.authenticated  # type: ignore[untyped-decorator]
        def get(self) -> None:
            self.write(f"for {self.current_user}")

        @web.authenticated  # type: ignore[untyped-decorator]
        def post(self) -> None:
            self.write("posted")

        head = get

    class AbsoluteLogin(Page):
        def get_login_url(self) -> str:
            return "https://login.example/in"

    class QueryLogin(Page):
        def get_login_url(self) -> str:
            return "/in?next=/there"

    class Slashed(handler):  # type: ignore[misc]
        @web.addslash  # type: ignore[untyped-decorator]
        def get(self) -> None:
            self.write("slash")

        head = post = get

    class Unslashed(handler):  # type: ignore[misc]
        @web.removeslash  # type: ignore[untyped-decorator]
        def get(self) -> None:
            self.write("no slash")

        head = post = get

    class Finishing(handler):  # type: ignore[misc]
        def get(self, kind: str) -> None:
            self.set_status(401)
            self.write("written")
            raise web.Finish() if kind == "bare" else web.Finish(" given")

    class Article(handler):  # type: ignore[misc]
        def get(self, number: str) -> None:
            self.write(self.reverse_url("article", number) + self.reverse_url("two", "a b", "c/é"))

    class Rendered(handler):  # type: ignore[misc]
        def get_current_user(self) -> str:
            return "<me>"

        def get(self) -> None:
            self.render("values.html", text=self.get_argument("text", "<b> &"), number=5)

    class Modular(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.render("modules.html")

    class Entry(web.UIModule):  # type: ignore[misc]
        def render(self, text: str) -> str:
            return f"<i>{self.handler.request.method} {text}</i>"

        def embedded_javascript(self) -> str:
            return "let a = 1;"

        def javascript_files(self) -> list[str]:
            return ["a.txt", "/abs.js", "http://other/x.js"]

        def embedded_css(self) -> str:
            return "a {}"

        def css_files(self) -> str:
            return "a.txt"

        def html_head(self) -> str:
            return "<!-- head -->"

        def html_body(self) -> str:
            return "<!-- body -->"

    class Local(handler):  # type: ignore[misc]
        def get_user_locale(self) -> Any:
            locale = pollux_web.locale if web is pollux_web else tornado.locale
            code = self.get_argument("code", None)
            return locale.get(code) if code else None

        def get(self) -> None:
            locale = self.locale
            say = locale.translate
            self.write({
                "code": locale.code, "text": say("Sign in"), "one": say("%(n)d thing", "%(n)d things", 1) % {"n": 1},
                "two": say("%(n)d thing", "%(n)d things", 2) % {"n": 2}, "list": locale.list(["a", "b", "c"]),
                "one item": locale.list(["a"]), "none": locale.list([]), "number": locale.friendly_number(1234567),
                "day": locale.format_day(datetime.datetime(2020, 1, 2)), "rtl": locale.rtl,
                "name": locale.name,
                "full": locale.format_date(datetime.datetime(2010, 1, 2, 15, 4), full_format=True),
                "short": locale.format_date(NOW, shorter=True),
            })  # fmt: skip

    class Static(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.write(self.static_url("a.txt") + " " + self.static_url("a.txt", include_host=True))
            self.write(" " + self.static_url("a.txt", include_version=False) + " " + str(self.static_url("nothing")))

    class Json(handler):  # type: ignore[misc]
        def get(self) -> None:
            self.write({"tag": "</script>", "unicode": "é\u2028"})

    class Latin(handler):  # type: ignore[misc]
        def decode_argument(self, value: bytes, name: str | None = None) -> str:
            return value.decode("latin-1") + (name or "-")

        def get(self, word: str) -> None:
            self.write({"word": word, "args": self.get_arguments("a")})

    class Broken(handler):  # type: ignore[misc]
        def write_error(self, status_code: int, **kwargs: Any) -> None:
            self.set_header("Content-Type", "text/plain")
            self.finish(f"{status_code} {type(kwargs['exc_info'][1]).__name__}")

        def get(self) -> None:
            raise web.HTTPError(418, "%s and %r", "a", "b", reason="Teapot")

        def post(self) -> None:
            raise KeyError

    class Options(handler):  # type: ignore[misc]
        SUPPORTED_METHODS = (*handler.SUPPORTED_METHODS, "PROPFIND")

        def propfind(self) -> None:
            self.write("found")

    url = web.url
    two = url(r"/two/([^/]*)/(.*)", Form, name="two")
    handlers = [
        ("/cookies", Cookies), (r"/signed/(\w+)", Signed), ("/form", Form), ("/redirect", Redirect),
        (r"/etag/(\w*)", Etag), ("/noetag", NoEtag), ("/page", Page), ("/page/absolute", AbsoluteLogin),
        ("/page/query", QueryLogin), ("/slash/?", Slashed), ("/unslash/?", Unslashed), (r"/finish/(\w+)", Finishing),
        url(r"/article/(\d+)", Article, name="article"), two, ("/rendered", Rendered), ("/modular", Modular),
        ("/locale", Local), ("/static_url", Static), ("/json", Json), ("/latin/(.*)", Latin), ("/broken", Broken),
        ("/options", Options), ("/by/name", f"{web.__name__}.RedirectHandler", {"url": "/named"}),
        (r"/old/(\w+)/(.*)", web.RedirectHandler, {"url": "/new/{1}/{0}"}),
        (r"/temporary", web.RedirectHandler, {"url": "http://a.b/c?x=y", "permanent": False}),
        (r"/open(.*)", web.RedirectHandler, {"url": "{0}"}), (r"/hosted(.*)", web.RedirectHandler, {"url": "/{0}"}),
        ("/error", web.ErrorHandler, {"status_code": 410}),
        (r"/files/(.*)", web.StaticFileHandler, {"path": str(directory / "files"), "default_filename": "index.html"}),
        (routing.HostMatches("nested.example"), [("/who", web.RedirectHandler, {"url": "/nested"})]),
        (routing.PathMatches("/matched"), web.RedirectHandler, {"url": "/by-matcher"}),
    ]  # fmt: skip
    settings = {
        "cookie_secret": SECRET, "login_url": "/login", "word": "<w>", "ui_modules": {"Entry": Entry},
        "ui_methods": {"shout": lambda handler, text: f"{handler.request.method} {text}"},
        "template_path": str(directory / ("tornado" if web is tornado.web else "pollux")),
        "static_path": str(directory / "files"),
    }  # fmt: skip
    return handlers, settings


def make_directory(root: Path) -> Path:
    """Fill a directory with templates, translations and static files, good and bad."""
    for name, web in (("tornado", tornado.web), ("pollux", pollux_web)):
        (root / name).mkdir()
        for file, text in {**TEMPLATES, "modules.html": MODULES[web]}.items():
            (root / name / file).write_text(text)
        resources = "css_files=['/inner.css'], html_head='<!-- inner -->'"
        expression = f"{{{{ set_resources({resources}) }}}}"
        (root / name / "inner.html").write_text(f"{expression}<u>{{{{ x }}}}</u>")
    (root / "locales").mkdir()
    for file, text in TRANSLATIONS.items():
        (root / "locales" / file).write_text(text)
    files = root / "files"
    (files / "sub").mkdir(parents=True)
    (files / "empty").mkdir()
    (root / "files-secret").mkdir()
    (root / "files-secret" / "x").write_text("secret")
    (root / "outside").write_text("secret")
    (files / "a.txt").write_bytes(b"0123456789")
    (files / "none.txt").write_bytes(b"")
    (files / "a.tar.gz").write_bytes(b"gz")
    (files / "sp ace.html").write_text("space")
    (files / "noextension").write_text("?")
    (files / "favicon.ico").write_bytes(b"icon")
    (files / "sub" / "index.html").write_text("<h1>index</h1>")
    (files / "big.css").write_text("a" * 300_000)
    (files / "link_out").symlink_to(root / "outside")
    (files / "link_dir").symlink_to(root / "files-secret")
    (files / "link_nowhere").symlink_to(root / "nothing")
    (files / "link_in").symlink_to(files / "a.txt")
    os.mkfifo(files / "fifo")
    for path in files.rglob("*"):
        if path.is_file():
            os.utime(path, (NOW, NOW))
    tornado.locale.load_translations(str(root / "locales"))
    pollux_web.locale.load_translations(str(root / "locales"))
    return root
