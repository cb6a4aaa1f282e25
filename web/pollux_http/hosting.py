"""From what is to be served to what `HTTPServer` calls with each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pollux_http.asgi import ASGIAdapter
from pollux_http.interface import interface_of
from pollux_http.request import HTTPServerRequest
from pollux_http.wsgi import WSGIContainer


def hosted(
    application: Any,
    interface: str = "auto",
    *,
    root_path: str = "",
    lifespan: str = "auto",
    wsgi_threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Callable[[HTTPServerRequest], object]:
    """Return a request callback that serves `application`; one that is such a callback already is returned as it is.

    :param interface: "pollux", "asgi", "wsgi", or "auto" to tell by the signature, see `interface_of`.
    :param root_path: of ASGI and WSGI applications: the path under which a proxy mounts them.
    :param lifespan: of ASGI applications: "auto", "on" or "off".
    :param wsgi_threads: of WSGI applications: threads that call them; None for as many as `WSGIContainer` takes.
    :param settings: of the WebSockets of ASGI applications, see `pollux_websocket.asgi.serve`.
    :raises pollux_http.interface.InterfaceError: it is no application, or it cannot be told of which kind.
    """
    kind = interface_of(application, interface)
    if kind == "asgi":
        return ASGIAdapter(application, root_path, lifespan, settings)
    if kind == "wsgi":
        return WSGIContainer(application, threads=wsgi_threads, root_path=root_path)
    return application  # type: ignore[no-any-return]
