"""Describes the backend. Imported whenever backends are listed, so it imports the poller only when one is created."""

import select

from pollux.backend import Backend
from pollux.hookspec import hookimpl
from pollux.poller import Poller


def _create() -> Poller:
    from .poller import FairPoller

    return FairPoller()


def _check() -> str | None:
    return None if hasattr(select, "poll") else "this platform has no poll(2)"


@hookimpl
def pollux_backends() -> list[Backend]:
    return [Backend("fairpoll", "poll(2), served in turn", _create, check=_check)]
