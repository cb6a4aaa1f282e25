"""What goes wrong with a fetch, on every backend: servers that misbehave, callbacks that raise, cancellation."""

from __future__ import annotations

import asyncio
import gc
import gzip
import weakref
from typing import Any

import pytest

from pollux_http import (
    AsyncHTTPClient,
    HTTPClientError,
    HTTPRequest,
    HTTPResponseError,
    HTTPStreamClosedError,
    HTTPTimeoutError,
)
from tests.web.client import Web
from tests.web.origins import OK, Peer, client, origin


async def idle(http: AsyncHTTPClient) -> None:
    """The client has nothing under way, and takes the next request at once."""
    assert not http._active
    assert not http._queue
    async with origin(None, OK) as server:
        assert (await http.fetch(server.url)).body == b"ok"


CUT = gzip.compress(b"x" * 50, mtime=0)[:20]
EARLY = {
    b"": "before the response",
    b"HTTP/1.1 200 OK\r\nX": "within the response head",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc": "6 of 9 bytes before",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc": "within the chunked",
}
WRONG = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": "Content-Length",
    b"220 mail.example.org ESMTP\r\n\r\n": "expected a status line of HTTP/1.1 or HTTP/1.0, got b'220 mail",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2000: "head above 1000 bytes",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5001\r\n\r\n": "body of 5001 bytes, above 5000",
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 6000: "above 5000 bytes",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain text": "not gzip, as Content-Encoding says",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(5001), mtime=0): "when decompressed",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + CUT: "ends early",
    b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n": "another protocol",
}  # fmt: skip


@pytest.mark.parametrize("data", [*EARLY, *WRONG])
def test_bad_responses(web: Web, data: bytes) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(data)
            if data in WRONG:
                await peer.gone()  # the client closes, not we
            gone.set()

        async with client(max_header_size=1000, max_body_size=5000) as http:
            async with origin(serve) as server:
                kind = HTTPResponseError if data in WRONG else HTTPStreamClosedError
                with pytest.raises(kind, match={**EARLY, **WRONG}[data]) as caught:
                    await http.fetch(server.url, raise_error=False)
                assert isinstance(caught.value, HTTPClientError)
                assert caught.value.code == 599
                await gone.wait()
                assert server.connections == 1
            await idle(http)

    web.run(main())


def test_streamed_bodies_have_a_limit_of_their_own(web: Web) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"x" * 50

    async def main() -> None:
        async with origin(None, answer) as server, client(max_buffer_size=10, max_body_size=60) as http:
            with pytest.raises(HTTPResponseError, match="above 10"):
                await http.fetch(server.url)
            pieces: list[bytes] = []
            await http.fetch(server.url, streaming_callback=pieces.append)
            assert len(b"".join(pieces)) == 50

    web.run(main())


def test_reset(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            await asyncio.sleep(0)
            peer.reset()

        async with client() as http:
            async with origin(serve) as server:
                with pytest.raises((ConnectionResetError, HTTPStreamClosedError)):
                    await http.fetch(server.url)
            await idle(http)

    web.run(main())


def test_nobody_there(web: Web) -> None:
    async def main() -> None:
        async with client() as http:
            with pytest.raises(ConnectionRefusedError, match="cannot connect to 127"):
                await http.fetch("http://127.0.0.1:1/")
            with pytest.raises(OSError, match="no-such-host"):
                await http.fetch("http://no-such-host.invalid/")
            await idle(http)

    web.run(main())


@pytest.mark.parametrize("when", ["streaming", "streaming later", "header", "producer", "producer later", "stop"])
def test_callbacks_that_raise(web: Web, when: str) -> None:
    def fails(*given: Any) -> None:
        raise StopIteration if when == "stop" else ZeroDivisionError(when)

    async def fails_later(*given: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError(when)

    failing: Any = fails_later if when.endswith("later") else fails
    options: dict[str, Any] = {
        "streaming": {"streaming_callback": failing},
        "header": {"header_callback": failing},
        "stop": {"streaming_callback": failing},
        "producer": {"method": "POST", "body_producer": failing},
    }[when.partition(" ")[0]]

    async def main() -> None:
        ended = asyncio.Event()

        async def serve(peer: Peer) -> None:
            try:
                await peer.request()
                await peer.send(OK)
                await peer.gone()
            finally:
                ended.set()

        async with client() as http:
            async with origin(serve) as server:
                with pytest.raises(RuntimeError if when == "stop" else ZeroDivisionError):
                    await http.fetch(server.url, **options)
                await ended.wait()
            await idle(http)

    web.run(main())


@pytest.mark.parametrize(("announced", "written", "words"), [(5, b"abc", "2 bytes less"), (2, b"abc", "1 bytes above")])
def test_body_producer_must_keep_its_word(web: Web, announced: int, written: bytes, words: str) -> None:
    async def main() -> None:
        async with client() as http:
            async with origin(None, OK) as server:
                with pytest.raises(ValueError, match=words):
                    await http.fetch(
                        server.url, method="POST", headers={"Content-Length": str(announced)},
                        body_producer=lambda write: write(written) and None,
                    )  # fmt: skip
            await idle(http)

    web.run(main())


def test_early_response_ends_the_body(web: Web) -> None:
    """The server refuses without reading on: that is the response, and the connection is not used again."""

    async def main() -> None:
        cancelled = asyncio.Event()

        async def serve(peer: Peer) -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await peer.gone()

        async def produce(write: Any) -> None:
            try:
                while True:
                    await write(b"x" * 1000)
                    await asyncio.sleep(0)
            finally:
                cancelled.set()

        async with client() as http:
            async with origin(serve) as server:
                response = await http.fetch(server.url, method="POST", body_producer=produce, raise_error=False)
                assert response.code == 413
                await cancelled.wait()
                assert len(http.pool) == 0
            await idle(http)

    web.run(main())


def test_server_goes_away_while_a_body_is_produced(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.head()
            peer.reset()

        async def produce(write: Any) -> None:
            while True:
                await write(b"x" * 100_000)
                await asyncio.sleep(0)

        async with client() as http:
            async with origin(serve) as server:
                with pytest.raises((OSError, HTTPStreamClosedError)):
                    await http.fetch(server.url, method="POST", body_producer=produce)
            await idle(http)

    web.run(main())


@pytest.mark.parametrize("when", ["connecting", "queued", "sent", "head", "body", "callback", "producing"])
def test_cancellation_closes_and_leaves_nothing(web: Web, when: str) -> None:
    async def main() -> None:
        reached = asyncio.Event()
        ended = asyncio.Event()
        parts = {
            "head": b"HTTP/1.1 200 OK\r\n",
            "body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "callback": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        }

        async def serve(peer: Peer) -> None:
            await peer.head()
            await peer.send(parts.get(when, b""))
            if when != "callback":
                reached.set()
            await peer.gone()
            ended.set()

        async def slow(*given: Any) -> None:
            reached.set()
            await asyncio.Event().wait()

        options: dict[str, Any] = {}
        if when == "callback":
            options["streaming_callback"] = slow
        if when == "producing":
            options = {"method": "POST", "body_producer": slow}
        async with client(max_clients=1) as http:
            async with origin(serve) as server:
                first = http.fetch(server.url, **options)
                if when == "connecting":
                    await asyncio.sleep(0)
                elif when == "queued":
                    second = http.fetch(server.url)
                    assert second.cancel()
                    assert not http._queue
                    await reached.wait()
                else:
                    await reached.wait()
                task = asyncio.ensure_future(asyncio.wait_for(first, 60))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert first.cancelled()
                if when != "connecting":
                    await ended.wait()
            await idle(http)
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in left if "bounded" not in repr(task) and "run_sync" not in repr(task)], left

    web.run(main())


def test_a_callback_may_cancel_its_fetch(web: Web) -> None:
    async def main() -> None:
        async with client() as http:
            async with origin(None, OK) as server:
                future: asyncio.Future[Any]
                future = http.fetch(server.url, streaming_callback=lambda piece: future.cancel() and None)
                with pytest.raises(asyncio.CancelledError):
                    await future
            await idle(http)

    web.run(main())


def test_closing_the_client_ends_its_fetches(web: Web) -> None:
    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.request()
            await peer.gone()

        async with origin(serve) as server, client(max_clients=2) as http:
            fetches = [http.fetch(server.url) for _ in range(4)]
            while server.connections < 2:
                await asyncio.sleep(0)
            http.close()
            for fetch in fetches:
                with pytest.raises(HTTPStreamClosedError, match="the client was closed"):
                    await fetch

    web.run(main())


# Timeouts, on virtual time


async def silent(peer: Peer) -> None:
    await peer.head()
    await peer.gone()


def test_request_timeout_tells_the_phase(virtual_web: Web) -> None:
    web = virtual_web
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (b"", {}, "during request, while waiting for the response"),
        (b"HTTP/1.1 200", {}, "within the response head"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", {}, "within the response body, after 3 bytes"),
        (b"", {"method": "POST", "body": b"x", "expect_100_continue": True}, "while waiting for 100 Continue"),
        (b"", {"method": "POST", "body_producer": lambda write: asyncio.Event().wait()}, "while sending the request"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", {"streaming_callback": lambda piece: asyncio.Event().wait()}, "for streaming_"),
    ]

    async def main() -> None:
        for data, options, words in cases:

            async def serve(peer: Peer, data: bytes = data) -> None:
                await peer.head()
                await peer.send(data)
                await peer.gone()

            async with origin(serve) as server, client() as http:
                started = web.loop.time()
                with pytest.raises(HTTPTimeoutError, match=words) as caught:
                    await http.fetch(server.url, connect_timeout=7, request_timeout=10, **options)
                assert caught.value.code == 599
                assert str(caught.value).startswith("Timeout during request")
                assert 10 <= web.loop.time() - started < 11
                assert not http._active

    web.run(main())


def test_no_timeout(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        async def serve(peer: Peer) -> None:
            await peer.request()
            await asyncio.sleep(1000)
            await peer.send(OK)

        async with origin(serve) as server, client() as http:
            assert (await http.fetch(server.url, connect_timeout=0, request_timeout=0)).body == b"ok"

    web.run(main())


def test_default_timeout_is_20_seconds(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        async with origin(silent) as server, client() as http:
            started = web.loop.time()
            with pytest.raises(HTTPTimeoutError):
                await http.fetch(server.url)
            assert 20 <= web.loop.time() - started < 21
        async with origin(silent) as server, client(defaults={"request_timeout": 3}) as http:
            started = web.loop.time()
            with pytest.raises(HTTPTimeoutError):
                await http.fetch(server.url)
            assert 3 <= web.loop.time() - started < 4

    web.run(main())


def test_queue(virtual_web: Web) -> None:
    web = virtual_web

    async def main() -> None:
        at_once = most = 0

        async def serve(peer: Peer) -> None:
            nonlocal at_once, most
            while True:
                await peer.request()
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(1)
                at_once -= 1
                await peer.send(OK)

        async with origin(serve) as server, client(max_clients=2) as http:
            responses = await asyncio.gather(*[http.fetch(server.url) for _ in range(6)])
            assert most == 2
            assert [round(response.time_info["queue"]) for response in responses] == [0, 0, 1, 1, 2, 2]
            assert all(1 <= response.request_time < 1.5 for response in responses)
            assert server.connections == 2
            fetches = [http.fetch(server.url, request_timeout=1.5) for _ in range(2)]
            late = [http.fetch(server.url, connect_timeout=limit, request_timeout=5) for limit in (0.5, 2)]
            with pytest.raises(HTTPTimeoutError, match=r"^Timeout in request queue$"):
                await late[0]
            assert (await late[1]).body == b"ok"
            for fetch in fetches:
                await fetch

    web.run(main())


def test_finished_fetches_are_not_kept(web: Web) -> None:
    async def main() -> None:
        async with origin(None, *[OK] * 3) as server, client() as http:
            request = HTTPRequest(server.url)
            future = http.fetch(request)
            response = await future
            seen = [weakref.ref(request), weakref.ref(future), weakref.ref(response)]
            del request, future, response
            for _ in range(3):
                await asyncio.sleep(0)
            gc.collect()
            assert [ref() for ref in seen] == [None, None, None]

    web.run(main())
