"""UI modules: pieces of a page with the scripts and styles they need, `{{ module.Entry(entry) }}` in a template.

A module is made once for each page, however often it is used; its resources go into the page once.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pollux_web.escape import linkify, to_unicode

if TYPE_CHECKING:
    from pollux_web.handler import RequestHandler
    from pollux_web.templates import Templates


class UIModule:
    """A piece of a page. Override `render`, and of the others what it needs.

    :ivar handler: the handler whose page it is; `request`, `ui` and `locale` are its own.
    """

    def __init__(self, handler: RequestHandler) -> None:
        self.handler = handler
        self.request = handler.request
        self.ui = handler.ui
        self.locale = handler.locale

    @property
    def current_user(self) -> Any:
        """The handler's."""
        return self.handler.current_user

    def render(self, *args: Any, **kwargs: Any) -> str | bytes:
        """Return the HTML of the module."""
        raise NotImplementedError(f"{type(self).__name__} has no render()")

    def embedded_javascript(self) -> str | None:
        """Return a script to embed in the page."""

    def javascript_files(self) -> Iterable[str] | str | None:
        """Return scripts to link: paths of static files, or URLs."""

    def embedded_css(self) -> str | None:
        """Return styles to embed in the page."""

    def css_files(self) -> Iterable[str] | str | None:
        """Return style sheets to link: paths of static files, or URLs."""

    def html_head(self) -> str | None:
        """Return HTML for the end of the head."""

    def html_body(self) -> str | None:
        """Return HTML for the end of the body."""

    def render_string(self, path: str, **kwargs: Any) -> bytes:
        """Return a template rendered, see `RequestHandler.render_string`."""
        return self.handler.render_string(path, **kwargs)


class TemplateModule(UIModule):
    """`{{ module.Template("entry.html", entry=entry) }}`: a template with names of its own. In it,
    `{{ set_resources(css_files=...) }}` says what the page needs, by the names of the methods of `UIModule`.
    """

    def __init__(self, handler: RequestHandler) -> None:
        super().__init__(handler)
        self._resources: dict[str, dict[str, Any]] = {}  # by template: the same whatever its arguments

    def render(self, path: str, **kwargs: Any) -> bytes:
        """Return the template rendered."""

        def set_resources(**resources: Any) -> str:
            if self._resources.setdefault(path, resources) != resources:
                raise ValueError(f"set_resources() of {path} must not depend on the arguments of the template")
            return ""

        return self.render_string(path, set_resources=set_resources, **kwargs)

    def _each(self, name: str) -> list[Any]:
        return [resources[name] for resources in self._resources.values() if resources.get(name)]

    def _files(self, name: str) -> list[str]:
        return [file for found in self._each(name) for file in ([found] if isinstance(found, str) else found)]

    def embedded_javascript(self) -> str:
        """Return what the templates said."""
        return "\n".join(self._each("embedded_javascript"))

    def javascript_files(self) -> Iterable[str]:
        """Return what the templates said."""
        return self._files("javascript_files")

    def embedded_css(self) -> str:
        """Return what the templates said."""
        return "\n".join(self._each("embedded_css"))

    def css_files(self) -> Iterable[str]:
        """Return what the templates said."""
        return self._files("css_files")

    def html_head(self) -> str:
        """Return what the templates said."""
        return "".join(self._each("html_head"))

    def html_body(self) -> str:
        """Return what the templates said."""
        return "".join(self._each("html_body"))


class _Linkify(UIModule):
    def render(self, text: str, **kwargs: Any) -> str:
        return linkify(text, **kwargs)


class _XSRFForm(UIModule):
    def render(self) -> str:
        return self.handler.xsrf_form_html()


BUILT_IN: dict[str, type[UIModule]] = {"Template": TemplateModule, "linkify": _Linkify, "xsrf_form_html": _XSRFForm}


class ModuleNamespace:
    """What templates know as `module`: its attributes, and items, are the modules, ready to be called."""

    def __init__(self, handler: Templates, modules: dict[str, type[UIModule]]) -> None:
        self._handler = handler
        self._modules = modules

    def __getitem__(self, name: str) -> Callable[..., Any]:
        kind = self._modules[name]
        handler = self._handler

        def render(*args: Any, **kwargs: Any) -> Any:
            from markupsafe import Markup

            active = handler._active_modules
            if active is None:
                active = handler._active_modules = {}
            if name not in active:
                active[name] = kind(handler)  # type: ignore[arg-type]  # the only Templates there are
            return Markup(to_unicode(active[name].render(*args, **kwargs)))  # noqa: S704  # a module returns HTML

        return render

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no UI module {name!r}, only {', '.join(sorted(self._modules))}") from None


def modules_in(source: Any) -> dict[str, type[UIModule]]:
    """Return the UI modules in the setting `ui_modules`: a Python module, a dict, or a list of these."""
    return {
        name: thing
        for name, thing in _named(source)
        if isinstance(thing, type) and issubclass(thing, UIModule) and thing is not UIModule
    }


def methods_in(source: Any) -> dict[str, Callable[..., Any]]:
    """Return the functions in the setting `ui_methods`: a Python module, a dict, or a list of these. Names that begin
    with an underscore or a capital letter are none."""
    return {
        name: thing
        for name, thing in _named(source)
        if callable(thing) and not name.startswith("_") and name[:1].lower() == name[:1] and not isinstance(thing, type)
    }


def _named(source: Any) -> list[tuple[str, Any]]:
    if isinstance(source, types.ModuleType):
        return list(vars(source).items())
    if isinstance(source, dict):
        return list(source.items())
    return [pair for part in source for pair in _named(part)]
