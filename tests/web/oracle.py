"""Tornado's server in a thread of its own, to be asked what Pollux is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web

from tests.web.client import Answer, Client, Web


@contextmanager
def tornado_server(*args: Any, callback: Any = None, **settings: Any) -> Iterator[Any]:
    """Serve a `tornado.web.Application`, or what else Tornado's server takes; yields its address."""
    started = threading.Event()
    state: dict[str, Any] = {}

    def run() -> None:
        async def main() -> None:
            server = tornado.httpserver.HTTPServer(callback or tornado.web.Application(*args, **settings))
            sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            state.update(address=sockets[0].getsockname(), loop=asyncio.get_running_loop(), stop=asyncio.Event())
            started.set()
            await state["stop"].wait()
            server.stop()
            await server.close_all_connections()

        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(main())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(30)
    try:
        yield state["address"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()


async def ask_all(web: Web, address: Any, requests: list[bytes]) -> list[Answer]:
    """Send requests on one connection, and return the answers."""
    sock = socket.socket()
    client = Client(sock)
    web.clients.append(client)
    sock.setblocking(False)
    await web.loop.sock_connect(sock, address)
    answers = [await client.ask(data, data.partition(b" ")[0].decode()) for data in requests]
    try:
        client.end()
        await client.rest()  # until the server has closed too: each test counts the descriptors of this process
    except OSError:
        pass
    client.close()
    return answers
