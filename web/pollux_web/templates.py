"""`Templates`: the part of a handler that renders pages, with Jinja2.

Decided: Jinja2 in place of Tornado's own template language, for its ecosystem and its tools. The names that a template
finds are Tornado's; so `{{ module.Entry(entry) }}`, `{{ _("Sign in") }}`, `{{ static_url("a.css") }}` and
`{{ xsrf_form_html() }}` go on working. What is written between braces is escaped unless it says it is markup.

An environment belongs to an application and a directory, and is made when a page is first rendered: Jinja2 is not
imported before.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from pollux.errors import MissingExtraError
from pollux_web import escape
from pollux_web.locale import Localized
from pollux_web.xsrf import XSRF

if TYPE_CHECKING:
    from jinja2 import Environment

    from pollux_web.ui_modules import UIModule

_HERE = os.path.dirname(os.path.abspath(__file__))


class Templates(XSRF, Localized):
    """Pages from templates. See `RequestHandler`."""

    _active_modules: dict[str, UIModule] | None = None

    def render(self, template_name: str, **kwargs: Any) -> Any:
        """End the request with a page; what its UI modules need (scripts, styles) is put into its head and body.

        :param template_name: relative to `get_template_path()`.
        :param kwargs: names for the template.
        :returns: what `finish` returned.
        :raises RuntimeError: the response is finished.
        """
        if self._finished:
            raise RuntimeError("Cannot render() after finish()")
        page = self.render_string(template_name, **kwargs)
        if self._active_modules:
            page = self._with_resources(page)
        return self.finish(page)

    def render_string(self, template_name: str, **kwargs: Any) -> bytes:
        """Return a template rendered, as UTF-8.

        :raises jinja2.TemplateNotFound: there is none of that name.
        """
        directory = self.get_template_path()
        if directory is None:
            directory = _directory_of_caller()
        namespace = self.get_template_namespace()
        namespace.update(kwargs)
        template = self._environment(directory).get_template(template_name)
        return template.render(namespace).encode()

    def get_template_path(self) -> str | None:
        """Return the directory of the templates: the setting `template_path`; None for that of the calling file."""
        return self.settings.get("template_path")

    def get_template_namespace(self) -> dict[str, Any]:
        """Return the names that every template has. Override it for more."""
        from markupsafe import Markup

        namespace: dict[str, Any] = {
            "handler": self,
            "request": self.request,
            "current_user": self.current_user,
            "locale": self.locale,
            "_": self.locale.translate,
            "translate": self.locale.translate,
            "pgettext": self.locale.pgettext,
            "static_url": self.static_url,
            "xsrf_form_html": lambda: Markup(self.xsrf_form_html()),  # noqa: S704  # it is ours, and escaped
            "reverse_url": self.reverse_url,
        }
        namespace.update(self._ui())
        return namespace

    def _ui(self) -> dict[str, Any]:
        """Return the application's UI methods, bound to this handler, and its modules."""
        from pollux_web.ui_modules import ModuleNamespace

        ui: dict[str, Any] = {
            name: (lambda *args, _method=method, **kwargs: _method(self, *args, **kwargs))
            for name, method in self.application.ui_methods.items()
        }
        ui["module"] = ui["modules"] = ui["_tt_modules"] = ModuleNamespace(self, self.application.ui_modules)
        return ui

    @property
    def ui(self) -> dict[str, Any]:
        """The application's UI methods and modules, by name."""
        return self._ui()

    def _environment(self, directory: str) -> Environment:
        environments = self.application.template_environments
        if directory not in environments:
            environments[directory] = self.create_template_loader(directory)
        environment: Environment = environments[directory]
        return environment

    def create_template_loader(self, template_path: str) -> Environment:
        """Return a new `jinja2.Environment` for a directory: the setting `template_loader`, or one with autoescape
        (unless the setting `autoescape` is None) that looks for changed files (unless `compiled_template_cache`).

        :raises MissingExtraError: Jinja2 is not installed.
        """
        settings = self.settings
        if "template_loader" in settings:
            return settings["template_loader"]  # type: ignore[no-any-return]
        try:
            import jinja2
        except ImportError as error:
            raise MissingExtraError("templates need Jinja2: pip install 'pollux[web]'") from error
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(template_path),
            autoescape=bool(settings.get("autoescape", True)),  # noqa: S701  # on, unless the program says otherwise
            auto_reload=not settings.get("compiled_template_cache", not settings.get("debug", False)),
        )
        markup = {"linkify": escape.linkify}
        plain = ("json_encode", "squeeze", "url_escape", "xhtml_escape")
        environment.globals.update({name: getattr(escape, name) for name in plain})
        environment.globals.update({"datetime": datetime, "escape": escape.xhtml_escape})
        for name, function in markup.items():
            environment.globals[name] = _as_markup(function)
            environment.filters[name] = _as_markup(function)
        return environment

    # The resources of UI modules

    def _with_resources(self, page: bytes) -> bytes:
        """Put what the modules of this page need before `</head>` and `</body>`."""
        js_files: list[str] = []
        css_files: list[str] = []
        js_code: list[str] = []
        css_code: list[str] = []
        heads: list[str] = []
        bodies: list[str] = []
        for module in (self._active_modules or {}).values():
            for found, into in (
                (module.javascript_files(), js_files), (module.css_files(), css_files),
                (module.embedded_javascript(), js_code), (module.embedded_css(), css_code),
                (module.html_head(), heads), (module.html_body(), bodies),
            ):  # fmt: skip
                if isinstance(found, (str, bytes)):
                    found = [escape.to_unicode(found)]
                into.extend(part for part in found or () if part)
        head = [
            self.render_linked_css(css_files).encode() if css_files else b"",
            self.render_embed_css(css_code) if css_code else b"",
            "".join(heads).encode(),
        ]
        body = [
            self.render_linked_js(js_files).encode() if js_files else b"",
            self.render_embed_js(js_code) if js_code else b"",
            "".join(bodies).encode(),
        ]
        before, tag, after = page.partition(b"</head>")
        if tag:
            page = b"".join([before, *[part + b"\n" for part in head if part], tag, after])
        before, tag, after = page.rpartition(b"</body>")
        if tag:
            page = b"".join([before, *[part + b"\n" for part in body if part], tag, after])
        return page

    def _resource_urls(self, files: Iterable[str]) -> Iterable[str]:
        """Return the URL of each file once: paths that are not absolute are static."""
        return dict.fromkeys(path if path.startswith("/") or "://" in path else self.static_url(path) for path in files)

    def render_linked_js(self, js_files: Iterable[str]) -> str:
        """Return the elements for scripts of UI modules. Override it to bundle them."""
        urls = self._resource_urls(js_files)
        return "".join(f'<script src="{escape.xhtml_escape(url)}" type="text/javascript"></script>' for url in urls)

    def render_embed_js(self, js_embed: Iterable[str | bytes]) -> bytes:
        """Return the element for embedded scripts of UI modules."""
        code = b"\n".join(escape.utf8(part) for part in js_embed)
        return b'<script type="text/javascript">\n//<![CDATA[\n' + code + b"\n//]]>\n</script>"

    def render_linked_css(self, css_files: Iterable[str]) -> str:
        """Return the elements for style sheets of UI modules."""
        urls = self._resource_urls(css_files)
        return "".join(f'<link href="{escape.xhtml_escape(url)}" type="text/css" rel="stylesheet"/>' for url in urls)

    def render_embed_css(self, css_embed: Iterable[str | bytes]) -> bytes:
        """Return the element for embedded styles of UI modules."""
        code = b"\n".join(escape.utf8(part) for part in css_embed)
        return b'<style type="text/css">\n' + code + b"\n</style>"

    # URLs

    def static_url(self, path: str, include_host: bool | None = None, **kwargs: Any) -> str:
        """Return the URL of a static file, with its version: it changes when the file does, so that browsers may keep
        it for ever.

        :param path: relative to the setting `static_path`. Never what a client sent.
        :param include_host: an absolute URL; None for the handler's attribute `include_host`, else no.
        :param kwargs: for `StaticFileHandler.make_static_url`.
        :raises RuntimeError: the application has no `static_path`.
        """
        from pollux_web.static_files import StaticFileHandler

        self.require_setting("static_path", "static_url")
        make = self.settings.get("static_handler_class", StaticFileHandler).make_static_url
        if include_host is None:
            include_host = getattr(self, "include_host", False)
        url: str = make(self.settings, path, **kwargs)
        return urljoin(f"{self.request.protocol}://{self.request.host}", url) if include_host else url

    def reverse_url(self, name: str, *args: Any) -> str:
        """Return the path of a named route, see `Application.reverse_url`."""
        return self.application.reverse_url(name, *args)


def _as_markup(function: Any) -> Any:
    """Return `function` with its result marked as HTML, for autoescape."""

    def marked(*args: Any, **kwargs: Any) -> Any:
        from markupsafe import Markup

        return Markup(function(*args, **kwargs))  # noqa: S704  # only for functions that escape what they are given

    return marked


def _directory_of_caller() -> str:
    """Return the directory of the first file up the stack that is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == _HERE:
        frame = frame.f_back
    return os.path.dirname(os.path.abspath(frame.f_code.co_filename))
