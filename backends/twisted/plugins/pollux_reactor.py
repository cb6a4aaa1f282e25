"""Tells Twisted of the reactor `pollux`: `twist --reactor=pollux`, `trial --reactor=pollux`.

Twisted looks for such files in every folder `twisted/plugins` on the path. There must be no `__init__.py` here or in
the folder above: they would stand in the way of Twisted's own. This file must not import Pollux: Twisted reads it to
list the names of its reactors.
"""

from twisted.application.reactors import Reactor

pollux = Reactor(
    "pollux", "pollux_twisted", "Pollux's loop: epoll, kqueue, poll, select or io_uring by POLLUX_BACKEND."
)
