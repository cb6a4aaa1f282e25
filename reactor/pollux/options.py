"""Options that each module defines for itself, read from the command line and from files (names of tornado.options).

    define("port", 8888, help="port to listen on")
    parse_command_line()
    application.listen(options.port)

For programs written for Tornado; nothing else in Pollux uses it. New ones are as well served by argparse, which here
only lays out the help. The settings of Pollux itself are in `pollux.config`.

Command lines are read as Tornado reads them: `--name=value`, with one dash or two; a flag may go without value; the
first word that does not begin with a dash ends the options, and so does `--`. In names, dashes and underscores are the
same. To parse also sets up logging, see `pollux.log`: `--logging=none`, or `options.logging = None` before, leaves it
alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from pollux.errors import PolluxError
from pollux.log import define_logging_options

_UNSET: Any = object()

_DATES = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y%m%d %H:%M:%S",
    "%Y%m%d %H:%M", "%Y%m%d", "%H:%M:%S", "%H:%M", "%a %b %d %H:%M:%S %Y",
)  # fmt: skip
_UNITS = {
    "weeks": "weeks|w", "days": "days|d", "hours": "hours|h", "minutes": "minutes|min|m",
    "milliseconds": "milliseconds|ms", "microseconds": "microseconds|us", "seconds": "seconds|sec|s|",
}  # fmt: skip
_AMOUNT = re.compile(
    r"\s*([-+]?\d+(?:\.\d*)?)\s*(?:"
    + "|".join(f"(?P<{unit}>{words})" for unit, words in _UNITS.items())
    + r")(?![a-z])\s*",
    re.IGNORECASE,
)


class Error(PolluxError, ValueError):
    """An option is unknown, defined twice, or has a value that it cannot have."""


class _Option:
    """One option, with its value."""

    def __init__(
        self, name: str, default: Any, kind: type, text: str | None, metavar: str | None, multiple: bool, group: str,
        callback: Callable[[Any], object] | None, place: str,
    ) -> None:  # fmt: skip
        self.name, self.kind, self.help, self.metavar, self.multiple = name, kind, text, metavar, multiple
        self.group, self.callback, self.place = group, callback, place
        self.default = [] if default is None and multiple else default
        self.given = _UNSET

    def value(self) -> Any:
        return self.default if self.given is _UNSET else self.given

    def set(self, value: Any) -> None:
        if self.multiple and not isinstance(value, list):
            raise Error(f"option {self.name!r} takes several values: expected a list, got {value!r}")
        for item in value if self.multiple else [value]:
            if item is not None and not isinstance(item, self.kind):
                raise Error(f"option {self.name!r} is of type {self.kind.__name__}, got {item!r}")
        self._take(value)

    def parse(self, text: str) -> None:
        self._take(
            [item for part in text.split(",") for item in self._items(part)] if self.multiple else self._one(text)
        )

    def _take(self, value: Any) -> None:
        self.given = value
        if self.callback is not None:
            self.callback(value)

    def _items(self, text: str) -> Iterable[Any]:
        if issubclass(self.kind, int) and ":" in text:  # 3:5 is 3, 4 and 5
            first, _, last = text.partition(":")
            return range(self._one(first), self._one(last) + 1)
        return [self._one(text)]

    def _one(self, text: str) -> Any:
        try:
            if self.kind is bool:
                return text.lower() not in ("false", "0", "f")
            if self.kind is datetime.datetime:
                return _datetime(text)
            if self.kind is datetime.timedelta:
                return _timedelta(text)
            return self.kind(text)
        except ValueError as error:
            raise Error(f"option {self.name!r} is of type {self.kind.__name__}, got {text!r}: {error}") from None


def _datetime(text: str) -> datetime.datetime:
    for form in _DATES:
        try:
            return datetime.datetime.strptime(text, form)
        except ValueError:
            continue
    raise ValueError(f"expected such as {datetime.datetime(2026, 1, 31, 13, 5):{_DATES[0]}}")


def _timedelta(text: str) -> datetime.timedelta:
    total, position = datetime.timedelta(), 0
    while position < len(text):
        amount = _AMOUNT.match(text, position)
        if amount is None or amount.end() == position:
            raise ValueError("expected such as 1h 30m, 250ms, or a number of seconds")
        total += datetime.timedelta(**{str(amount.lastgroup): float(amount[1])})
        position = amount.end()
    return total


class OptionParser:
    """A set of options, by name: as attributes and as items. `options` is the one that programs share."""

    _options: dict[str, _Option]
    _callbacks: list[Callable[[], object]]

    def __init__(self) -> None:
        vars(self).update(_options={}, _callbacks=[])
        self.define("help", type=bool, help="show this help", callback=self._show_help, group="")

    def _find(self, name: str) -> _Option:
        try:
            return self._options[name.replace("_", "-")]
        except KeyError:
            raise AttributeError(f"there is no option {name!r}: define() it before") from None

    def __getattr__(self, name: str) -> Any:
        return self._find(name).value()

    def __setattr__(self, name: str, value: Any) -> None:
        self._find(name).set(value)

    __getitem__ = __getattr__
    __setitem__ = __setattr__

    def __contains__(self, name: str) -> bool:
        return name.replace("_", "-") in self._options

    def __iter__(self) -> Iterator[str]:
        return iter([option.name for option in self._options.values()])

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return names and values."""
        return [(option.name, option.value()) for option in self._options.values()]

    def groups(self) -> set[str]:
        """Return the names of the groups."""
        return {option.group for option in self._options.values()}

    def group_dict(self, group: str | None) -> dict[str, Any]:
        """Return names and values of a group; of all for ""."""
        return {o.name: o.value() for o in self._options.values() if not group or o.group == group}

    def as_dict(self) -> dict[str, Any]:
        """Return names and values of all."""
        return dict(self.items())

    def define(
        self,
        name: str,
        default: Any = None,
        type: type | None = None,
        help: str | None = None,
        metavar: str | None = None,
        multiple: bool = False,
        group: str | None = None,
        callback: Callable[[Any], object] | None = None,
    ) -> None:
        """Define an option.

        :param default: None if there is none; then [] of one with several values.
        :param type: str, int, float, bool, datetime, timedelta, or what can be made of a str; None for that of
            `default`, else str.
        :param metavar: what the help calls the value.
        :param multiple: the value is a list; on the command line `a,b`, and of int also `1:3`.
        :param group: under which the help shows it; None for the file that calls this.
        :param callback: called with the value when it is set, such as `lambda path: parse_config_file(path,
            final=False)`.
        :raises Error: it is defined already.
        """
        place = _caller()
        existing = self._options.get(name.replace("_", "-"))
        if existing is not None:
            raise Error(f"option {name!r} is defined already, in {existing.place or 'pollux.options'}")
        kind = type or (default.__class__ if default is not None and not multiple else str)
        where = place if group is None else group
        option = _Option(name, default, kind, help, metavar, multiple, where, callback, place)
        self._options[name.replace("_", "-")] = option

    def parse_command_line(self, args: list[str] | None = None, final: bool = True) -> list[str]:
        """Read the options of a command line; return what stands behind them.

        :param args: None for `sys.argv`; the first item is the program's name.
        :param final: call the parse callbacks (logging); pass False to all parsing but the last.
        :raises Error: an option is unknown, or has no value, or one that it cannot have.
        """
        words = (sys.argv if args is None else args)[1:]
        rest: list[str] = []
        for number, word in enumerate(words):
            if not word.startswith("-") or word == "--":
                rest = words[number + (word == "--") :]
                break
            name, equals, value = word.lstrip("-").partition("=")
            if name not in self:
                self.print_help()
                raise Error(f"there is no option {word!r}")
            option = self._find(name)
            if not equals and option.kind is not bool:
                raise Error(f"option {name!r} needs a value: --{name}=...")
            option.parse(value if equals else "true")
        if final:
            self.run_parse_callbacks()
        return rest

    def parse_config_file(self, path: str, final: bool = True) -> None:
        """Run a Python file, and take those of its names that are options. Only your own files: they are code.

        :param path: of a file in UTF-8. A str for an option of another type is read as on the command line.
        :raises Error: a value is none that the option can have.
        """
        names: dict[str, Any] = {"__file__": os.path.abspath(path)}
        with open(path, "rb") as file:
            exec(compile(file.read(), path, "exec"), names, names)  # noqa: S102  # that is what a config file is
        for name, value in names.items():
            if name in self:
                option = self._find(name)
                if isinstance(value, str) and (option.multiple or option.kind is not str):
                    option.parse(value)
                else:
                    option.set(value)
        if final:
            self.run_parse_callbacks()

    def print_help(self, file: TextIO | None = None) -> None:
        """Print all options by group, to standard error by default."""
        parser = argparse.ArgumentParser(usage=f"{sys.argv[0]} [OPTIONS]", add_help=False)
        for group in sorted(self.groups()):
            section = parser.add_argument_group(f"{group} options" if group else "options")
            for option in sorted(self._options.values(), key=lambda option: option.name):
                if option.group == group:
                    value = f"={option.metavar or option.kind.__name__.upper()}" if option.kind is not bool else ""
                    default = f" ({option.default})" if option.default not in (None, "", []) else ""
                    words = f"{option.help or ''}{default}".replace("%", "%%")
                    section.add_argument(f"--{option.name}{value}", action="store_true", help=words)
        parser.print_help(file or sys.stderr)

    def _show_help(self, wanted: bool) -> None:
        if wanted:
            self.print_help()
            raise SystemExit(0)

    def add_parse_callback(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when everything is parsed."""
        self._callbacks.append(callback)

    def run_parse_callbacks(self) -> None:
        """Call the parse callbacks."""
        for callback in self._callbacks:
            callback()

    def mockable(self) -> _Mockable:
        """Return a view of the options for `mock.patch.object`, which deletes attributes to restore them."""
        return _Mockable(self)


class _Mockable:
    """The values of an `OptionParser`; to delete one brings back what it was before it was set."""

    def __init__(self, options: OptionParser) -> None:
        vars(self).update(_options=options, _originals={})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._originals.setdefault(name, getattr(self._options, name))
        setattr(self._options, name, value)

    def __delattr__(self, name: str) -> None:
        setattr(self._options, name, self._originals.pop(name))


def _caller() -> str:
    """Return the file of whoever called `define`, the method or the function; "" for this module."""
    frame: Any = sys._getframe(2)
    if frame.f_code is define.__code__:
        frame = frame.f_back
    name: str = frame.f_code.co_filename
    return "" if name == _caller.__code__.co_filename else name


def define(
    name: str,
    default: Any = None,
    type: type | None = None,
    help: str | None = None,
    metavar: str | None = None,
    multiple: bool = False,
    group: str | None = None,
    callback: Callable[[Any], object] | None = None,
) -> None:
    """Define an option of `options`: see `OptionParser.define`."""
    options.define(name, default, type, help, metavar, multiple, group, callback)


def parse_command_line(args: list[str] | None = None, final: bool = True) -> list[str]:
    """Read the command line into `options`: see `OptionParser.parse_command_line`."""
    return options.parse_command_line(args, final)


def parse_config_file(path: str, final: bool = True) -> None:
    """Read a file into `options`: see `OptionParser.parse_config_file`."""
    options.parse_config_file(path, final)


def print_help(file: TextIO | None = None) -> None:
    """Print all of `options`: see `OptionParser.print_help`."""
    options.print_help(file)


def add_parse_callback(callback: Callable[[], object]) -> None:
    """Have `callback` called when `options` are parsed."""
    options.add_parse_callback(callback)


options = OptionParser()
define_logging_options(options)
