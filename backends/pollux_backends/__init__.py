"""The pollers that ship with Pollux: select, poll, epoll and kqueue, one file each.

They register through the entry point in `plugin.py`, as a third party's would, and are chosen by name: there is
nothing to import from here. This file stays empty so that listing the backends costs nothing.
"""
