"""Which interface an application speaks: ours, ASGI 3 or WSGI.

Nothing but its signature tells (neither specification has a mark), and that is enough: an application of ours is called
with the request, a WSGI one with `environ, start_response` (PEP 3333), an ASGI one with `scope, receive, send`. Where a
signature fits several (`*args`), or there is none, the operator has to say.
"""

from __future__ import annotations

import inspect
from typing import Any

from pollux.errors import PolluxError

INTERFACES = ("pollux", "wsgi", "asgi")  # in the order of how many arguments they are called with


class InterfaceError(PolluxError):
    """What is to be served is no application, or it cannot be told of which kind."""


def interface_of(application: Any, said: str = "auto") -> str:
    """Return the interface of `application`: "pollux", "asgi" or "wsgi".

    :param said: what the operator says; "auto" looks at the signature.
    :raises InterfaceError: it fits none, or several.
    """
    if not callable(application):
        raise InterfaceError(f"this is no application, as it cannot be called: got {type(application).__name__}")
    if said != "auto":
        if said not in INTERFACES:
            raise InterfaceError(f"there is no interface {said!r}; expected auto, {', '.join(INTERFACES)}")
        return said
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):
        raise InterfaceError(
            f"{_described(application)} does not tell its arguments: say of which interface it is, as in "
            f"interface='asgi' or --interface asgi"
        ) from None
    fits = [name for count, name in enumerate(INTERFACES, 1) if _takes(signature, count)]
    if inspect.isclass(application):
        hint = "an ASGI 2 application? wrap it with asgiref's guarantee_single_callable" if "pollux" in fits else ""
        raise InterfaceError(
            f"{_described(application)} is no application but a class"
            + (f"; {hint}" if hint else "")
            + "; a factory needs factory=True or --factory"
        )
    is_async = inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(
        getattr(type(application), "__call__", None)  # noqa: B004  # the function itself is wanted
    )
    if is_async:
        fits = [name for name in fits if name == "asgi"]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise InterfaceError(
            f"{_described(application)} fits {' and '.join(fits)}: say which it is, as in interface='{fits[-1]}' or "
            f"--interface {fits[-1]}"
        )
    raise InterfaceError(
        f"{_described(application)} is no application: expected a pollux_web.Application or a callable of (request), "
        f"an ASGI one of (scope, receive, send), or a WSGI one of (environ, start_response), got one of {signature}"
    )


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _described(application: Any) -> str:
    name = getattr(application, "__qualname__", None)
    return f"{name!r}" if name else f"an object of type {type(application).__name__}"
