"""The plugin registry: finds plugins, asks them for backends, and names the one at fault when something is wrong.

Facts this stands on
--------------------
* A plugin is an entry point in the group `pollux` (https://packaging.python.org/specifications/entry-points/).
* `importlib.metadata.entry_points` parses the file of every installed distribution and of its name: 40 to 55 ms
  with 500 distributions. Reading each `entry_points.txt` and parsing only those with a `[pollux]` section takes 6 to
  20 ms, and a malformed file of an unrelated distribution cannot break us. Names are resolved once more by
  `importlib.metadata.distribution`, so that a copy shadowed by an earlier path entry is not loaded.
* pluggy drops None from the results of a hook and does not say who returned what. A forgotten `return` is the most
  frequent mistake, so the implementations are called one by one.

Decision: a broken plugin is an error for everybody, at once and by name. Leaving it out quietly would move the
failure to the day when its backend is wanted. `POLLUX_DISABLE_PLUGINS=name[,name]` is the way round it.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pollux.backend import Backend
from pollux.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import Distribution, EntryPoint

    import pluggy

    from pollux.config import Option
    from pollux.hookspec import Subparsers

GROUP = "pollux"
DISABLE = "POLLUX_DISABLE_PLUGINS"
# `auto` is the word for "the best usable one".
RESERVED = frozenset({"auto"})


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin.

    :param name: the entry point's name: the word for `POLLUX_DISABLE_PLUGINS`.
    :param distribution: name and version of the distribution that brings it, such as `pollux 0.1.0`.
    :param target: what the entry point names, such as `pollux_backends.plugin`.
    """

    name: str
    distribution: str
    target: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of distribution {self.distribution!r}"

    def error(self, fault: str, where: str | None = None) -> PluginError:
        """Return the error that says what this plugin did wrong, where, and how to go on without it."""
        place = f" ({where})" if where else ""
        distribution = self.distribution.partition(" ")[0]
        return PluginError(
            f"{self}: {fault}{place}\n  to go on: uninstall {distribution!r}, or set {DISABLE}={self.name}"
        )


def backends() -> tuple[Backend, ...]:
    """Return every registered backend, highest priority first, then by name. Found once per process.

    :raises pollux.errors.PluginError: a plugin is broken, or two bring a backend of the same name.
    """
    return tuple(backend for backend, _ in _provided().values())


def provider(backend: Backend) -> Plugin | None:
    """Return the plugin that registered `backend`; None for one made by the application itself."""
    registered, plugin = _provided().get(backend.name, (None, None))
    return plugin if registered == backend else None


def unusable(backend: Backend) -> str | None:
    """Return None if `backend` is usable on this machine now, else the reason why not, on one line.

    A `check` that raises, or that returns something else than None or a reason, makes the backend unusable.
    """
    try:
        reason: object = backend.check()
    except Exception as error:
        fault = f"check raised {_described(error)}"
    else:
        if reason is None:
            return None
        if isinstance(reason, str) and reason.strip():
            return " ".join(reason.split())
        fault = f"check returned {reason!r}, expected None or the reason as a str"
    plugin = provider(backend)
    return f"{fault} ({plugin})" if plugin else fault


def disabled() -> tuple[str, ...]:
    """Return the plugin names in `POLLUX_DISABLE_PLUGINS`, in order."""
    return tuple(name for name in re.split(r"[,\s]+", os.environ.get(DISABLE, "")) if name)


def add_commands(subparsers: Subparsers) -> None:
    """Let every plugin add its subcommands to the `pollux` command line.

    :raises pollux.errors.PluginError: a plugin is broken, or its command sets no callable `run`.
    """
    for plugin, implementation in _implementations("pollux_commands"):
        known = set(subparsers.choices)
        try:
            _call(implementation, subparsers=subparsers)
        except Exception as error:
            raise _raised(plugin, "hook pollux_commands", error) from error
        for command in subparsers.choices.keys() - known:
            if not callable(subparsers.choices[command].get_default("run")):
                raise plugin.error(
                    f"hook pollux_commands: command {command!r} has no `run`; expected "
                    "parser.set_defaults(run=function)",
                    _defined(implementation),
                )


@functools.cache
def settings() -> dict[str, Option]:
    """Return every setting that a plugin declares, by name. Found once per process.

    :raises pollux.errors.PluginError: a plugin is broken, or a name is taken.
    """
    from pollux.config import OPTIONS, Option

    hook = "hook pollux_settings"
    found: dict[str, tuple[Option, Plugin | None]] = {name: (option, None) for name, option in OPTIONS.items()}
    for plugin, option, where in _items("pollux_settings", Option, "pollux.config.Option"):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(option.name)):
            raise plugin.error(f"{hook}: name is {option.name!r}, expected a lower-case word", where)
        if option.kind not in (str, int, float, bool):
            raise plugin.error(
                f"{hook}: {option.name}: kind is {option.kind!r}, expected str, int, float or bool", where
            )
        if option.name in found:
            first = found[option.name][1]
            raise plugin.error(f"{hook}: setting {option.name!r} is taken, by {first or 'Pollux itself'}", where)
        found[option.name] = option, plugin
    return {name: option for name, (option, plugin) in found.items() if plugin is not None}


_T = TypeVar("_T")


def _items(name: str, kind: type[_T], called: str) -> Iterator[tuple[Plugin, _T, str | None]]:
    """Yield what every plugin's hook returns, each with its plugin and where the hook is defined.

    :raises pollux.errors.PluginError: it is no iterable of `kind`.
    """
    for plugin, implementation in _implementations(name):
        hook, where = f"hook {name}", _defined(implementation)
        items: tuple[object, ...] | None = None
        try:
            result = _call(implementation)
            if isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
                items = tuple(result)  # inside the `try`: the hook may be a generator
        except Exception as error:
            raise _raised(plugin, hook, error) from error
        if items is None:
            raise plugin.error(f"{hook} returned {result!r}, expected an iterable of {called}", where)
        for item in items:
            if not isinstance(item, kind):
                raise plugin.error(f"{hook}: expected a {called}, got {item!r}", where)
            yield plugin, item, where


@functools.cache
def _provided() -> dict[str, tuple[Backend, Plugin]]:
    found: dict[str, tuple[Backend, Plugin]] = {}
    hook = "hook pollux_backends"
    for plugin, backend, where in _items("pollux_backends", Backend, "pollux.Backend"):
        if fault := _fault(backend):
            raise plugin.error(f"{hook}: Backend {backend.name!r}: {fault}", where)
        if backend.name in found:
            first = found[backend.name][1]
            other = "it twice" if first is plugin else f"it too: {first}"
            raise plugin.error(f"{hook}: backend name {backend.name!r} is taken; registers {other}", where)
        found[backend.name] = backend, plugin
    return dict(sorted(found.items(), key=lambda item: (-item[1][0].priority, item[0])))


def _fault(backend: Backend) -> str | None:
    """Say what is wrong with the fields of a registered backend, or None. The dataclass itself checks nothing."""
    # `object`: what a plugin puts there is not what the type says.
    fields: dict[str, object] = {name: getattr(backend, name) for name in Backend.__dataclass_fields__}
    name, summary, priority = fields["name"], fields["summary"], fields["priority"]
    good_name = isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", name) and name not in RESERVED
    for field, right, expected in (
        ("name", good_name, "a lower-case word other than 'auto'"),
        ("summary", isinstance(summary, str) and summary and summary.isprintable(), "one line of text"),
        ("create", callable(fields["create"]), "a callable that returns a Poller"),
        ("priority", type(priority) is int and priority >= 0, "an int >= 0"),
        ("check", callable(fields["check"]), "a callable that returns None or the reason why not"),
    ):
        if not right:
            return f"{field} is {fields[field]!r}, expected {expected}"
    return None


def _implementations(hook: str) -> Iterator[tuple[Plugin, pluggy.HookImpl]]:
    manager, plugins = _loaded()
    implementations: list[pluggy.HookImpl] = getattr(manager.hook, hook).get_hookimpls()
    for implementation in sorted(implementations, key=lambda item: item.plugin_name):
        plugin = plugins[implementation.plugin_name]
        if implementation.wrapper or implementation.hookwrapper:
            raise plugin.error(f"hook {hook} is a wrapper, expected a plain @hookimpl", _defined(implementation))
        yield plugin, implementation


def _call(implementation: pluggy.HookImpl, **arguments: object) -> object:
    # As in pluggy, an implementation may leave out arguments it does not need.
    return implementation.function(*(arguments[name] for name in implementation.argnames))


@functools.cache
def _loaded() -> tuple[pluggy.PluginManager, dict[str, Plugin]]:
    """Import and register every plugin that is not disabled."""
    import pluggy  # not at the top: `import pollux` must stay quick, and most programs need no plugin at that moment

    from pollux import hookspec

    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspec)
    for name in disabled():
        manager.set_blocked(name)
    plugins: dict[str, Plugin] = {}
    for entry_point, distribution in _entry_points():
        plugin = Plugin(entry_point.name, distribution, entry_point.value)
        if manager.is_blocked(plugin.name):
            continue
        if plugin.name in plugins:
            raise plugin.error(f"the plugin name is taken, also registered by {plugins[plugin.name]}")
        try:
            module = entry_point.load()
        except (Exception, SystemExit) as error:
            raise _raised(plugin, f"importing {plugin.target!r}", error) from error
        try:
            manager.register(module, plugin.name)
            manager.check_pending()
        except Exception as error:
            raise plugin.error(f"cannot be registered: {_line(error)}", getattr(module, "__file__", None)) from error
        plugins[plugin.name] = plugin
    return manager, plugins


def _entry_points() -> list[tuple[EntryPoint, str]]:
    """Return our entry points in order of name, each with its distribution as `name version`."""
    from importlib import metadata

    found: list[tuple[EntryPoint, str]] = []
    seen = set()
    for candidate in metadata.distributions():
        if f"[{GROUP}]" not in (candidate.read_text("entry_points.txt") or ""):
            continue
        name = _name(candidate)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(name)
            ours = distribution.entry_points.select(group=GROUP)
        except Exception as error:
            raise PluginError(
                f"distribution {name!r}: cannot read its entry points: {_described(error)}\n"
                f"  to go on: reinstall {name!r} or uninstall it"
            ) from error
        found.extend((entry_point, f"{name} {distribution.version}") for entry_point in ours)
    return sorted(found, key=lambda item: item[0].name)


def _name(distribution: Distribution) -> str:
    try:
        name: str | None = distribution.metadata["Name"]
    except Exception:  # no METADATA at all: what is raised differs between Python versions
        name = None
    if not name:
        where = distribution.locate_file("")
        raise PluginError(
            f"a distribution in {where} registers Pollux plugins but has no name\n"
            f"  to go on: remove or reinstall it; its entry points are:"
            f" {', '.join(str(entry.value) for entry in distribution.entry_points.select(group=GROUP))}"
        )
    return name


def _raised(plugin: Plugin, during: str, error: BaseException) -> PluginError:
    return plugin.error(f"{during} raised {_described(error)}", _where(error, plugin.target))


def _described(error: BaseException) -> str:
    text = _line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _where(error: BaseException, target: str) -> str | None:
    """Return `file:line` of the plugin's own code where `error` arose; None if none of its code has run."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{error.filename}:{error.lineno}"
    package = re.split(r"[.:]", target, maxsplit=1)[0]
    place = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            place = f"{frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _defined(implementation: pluggy.HookImpl) -> str | None:
    code = getattr(implementation.function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else None
