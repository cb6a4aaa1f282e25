"""`ProxyPreface`: a connection before its PROXY protocol header is complete; then it becomes a `ServerConnection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pollux.iostream import IOStream
from pollux.log import gen_log
from pollux_http.errors import HTTPInputError
from pollux_http.proxy_protocol import parse_proxy_header

if TYPE_CHECKING:
    from pollux_http.server import HTTPServer


class ProxyPreface:
    """Reads the header, and closes the connection if it is none or late: there is nobody to answer in HTTP yet."""

    busy = False

    def __init__(self, server: HTTPServer, stream: IOStream, address: Any) -> None:
        self.server = server
        self.stream = stream
        self.address = address
        self.since = server.now
        self._data = b""
        stream.set_close_callback(self._closed)
        stream.deliver_to(self._received)

    def _received(self, data: bytes) -> None:
        self._data += data
        try:
            found = parse_proxy_header(self._data) if data else None
        except HTTPInputError as error:
            gen_log.info("Closed %s: %s", self.address or "a client", error)
            self.close()
            return
        if not data:
            self.close()
        elif found is not None:
            address, rest = found
            connection = self.server.replace(self, self.address if address is None else address)
            if rest:
                connection.data_received(rest)

    def check_deadline(self, now: float) -> None:
        """As `ServerConnection.check_deadline`."""
        if now - self.since > self.server.header_timeout:
            self.close()

    def close_if_idle(self) -> None:
        """As `ServerConnection.close_if_idle`: idle until something has come."""
        if not self._data:
            self.stream.deliver_arrived()
        if not self._data:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    def _closed(self) -> None:
        self.server.forget(self)
