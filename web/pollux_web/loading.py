"""From the options of `pollux serve` to the application: where to look, whether to call a factory, of which kind."""

from __future__ import annotations

import os
import sys
from typing import Any

from pollux_http.interface import InterfaceError, interface_of
from pollux_web.target import DEFAULT_NAMES, TargetError, _candidates, _load_file, _load_module, _run


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
