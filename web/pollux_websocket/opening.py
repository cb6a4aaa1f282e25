"""From an offer that is accepted to an open connection: what handlers and the sessions of ASGI applications share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pollux_websocket import deflate
from pollux_websocket.connection import Connection
from pollux_websocket.endpoint import Endpoint, Options
from pollux_websocket.handshake import Offer, answer_head
from pollux_websocket.protocol import make_protocol

if TYPE_CHECKING:
    from pollux_http import HTTPHeaders, HTTPServerRequest

_OWN_FIELDS = ("Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade")

# Fields that many clients send alike, and that are nobody's secret.
_ALIKE = frozenset(
    b"host upgrade connection origin user-agent accept-encoding accept-language cache-control pragma "
    b"sec-websocket-version sec-websocket-extensions sec-websocket-protocol sec-websocket-origin".split()
)
KNOWN_FIELDS = 1000  # that are remembered
_known: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

_shared_options = lru_cache(16)(Options)  # connections that are equally patient need not each say so


def options_of(settings: Mapping[str, Any], ping_interval: float | None, ping_timeout: float | None) -> Options:
    """Return how patient a server's connections are, by its settings."""
    standard = Options()
    return _shared_options(
        ping_interval,
        ping_timeout,
        settings.get("websocket_close_timeout", standard.close_timeout),
        settings.get("websocket_max_unsent", standard.max_unsent),
    )


def accept(
    request: HTTPServerRequest,
    offer: Offer,
    endpoint: Endpoint,
    options: Options,
    max_message_size: int,
    compression: Mapping[str, Any] | None,
    subprotocol: str | None,
    fields: HTTPHeaders,
    pull_only: bool = False,
) -> tuple[Connection, bytes]:
    """Answer a handshake; return the connection, which is to be started, and what has come behind the handshake.

    :param compression: options for permessage-deflate; None for none.
    :param subprotocol: one of the client's; None for none.
    :param fields: further ones of the response; what belongs to its framing is left out.
    :param pull_only: see `Connection`.
    :raises ValueError: the subprotocol is not one of the client's, or an option is wrong.
    """
    if subprotocol is not None and subprotocol not in offer.subprotocols:
        raise ValueError(
            f"the subprotocol is one of those that the client offers, {offer.subprotocols!r}, or None; "
            f"got {subprotocol!r}"
        )
    agreement = extensions = None
    if compression is not None:
        deflate.check_options(compression)
        agreement, extensions = deflate.accept(offer.extensions, compression) or (None, None)
    else:
        compression = {}
    fields = fields.copy()
    for name in _OWN_FIELDS:
        fields.pop(name, None)
    head = answer_head(offer, fields, subprotocol, extensions)
    level, memory = compression.get("compression_level", 6), compression.get("mem_level", 8)
    protocol = make_protocol(False, max_message_size, agreement, level, memory)
    asked = request.connection
    server = asked.server
    connection = Connection(asked.stream, protocol, endpoint, options, pull_only, server)
    # The server has no word for it: it treats as a connection of its own what has `busy`, `since`, `check_deadline`,
    # `close_if_idle` and `close`. And it does so from here on: one that shuts down must not find that all have closed.
    connections: set[Any] = server._connections
    connections.add(connection)
    try:
        stream, rest = asked.detach()
    except RuntimeError:
        connections.discard(connection)
        raise
    stream.send(head)
    connection.address = asked.address
    _slim(request, connection)
    return connection, rest


def _slim(request: HTTPServerRequest, connection: Any) -> None:
    """Leave of a request what an open connection needs: there may be many, and all that their clients say is alike."""
    if len(_known) > KNOWN_FIELDS:
        _known.clear()
    request.fields = tuple([_known.setdefault(pair, pair) if pair[0] in _ALIKE else pair for pair in request.fields])
    request._headers = None
    request.method = "GET"  # `read_offer` has seen to that: the one that stands here
    request.connection = connection  # has `stream` and `address`, and no more of HTTP
