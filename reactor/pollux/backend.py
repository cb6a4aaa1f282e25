"""`Backend`: how a plugin describes a poller before anyone has chosen it.

Making a `Backend` must cost nothing and import nothing heavy: the registry makes all of them to show the user
a list. Only `check` may look at the machine, and only `create` may open anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pollux.poller import Poller


def _available() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Backend:
    """One poller as the registry knows it.

    :param name: the word a user writes in a config: lower case, unique among all plugins.
    :param summary: one line for `pollux backends`.
    :param create: makes a `pollux.poller.Poller`; called once for each loop, in the loop's thread.
    :param priority: `auto` takes the highest usable one; 0 means "only by name".
    :param check: None if usable on this machine now, else the reason why not, as one line for the user.
    """

    name: str
    summary: str
    create: Callable[[], Poller]
    priority: int = 0
    check: Callable[[], str | None] = _available
