"""`Route`: by which way a request goes to its origin. Two requests may share a connection only if theirs are equal."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pollux.netutil import is_valid_ip, ssl_options_to_context
from pollux.sslstream import default_context
from pollux_http.client_request import Settings
from pollux_http.request_head import proxy_authorization
from pollux_http.target import Origin


class Route(NamedTuple):
    """All that a connection depends on.

    :param context: for TLS to the origin; None without TLS. It is compared by identity: contexts made of equal options
        are made once.
    :param proxy: host and port; None for none.
    :param credentials: the value of Proxy-Authorization.
    :param source_ip: numeric address to connect from.
    """

    origin: Origin
    context: ssl.SSLContext | None = None
    proxy: tuple[str, int] | None = None
    credentials: str = ""
    source_ip: str | None = None
    family: socket.AddressFamily = socket.AF_UNSPEC


def route_of(origin: Origin, settings: Settings) -> Route:
    """Choose the way.

    :raises ValueError: an option makes no sense.
    :raises OSError: a file of TLS options cannot be read, or holds no certificate.
    """
    source = settings.network_interface
    if source is not None and not is_valid_ip(source):
        raise ValueError(f"network_interface: expected a numeric IPv4 or IPv6 address, got {source!r}")
    proxy = None
    if settings.proxy_host is not None or settings.proxy_port is not None:
        if settings.proxy_host is None or settings.proxy_port is None:
            raise ValueError(
                f"a proxy needs proxy_host and proxy_port, got {settings.proxy_host!r} and {settings.proxy_port!r}"
            )
        proxy = settings.proxy_host, settings.proxy_port
    return Route(
        origin,
        _context(settings) if origin.tls else None,
        proxy,
        proxy_authorization(settings) if proxy else "",
        source,
        socket.AF_INET if settings.allow_ipv6 is False else socket.AF_UNSPEC,
    )


def _context(settings: Settings) -> ssl.SSLContext:
    options = settings.ssl_options
    if isinstance(options, ssl.SSLContext):
        return options
    if options is None:
        options = {
            name: value
            for name, value in (
                ("cert_reqs", None if settings.validate_cert else ssl.CERT_NONE),
                ("ca_certs", settings.ca_certs),
                ("certfile", settings.client_cert),
                ("keyfile", settings.client_key),
            )
            if value is not None
        }
    return _made(tuple(sorted(options.items()))) if options else default_context(False)


@lru_cache(64)  # loading authorities takes milliseconds, and a context of its own would be a connection of its own
def _made(options: tuple[tuple[str, Any], ...]) -> ssl.SSLContext:
    made: Mapping[str, Any] = dict(options)
    return ssl_options_to_context(made, server_side=False)
