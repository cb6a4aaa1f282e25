"""The PROXY protocol, versions 1 and 2: what a proxy says of the client before the client's own bytes come.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (section numbers below). This module knows no
sockets. The header is not optional on a port that expects it (section 2: guessing would let anybody claim an address),
version 1 ends within 107 bytes (2.1), and version 2 says its length; what it says beyond the addresses is skipped.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from pollux_http.errors import HTTPInputError

LONGEST_V1 = 107  # bytes, with CRLF
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = 16  # bytes: signature, version and command, family and protocol, length
_LONGEST_V2 = (
    _V2_HEAD + 4096
)  # addresses take 216 at most; the rest are extensions (section 2.2.7), such as a certificate

Address = tuple[str, int]


def parse_proxy_header(data: bytes) -> tuple[Address | None, bytes] | None:
    """Take a PROXY header off the beginning of `data`.

    :returns: the client's address and the bytes behind the header; None if the header is not complete yet. The address
        is None if the proxy speaks for itself or does not know (LOCAL, UNKNOWN, a Unix socket).
    :raises HTTPInputError: it is no such header.
    """
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _parse_v2(data) if len(data) >= _V2_HEAD else None
    if data[:6] != b"PROXY "[: len(data)]:
        raise HTTPInputError("no PROXY protocol header, which this port expects")
    line, end, rest = data[:LONGEST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= LONGEST_V1:
            raise HTTPInputError("a PROXY protocol header without an end")
        return None
    return _parse_v1(line), rest + data[LONGEST_V1:]


def _parse_v1(line: bytes) -> Address | None:
    """Section 2.1: PROXY TCP4|TCP6 source destination source-port destination-port, or PROXY UNKNOWN and anything."""
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    try:
        _, family, source, destination, *ports = [word.decode("ascii") for word in words]
        kind = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}[family]
        kind(destination)
        numbers = [int(port) for port in ports if port.isdigit() and (port == "0" or port[0] != "0")]
        if len(numbers) != 2 or len(ports) != 2 or max(numbers) > 65535:
            raise ValueError
        return str(kind(source)), numbers[0]
    except (KeyError, ValueError):
        raise HTTPInputError(f"malformed PROXY protocol header {line!r}") from None


def _parse_v2(data: bytes) -> tuple[Address | None, bytes] | None:
    """Section 2.2."""
    version_command, family, length = struct.unpack_from("!BBH", data, len(_SIGNATURE))
    if version_command >> 4 != 2 or version_command & 0x0F > 1:
        raise HTTPInputError(
            f"PROXY protocol header of version or command {version_command:#04x}, expected 0x20 or 0x21"
        )
    end = _V2_HEAD + length
    if end > _LONGEST_V2:
        raise HTTPInputError(f"PROXY protocol header of {end} bytes, expected at most {_LONGEST_V2}")
    if len(data) < end:
        return None
    address: Address | None = None
    if version_command & 0x0F == 1:  # PROXY; 0 is LOCAL: a health check of the proxy's own
        sizes = {0x11: (socket.AF_INET, 4, 12), 0x21: (socket.AF_INET6, 16, 36)}  # TCP over IPv4, over IPv6
        if family in sizes:
            af, size, needed = sizes[family]
            if length < needed:
                raise HTTPInputError(f"PROXY protocol header with {length} bytes of addresses, expected {needed}")
            (port,) = struct.unpack_from("!H", data, _V2_HEAD + 2 * size)
            address = socket.inet_ntop(af, data[_V2_HEAD : _V2_HEAD + size]), port
    return address, data[end:]
