"""Who is behind a proxy: the headers in which it says so, and when they are believed.

Anybody can send `X-Forwarded-For: 127.0.0.1`. The headers are therefore read only where the operator says that a proxy
of his own is the peer, and of a list of addresses only what such proxies have added: each appends the address it got
the request from, so the list is read from its end, over those that are proxies themselves, to the first that is not
(https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For). What is no IP address is not believed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pollux_http.headers import HTTPHeaders

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYBODY = "*"


class Forwarded:
    """Believes proxies.

    :param peers: whose headers are believed: IP addresses or networks (`10.0.0.0/8`); "*" for everybody's, which is
        right only where nobody but the proxy can connect. A peer on a Unix socket is local, and believed.
    :param downstream: further proxies, whose addresses are passed over in X-Forwarded-For.
    :raises ValueError: one is neither an address nor a network.
    """

    def __init__(self, peers: Iterable[str], downstream: Iterable[str] = ()) -> None:
        named = list(peers)
        self._everybody = EVERYBODY in named
        self._peers = _networks(name for name in named if name != EVERYBODY)
        self._proxies = self._peers + _networks(downstream)

    def origin(self, headers: HTTPHeaders, peer: str | None, scheme: str) -> tuple[str | None, str]:
        """Return the client's address and the scheme it used, as far as `peer` is believed.

        :param peer: the address of who is connected; None for a Unix socket.
        """
        if not (self._everybody or peer is None or _within(peer, self._peers)):
            return peer, scheme
        address = peer
        for item in reversed(headers.get("X-Forwarded-For", "").split(",")):
            text = item.strip()
            if _address(text) is None:
                break
            address = text
            if not _within(text, self._proxies):
                break
        real = headers.get("X-Real-Ip", "").strip()
        if _address(real) is not None:
            address = real
        said = headers.get("X-Scheme", headers.get("X-Forwarded-Proto", ""))
        said = said.rpartition(",")[2].strip().lower()
        return address, said if said in ("http", "https") else scheme


def _networks(names: Iterable[str]) -> list[Network]:
    networks = []
    for name in names:
        try:
            networks.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            raise ValueError(f"a trusted proxy is an IP address or a network, or '*', got {name!r}") from None
    return networks


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _within(text: str, networks: list[Network]) -> bool:
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and any(address in network for network in networks)
