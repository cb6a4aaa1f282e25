"""Pages from Jinja2 templates, UI modules, and translations. The usual is compared with Tornado in
`test_oracle_features.py`."""

from __future__ import annotations

import datetime
import logging
import os
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import tornado.locale

from pollux.errors import MissingExtraError
from pollux_web import Application, RequestHandler, UIModule, locale
from tests.web.client import Answer, Web, get
from tests.web.oracle import ask_all


def served(web: Web, handler: type[RequestHandler], *requests: bytes, **settings: Any) -> list[Answer]:
    server = web.serve(Application([("/(.*)", handler)], **settings))
    return web.run(ask_all(web, server.sockets[0].getsockname(), list(requests or [get()])))


class Page(RequestHandler):
    def get(self, name: str) -> None:
        self.render(name, text="<b>")


def test_escaping_can_be_turned_off(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{{ text }} {{ text|safe }} {{ xsrf_form_html()[:7] }} {{ linkify('www.a.b <') }}")
    (on,) = served(web, Page, get("/a"), template_path=str(tmp_path))
    assert on.body == b'&lt;b&gt; <b> <input  <a href="http://www.a.b">www.a.b</a> &lt;'
    (off,) = served(web, Page, get("/a"), template_path=str(tmp_path), autoescape=None)
    assert off.body.startswith(b"<b> <b>")


def test_the_loader_may_be_ones_own(web: Web) -> None:
    environment = jinja2.Environment(loader=jinja2.DictLoader({"a": "mine {{ text }}"}), autoescape=True)
    assert served(web, Page, get("/a"), template_loader=environment)[0].body == b"mine &lt;b&gt;"


def test_the_directory_of_the_calling_file(web: Web, tmp_path: Path) -> None:
    (tmp_path / "beside.html").write_text("beside {{ text }}")
    (tmp_path / "handlers.py").write_text(
        "from pollux_web import RequestHandler\n"
        "class Page(RequestHandler):\n"
        "    def get(self, name):\n"
        "        self.render('beside.html', text=1)\n"
    )
    module = types.ModuleType("handlers")
    exec(compile((tmp_path / "handlers.py").read_text(), str(tmp_path / "handlers.py"), "exec"), module.__dict__)
    assert served(web, module.Page)[0].body == b"beside 1"


def test_changed_templates(web: Web, tmp_path: Path) -> None:
    """Are seen in debug mode, and else kept."""
    for debug in (True, False):
        (tmp_path / "a").write_text("one")
        server = web.serve(Application([("/(.*)", Page)], template_path=str(tmp_path), debug=debug, autoreload=False))
        assert web.run(web.ask(server, get("/a"))).body == b"one"
        (tmp_path / "a").write_text("two, longer")
        os.utime(tmp_path / "a", (0, 0))
        assert web.run(web.ask(server, get("/a"))).body == (b"two, longer" if debug else b"one")


def test_errors_in_templates_are_errors(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad").write_text("{% if %}")
    (tmp_path / "zero").write_text("{{ 1 / 0 }}")
    (tmp_path / "module").write_text("{{ module.Missing() }}")
    caplog.set_level(logging.ERROR)
    answers = served(
        web, Page, *(get(f"/{name}") for name in ("none", "bad", "zero", "module")), template_path=str(tmp_path)
    )
    assert [answer.status for answer in answers] == [500] * 4
    for text in ("TemplateNotFound", "TemplateSyntaxError", "ZeroDivisionError", "'Missing'"):
        assert text in caplog.text


def test_without_jinja(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    handler = RequestHandler(Application(), types.SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=r"pip install 'pollux\[web\]'"):
        handler.create_template_loader(str(tmp_path))


def test_rendering_twice_is_refused(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("page")
    errors: list[str] = []

    class Twice(RequestHandler):
        def get(self, name: str) -> None:
            self.render("a")
            try:
                self.render("a")
            except RuntimeError as error:
                errors.append(str(error))

    assert served(web, Twice, template_path=str(tmp_path))[0].body == b"page"
    assert errors == ["Cannot render() after finish()"]


def test_modules_of_a_python_module(web: Web, tmp_path: Path) -> None:
    source = types.ModuleType("ui")

    class Greeting(UIModule):
        def render(self, name: str) -> str:
            return self.render_string("greeting", name=name).decode() + f"{self.current_user}{self.locale.code}"

    source.Greeting = Greeting  # type: ignore[attr-defined]
    source.shout = lambda handler, text: text.upper()  # type: ignore[attr-defined]
    source._hidden = source.shout  # type: ignore[attr-defined]
    (tmp_path / "greeting").write_text("<i>{{ name }}</i>")
    (tmp_path / "a").write_text(
        "{{ module.Greeting(text) }}{{ modules['Greeting']('x') }}{{ shout('y') }}{{ _hidden }}"
    )
    (answer,) = served(web, Page, get("/a"), template_path=str(tmp_path), ui_modules=[source, {}], ui_methods=source)
    assert answer.body == b"<i>&lt;b&gt;</i>Noneen_US<i>x</i>Noneen_USY"
    with pytest.raises(NotImplementedError, match="UIModule has no render"):
        UIModule.render(UIModule.__new__(UIModule))


def test_resources_must_not_change(web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "inner").write_text("{{ set_resources(embedded_css=css) }}x")
    (tmp_path / "a").write_text("{{ module.Template('inner', css='1') }}{{ module.Template('inner', css='2') }}")
    assert served(web, Page, get("/a"), template_path=str(tmp_path))[0].status == 500
    assert "set_resources() of inner must not depend on the arguments" in caplog.text


# Locales


@pytest.fixture
def translations(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    empty = tmp_path / "empty"
    empty.mkdir()
    locale.load_translations(str(empty))
    locale.set_default_locale("en_US")


def test_csv_files(translations: Path, caplog: pytest.LogCaptureFixture) -> None:
    (translations / "de_DE.csv").write_bytes('\ufeff"school","Schule"\nshort\n"a","b","both"\n'.encode())
    (translations / "fr.csv").write_bytes('"school","école"\n'.encode("utf-16"))
    (translations / "notes.txt").write_text("x")
    (translations / "bad name.csv").write_text("x,y")
    locale.load_translations(str(translations))
    assert set(locale.get_supported_locales()) == {"de_DE", "fr", "en_US"}
    assert locale.get("de_DE").translate("school") == "Schule"
    assert locale.get("fr_CA").translate("school") == "école"
    assert locale.get("fr_CA").pgettext("building", "school") == "école"
    assert locale.get("xx", "fr-fr").code == "fr"
    assert locale.get("xx").translate("school") == "school"
    assert "a translation file is named like es_GT.csv" in caplog.text
    assert "de_DE.csv:3: expected plural, singular or nothing, got 'both'" in caplog.text
    with pytest.raises(TypeError, match="a plural needs a count"):
        locale.get("fr").translate("a", "b")
    with pytest.raises(KeyError, match="'it' is no supported locale"):
        locale.Locale.get("it")
    locale.set_default_locale("fr")
    assert locale.get("xx").code == "fr"


def catalogue(messages: dict[str, str]) -> bytes:
    """Return a .mo file (gettext manual, "The Format of GNU MO Files")."""
    items = sorted(messages.items())
    keys = b"".join(key.encode() + b"\0" for key, _ in items)
    table, strings = b"", b""
    start = 28 + 16 * len(items)
    position = start
    for key, _ in items:
        table += struct.pack("<II", len(key.encode()), position)
        position += len(key.encode()) + 1
    for _, value in items:
        table += struct.pack("<II", len(value.encode()), position)
        strings += value.encode() + b"\0"
        position += len(value.encode()) + 1
    return struct.pack("<7I", 0x950412DE, 0, len(items), 28, 28 + 8 * len(items), 0, start) + table + keys + strings


def test_gettext(translations: Path) -> None:
    folder = translations / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (translations / "other").mkdir()
    header = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
    (folder / "app.mo").write_bytes(
        catalogue(
            {
                "": header,
                "school": "Schule",
                "%d thing\0%d things": "%d Ding\0%d Dinge",
                "fish\x04school": "Schwarm",
                "fish\x04%d school\0%d schools": "%d Schwarm\0%d Schwärme",
            }
        )
    )
    locale.load_gettext_translations(str(translations), "app")
    german = locale.get("de_AT")
    assert isinstance(german, locale.GettextLocale)
    assert german.translate("school") == "Schule"
    assert [german.translate("%d thing", "%d things", n) % n for n in (1, 2)] == ["1 Ding", "2 Dinge"]
    assert german.pgettext("fish", "school") == "Schwarm"
    assert german.pgettext("other", "school") == "school"
    assert german.pgettext("fish", "%d school", "%d schools", 2) % 2 == "2 Schwärme"
    for call in (german.translate, lambda *words: german.pgettext("fish", *words)):
        with pytest.raises(TypeError, match="a plural needs a count"):
            call("a", "b")


@pytest.mark.parametrize("code", ["en_US", "da_DK"])
@pytest.mark.parametrize(
    "options", [{}, {"shorter": True}, {"relative": False}, {"full_format": True}, {"gmt_offset": 90}]
)
@pytest.mark.parametrize(
    "ago",
    [0, 1, 10, 49, 51, 100, 2990, 3100, 7000, 80_000, 90_000, 130_000, 300_000, 5_000_000, 31_000_000, 1e9, -30, -1e6],
)
def test_dates_are_tornados(translations: Path, code: str, options: dict[str, Any], ago: float) -> None:
    """In a language that no other test uses: Tornado keeps its locales for the life of the process."""
    (translations / "da_DK.csv").write_text('"school","Schule"\n')
    locale.load_translations(str(translations))
    tornado.locale.load_translations(str(translations))
    for _ in range(5):  # a second may begin between the two
        date = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=ago + 0.3)
        ours = locale.get(code).format_date(date, **options)
        theirs = tornado.locale.get(code).format_date(date, **options)
        if ours == theirs:
            break
    assert ours == theirs
