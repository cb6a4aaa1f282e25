"""Settings and where each came from; the choice of the backend.

Order, the first that says something wins: argument (or command-line option), environment variable `POLLUX_<NAME>`,
config file, default. The config file is the nearest one from the current directory upward: `pollux.toml`, or
`pyproject.toml` if it has a `[tool.pollux]` table (in the same directory `pollux.toml` wins). Files are not merged:
one file holds all that holds.

Facts this stands on: TOML 1.0 (https://toml.io/en/v1.0.0) by the standard library's `tomllib`, which keeps no line
numbers. `_line` recovers them from the parser itself, see there. An environment variable that is empty is not set.

Decision: an unknown key, or a value of the wrong type, anywhere in the file is an error even if nobody asks for that
setting: a typo that is quietly ignored is found in production. A file is parsed again only when it has changed, as
loops may be made by the thousand in tests.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pollux.backend import Backend
from pollux.errors import BackendError, ConfigError


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin: `argument`, `environment POLLUX_PORT`, `/path/pollux.toml:3` or `default`.

    `value` has the type of its `Option` (`kind`), or is None where that is the option's default.
    """

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend to use and what decided it; an origin that starts with `auto` means Pollux picked it."""

    backend: Backend
    origin: str


@dataclass(frozen=True, slots=True)
class Option:
    """A setting that exists.

    :param name: its key in the file; upper-cased after `POLLUX_` it is the environment variable.
    :param kind: str, int, float or bool. In the environment a bool is one of 1/0, true/false, yes/no, on/off. An int
        will do for a float.
    :param default: the value if nobody says anything.
    :param expected: what a right value is, as in "expected ...".
    :param accepted: the right values, where they can be told; words are compared in lower case.
    """

    name: str
    kind: type[str] | type[int] | type[float] | type[bool]
    default: str | int | float | bool | None
    summary: str
    expected: str
    accepted: Container[object] | None = None


_LEVELS = ("critical", "error", "warning", "info", "debug")
OPTIONS: dict[str, Option] = {  # Pollux's own; a plugin declares its own by the hook `pollux_settings`
    option.name: option
    for option in (
        Option("backend", str, "auto", "the poller under the loop", "the name of a backend, or 'auto'"),
        Option("log_level", str, "info", "least severe messages to log", f"one of {', '.join(_LEVELS)}", _LEVELS),
    )
}


def options() -> Mapping[str, Option]:
    """Return every setting there is, by name: those of Pollux itself, then those that plugins declare.

    :raises pollux.errors.PluginError: an installed plugin is broken.
    """
    from pollux import registry

    return OPTIONS | registry.settings()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A parsed config file: its absolute path and the settings in it, checked, each with `path:line` as its
    origin."""

    path: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


def setting(name: str, explicit: object = None) -> Setting:
    """Look one setting up.

    :param name: a key of `options()`.
    :param explicit: the argument or command-line option; None if not given.
    :raises pollux.errors.ConfigError: a value is wrong; says where it stands and what was expected.
    :raises ValueError: there is no such setting.
    """
    option = OPTIONS.get(name) or options().get(name)
    if option is None:
        raise ValueError(f"there is no setting {name!r}; expected one of {', '.join(options())}")
    if explicit is not None:
        return _checked(option, explicit, "argument")
    variable = f"POLLUX_{name.upper()}"
    if text := os.environ.get(variable):
        return _checked(option, _from_text(option, text), f"environment {variable}")
    file = config_file()
    if file is not None and name in file.settings:
        return file.settings[name]
    return Setting(option.default, "default")


def choose_backend(explicit: str | Backend | None = None) -> Choice:
    """Choose the backend: argument, else `POLLUX_BACKEND`, else the config file, else the best usable one.

    :param explicit: a backend's name, `"auto"`, a `Backend` of your own, or None if not given.
    :raises pollux.errors.BackendError: no backend of that name, or not usable here; lists all candidates.
    :raises pollux.errors.ConfigError: the environment or the config file is malformed.
    :raises pollux.errors.PluginError: an installed plugin is broken.
    """
    from pollux import registry

    if isinstance(explicit, Backend):
        if reason := registry.unusable(explicit):
            raise _refused(f"backend {explicit.name!r} (from argument) is not usable here: {reason}")
        return Choice(explicit, "argument")
    if explicit is not None and not isinstance(explicit, str):
        raise TypeError(f"backend: expected the name of a backend or a pollux.Backend, got {explicit!r}")
    wanted = setting("backend", explicit)
    backends = {backend.name: backend for backend in registry.backends()}
    if wanted.value == "auto":
        for backend in backends.values():
            if backend.priority > 0 and registry.unusable(backend) is None:
                return Choice(backend, "auto" if wanted.origin == "default" else f"auto ({wanted.origin})")
        raise _refused("no backend can be chosen automatically")
    if wanted.value not in backends:
        hint = guess(wanted.value, [*backends, "auto"])
        raise _refused(f"there is no backend {wanted.value!r} (from {wanted.origin}){hint}")
    chosen = backends[wanted.value]
    if reason := registry.unusable(chosen):
        raise _refused(f"backend {chosen.name!r} (from {wanted.origin}) is not usable here: {reason}")
    return Choice(chosen, wanted.origin)


def config_file() -> ConfigFile | None:
    """Return the config file that holds in the current directory, None if there is none.

    :raises pollux.errors.ConfigError: it is not valid TOML, or holds an unknown key or a wrong value.
    """
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # the current directory has been removed
        return None
    while True:
        for name, table in (("pollux.toml", ()), ("pyproject.toml", ("tool", "pollux"))):
            path = os.path.join(directory, name)
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                if file := _load(path, table, identity):
                    return file
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above


def _refused(problem: str) -> BackendError:
    from pollux import registry

    backends = registry.backends()
    if not backends:
        names = ", ".join(registry.disabled())
        hint = f"{registry.DISABLE}={names}" if names else "is the distribution 'pollux' installed in this environment?"
        return BackendError(f"{problem}\n  no installed plugin registers a backend: {hint}")
    lines = [problem]
    width = max(len(backend.name) for backend in backends)
    for backend in backends:
        reason = registry.unusable(backend)
        verdict = f"not usable: {reason}" if reason else "usable"
        only = "" if reason or backend.priority else ", only by name"
        lines.append(f"  {backend.name:{width}}  {verdict}{only}")
    return BackendError("\n".join(lines))


def guess(word: str, words: Sequence[str]) -> str:
    """Return `; did you mean ...?` for an error message, empty if no word comes close."""
    import difflib  # only when something is wrong already

    close = difflib.get_close_matches(word.lower().replace("-", "_"), words, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _from_text(option: Option, text: str) -> object:
    if option.kind is bool:
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        return words.get(text.strip().lower(), text)
    if option.kind is int and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text):
        return int(text)
    if option.kind is float and re.fullmatch(r"\s*[+-]?[0-9]{1,18}(\.[0-9]{0,18})?\s*", text):
        return float(text)
    return text


def _checked(option: Option, value: object, origin: str) -> Setting:
    if isinstance(value, str) and option.accepted is not None:
        value = value.lower()
    if option.kind is float and type(value) is int:
        value = float(value)
    # `type`, not isinstance: True is an int.
    if type(value) is not option.kind or (option.accepted is not None and value not in option.accepted):
        raise ConfigError(f"{origin}: {option.name} is {value!r}, expected {option.expected}")
    return Setting(value, origin)


# The identity is part of the key: a file that has changed is another file.
@functools.lru_cache(maxsize=16)
def _load(path: str, table: tuple[str, ...], identity: tuple[int, ...]) -> ConfigFile | None:
    """Parse and check one file; None if it has no such table."""
    import tomllib

    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if table and table[-1].encode() not in raw:
        return None  # somebody else's pyproject.toml: neither parsed nor judged
    try:
        text = raw.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8, as TOML must be: byte {raw[error.start]:#04x}") from error
    except (ValueError, RecursionError) as error:
        raise _not_toml(path, text, error) from error
    values = document
    for depth, key in enumerate(table):
        if key not in values:
            return None
        values = values[key]
        if not isinstance(values, dict):
            origin = _origin(path, text, table[:depth], key)
            raise ConfigError(f"{origin}: {'.'.join(table[: depth + 1])} is {values!r}, expected a table")
    settings = {}
    for key, value in values.items():
        origin = _origin(path, text, table, key)
        if key not in OPTIONS and key not in options():
            hint = guess(key, list(options()))
            if not table and key in ("tool", "pollux"):
                hint = "; in pollux.toml the settings stand at the top, outside any table"
            raise ConfigError(f"{origin}: unknown setting {key!r}{hint}\n  known: {', '.join(options())}")
        settings[key] = _checked(OPTIONS.get(key) or options()[key], value, origin)
    return ConfigFile(path, settings)


def _not_toml(path: str, text: str, error: Exception) -> ConfigError:
    message = " ".join(str(error).split())
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place is None:
        return ConfigError(f"{path}: not valid TOML: {message}")
    line = place[1] or text.rstrip("\n").count("\n") + 1
    return ConfigError(f"{path}:{line}: not valid TOML: {message[: place.start()]}")


def _origin(path: str, text: str, table: tuple[str, ...], key: str) -> str:
    line = _line(text, table, key)
    return path if line is None else f"{path}:{line}"


def _line(text: str, table: tuple[str, ...], key: str) -> int | None:
    """Return the line that defines `key` in `table`: the first one after which the parser knows it.

    Candidates are the lines that could define the key. For each, the shortest prefix of the file that reaches past
    it and is valid TOML is parsed (a value may run over several lines): if the key is in there, this is its line.
    So dotted keys, inline tables and look-alikes in strings need no rules of their own. None only for a key written
    with escapes.
    """
    import tomllib

    defines = re.compile(rf"""(?:^|[\[.{{,])\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not defines.search(line):
            continue
        for end in range(number, len(lines) + 1):
            try:
                found: object = tomllib.loads("\n".join(lines[:end]))
            except ValueError:
                continue
            for part in (*table, key):
                found = found.get(part) if isinstance(found, dict) else None
            if found is not None:
                return number
            break
    return None
