"""The loop's table of watched descriptors, their numbers, and a view of it in the shape of a selector.

This module calls nothing: it says what the loop knows of a descriptor, by number.
"""

from __future__ import annotations

import selectors
from asyncio import Handle
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from pollux.poller import READ, WRITE

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from pollux.poller import Poller


def number_of(fd: FileDescriptorLike) -> int:
    """Return the number of a descriptor, or of an object with `fileno()`.

    :raises ValueError: it is neither, or is closed.
    """
    try:
        number = fd if isinstance(fd, int) else int(fd.fileno())
    except (AttributeError, TypeError):
        raise ValueError(f"Invalid file object: expected a descriptor or something with fileno(), got {fd!r}") from None
    if number < 0:
        raise ValueError(f"a file descriptor is 0 or more, not {number}; was {fd!r} closed already?")
    return number


class FdEntry:
    """What the loop knows of a watched descriptor: one Tornado handler, or asyncio's reader and writer."""

    __slots__ = ("context", "events", "handler", "owner", "reader", "writer")

    def __init__(self, events: int) -> None:
        self.events = events
        self.owner: FileDescriptorLike = -1
        self.handler: Callable[[Any, int], Any] | None = None
        self.context: Context
        self.reader: Handle | None = None
        self.writer: Handle | None = None


class SelectorView(selectors.BaseSelector):
    """The loop's fd table in the shape of a selector, for those who look at `loop._selector` (asyncio's transports in
    `__repr__`, Twisted's asyncioreactor). Changing registrations through it is refused: the loop owns them.
    """

    def __init__(self, poller: Poller, entries: dict[int, FdEntry]) -> None:
        self._poller = poller
        self._map = _SelectorMap(entries)

    def _refuse(self) -> RuntimeError:
        return RuntimeError("a Pollux loop's selector can only be looked at: use loop.add_reader() and its kin")

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        raise self._refuse()

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        raise self._refuse()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise self._refuse()

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._map

    def close(self) -> None:
        self._poller.close()


class _SelectorMap(Mapping["FileDescriptorLike", selectors.SelectorKey]):
    def __init__(self, entries: dict[int, FdEntry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[FileDescriptorLike]:
        return iter(self._entries)

    def __getitem__(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        entry = self._entries[fd]
        events = (selectors.EVENT_READ if entry.events & READ else 0) | (
            selectors.EVENT_WRITE if entry.events & WRITE else 0
        )
        return selectors.SelectorKey(entry.owner if entry.handler else fd, fd, events, (entry.reader, entry.writer))
