"""What goes wrong between a coroutine and what it yields, by Tornado's names."""

from __future__ import annotations

import builtins
from typing import Any

TimeoutError = builtins.TimeoutError  # asyncio's, too; Tornado exports it from here


class KeyReuseError(Exception):
    """A `Callback` key was used while an earlier `Callback` of the same key has not been waited for."""


class UnknownKeyError(Exception):
    """A `Wait` named a key that no `Callback` of this coroutine has made, or that was waited for already."""


class LeakedCallbackError(Exception):
    """A coroutine ended without having waited for all of its `Callback` keys."""


class BadYieldError(Exception):
    """A coroutine yielded something that cannot be waited for."""


class Return(Exception):  # noqa: N818  # Tornado's name; it is no error
    """Raise it to return a value from a coroutine: from the time when generators could not `return` one.

    :param value: the result of the coroutine.
    """

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value
