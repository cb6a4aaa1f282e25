"""asyncio's TLS on our loop: streams, upgrading a connection, and who is refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.programs.conftest import Run, Tls

MEBIBYTE = 1 << 20


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo until the end; a handshake that failed never gets here."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def served(tls: Tls) -> AsyncIterator[int]:
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.server) as server:
        yield server.sockets[0].getsockname()[1]


def test_megabytes_both_ways(run: Run, tls: Tls) -> None:
    """Ten connections, each with its echo on the way back before all has been sent."""

    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client, server_hostname="localhost")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"

        async def send() -> None:
            for _ in range(16):
                writer.write(b"x" * 65_536)
                await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(MEBIBYTE) == b"x" * MEBIBYTE
        await sending
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with served(tls) as port:
            await asyncio.gather(*(client(port) for _ in range(10)))

    run(main())


def test_upgrade(run: Run, tls: Tls) -> None:
    """Plain first, TLS after a word of both sides, as SMTP has it (RFC 3207)."""

    async def upgrading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(tls.server)
        writer.write(b"secret " + await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(upgrading, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(tls.client, server_hostname="localhost")
            writer.write(b"word\n")
            assert await reader.readline() == b"secret word\n"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_strangers_are_refused(run: Run, tls: Tls) -> None:
    """An unknown authority and a wrong name by the client, a client without a certificate by the server."""

    async def main() -> None:
        async with served(tls) as port:
            for context, name, message in (
                (tls.stranger, "localhost", "unable to get local issuer|self.signed"),
                (tls.client, "example.org", "Hostname mismatch"),
            ):
                with pytest.raises(ssl.SSLCertVerificationError, match=message):
                    await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
            nameless = ssl.create_default_context()
            nameless.check_hostname = False
            nameless.verify_mode = ssl.CERT_NONE
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=nameless)
            writer.write(b"echo this")  # with TLS 1.3 a client is through before the server has seen its certificate
            try:
                assert await reader.read() == b""
            except (ssl.SSLError, ConnectionError):
                pass
            writer.close()

    run(main())
