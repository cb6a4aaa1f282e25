"""`broadcast`: one message to many connections, encoded once, and compressed once for all that compress alike.

* A server's frame is the same for every client (RFC 6455 5.1: only clients mask), so what is left for each connection
  is one `send`. A client that does not read holds nobody up: its frames are kept for it alone, up to the cap of
  unsent bytes of its connection, as with `write_message`.
* A message that is compressed by itself can be read by any peer whose window is as large (RFC 7692 7.2.1). It is in the
  peer's window from then on, and not in that of our compressor, which therefore begins anew: what follows is compressed
  a little worse at first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pollux_websocket.messaging import Messaging, payload_of
from pollux_websocket.protocol import Message


def broadcast(connections: Iterable[Messaging], message: Message | dict[str, Any], binary: bool = False) -> int:
    """Send a message to all of `connections` that are open; return how many these are.

    Nothing is waited for, and each connection keeps the order of what is sent on it. To send to 10,000 takes tens of
    milliseconds, in which the loop does nothing else.

    :param connections: handlers, or connections of clients. It must not change meanwhile, which `on_close` does not: it
        is never called from here.
    :param message: as for `Messaging.write_message`, and so is `binary`.
    :raises TypeError, ValueError: the message cannot be sent; nothing was.
    """
    payload = payload_of(message, binary)
    frames: dict[object, bytes] = {}
    plain: bytes | None = None  # what most are sent
    count = 0
    for each in connections:
        connection = each._connection
        if connection is None or connection.is_closing:
            continue
        if plain is None or connection.short_heads is None:
            frame = connection.protocol.shared_message(payload, binary, frames)
            if connection.short_heads is not None:
                plain = frame
        else:
            frame = plain
        if not connection.stream.send(frame):
            connection.keep(len(frame))
        count += 1
    return count
