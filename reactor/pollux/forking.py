"""What becomes of a loop in a forked child.

After fork(2) a child holds the parent's descriptors, and an epoll set is one of them: it belongs to the open file,
not to the process (epoll(7)), so a child that registers, unregisters or polls does so for its parent too. A child may
also have been forked from inside a callback and simply go on. So a hook runs in every child and puts a poller that
refuses into each loop of the parent. To close such a loop is allowed: that only closes the child's copies.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn
from weakref import WeakSet

if TYPE_CHECKING:
    from pollux.heart import Heart
    from pollux.poller import Poller

_loops: WeakSet[Heart] = WeakSet()  # the hook cannot be taken back, so it must find the loops by itself


class ForkedPoller:
    """A `Poller` that refuses everything but to forget and to close."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def refuse(self) -> NoReturn:
        """:raises RuntimeError: always; says what to do."""
        raise RuntimeError(
            f"this loop belongs to the process that forked process {os.getpid()}: a loop does not survive fork(); "
            "make a new one in the child"
        )

    def register(self, fd: int, events: int, /) -> None:
        """Refuse."""
        self.refuse()

    modify = register

    def unregister(self, fd: int, /) -> None:
        """Leave the parent's registration alone."""

    def poll(self, timeout: float | None, /) -> NoReturn:
        """Refuse."""
        self.refuse()

    def close(self) -> None:
        """Close the child's copy."""
        self._poller.close()


def follow(loop: Heart) -> None:
    """Have `loop` refuse to work in children forked from now on."""
    _loops.add(loop)


def _in_child() -> None:
    for loop in list(_loops):
        loop.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
