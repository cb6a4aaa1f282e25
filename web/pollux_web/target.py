"""From the word on the command line to the application it names, and its kind. What is wrong is said in one line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pollux.errors import PolluxError
from pollux_http.interface import InterfaceError, interface_of
from pollux_web.application import Application

DEFAULT_NAMES = ("app", "application")


class TargetError(PolluxError):
    """The target cannot be loaded, or is no application."""


def load_application(
    target: str, *, interface: str = "auto", factory: bool = False, app_dir: str | None = None
) -> tuple[Any, str]:
    """Return the application that `target` names, and its interface: "pollux", "asgi" or "wsgi".

    :param target: `module:attr` (attributes may be nested, `a.b`) or `path.py[:attr]`; without attr, `app` or
        `application`.
    :param interface: what it is, if its signature does not tell ("auto").
    :param factory: `target` names a function; what it returns is the application.
    :param app_dir: put at the front of `sys.path`, in place of the current directory.
    :raises TargetError: says what is wrong and where.
    """
    place, _, attribute = target.partition(":")
    if app_dir is not None and not os.path.isdir(app_dir):
        raise TargetError(f"there is no directory {app_dir!r} (from app_dir)")
    if place.endswith(".py") or os.sep in place:
        module = _load_file(place)
        if app_dir is not None:
            sys.path.insert(0, os.path.abspath(app_dir))
    elif place:
        if app_dir is not None:
            sys.path.insert(0, os.path.abspath(app_dir))
        module = _load_module(place)
    else:
        raise TargetError(f"{target!r} is no target: expected module:attr or path.py[:attr]")
    if not attribute:
        attribute = next((name for name in DEFAULT_NAMES if hasattr(module, name)), "")
        if not attribute:
            raise TargetError(
                f"{place} has neither {' nor '.join(map(repr, DEFAULT_NAMES))}: name the application, as in "
                f"'{place}:attr'{_candidates(module)}"
            )
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(f"{place} has no attribute {attribute!r}{_candidates(module)}") from None
    where = f"{place}:{attribute}"
    if factory:
        if not callable(found):
            raise TargetError(f"{where} is no factory: it cannot be called, got {type(found).__name__}")
        made: list[Any] = []
        _run(where, lambda: made.append(found()))
        found, where = made[0], f"{where}()"
    try:
        return found, interface_of(found, interface)
    except InterfaceError as error:
        raise TargetError(f"{where} is no application to serve: {error}{_candidates(module)}") from None


def _load_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise TargetError(f"there is no file {path!r}")
    name = os.path.splitext(os.path.basename(path))[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)  # a file may be called json.py: everybody else means the other one
    _run(path, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    _run(name, lambda: importlib.import_module(name))
    return sys.modules[name]


def _run(place: str, load: Callable[[], object]) -> None:
    """Load a module; an error becomes one line with the file and line it comes from."""
    try:
        load()
    except SyntaxError as error:
        where = f"{error.filename}:{error.lineno}" if error.filename else place
        raise TargetError(f"{where}: {type(error).__name__}: {error.msg}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise TargetError(f"there is no module {place!r} (looked in {os.getcwd()} and the environment)") from error
        raise TargetError(f"{_origin(error, place)}: {error}") from error
    except PolluxError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())  # in one line
        raise TargetError(f"{_origin(error, place)}: {type(error).__name__}: {message}") from error


def _origin(error: Exception, place: str) -> str:
    """Return file:line of the innermost frame that is the user's: not of the import system, nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not frame.filename.startswith("<frozen") and frame.filename != __file__]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else place


def _candidates(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Application)]
    return f"\n  applications there: {', '.join(names)}" if names else ""
