"""`Connection`: an open WebSocket, between an `IOStream` and an endpoint: a handler, or a client.

The common case, a message that comes in one piece and is dealt with at once, runs from `recv` to `send` within one
event: no Future, no Task, no timer, no event object.

* Messages are dealt with one after the other: while a coroutine of the endpoint works on one, further ones wait, up to
  `QUEUED` and one read; then nothing more is read until it is done. Pings are answered meanwhile.
* The end of what the peer sends, a Close or a failure, is dealt with when all before it is. An `open` that takes no
  messages does not delay it, and nothing does for longer than `close_timeout`.
* What the peer does not read is kept up to `max_unsent`; beyond that it is cut off, for a Close would not get through.
* The side that fails a connection ends its sending first and reads on for a moment: to close a socket with unread data
  resets it, and the reset may overtake the Close.
* Deadlines are looked at by `check_deadline`: from the HTTP server's sweep once a second, or a client's own timer.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pollux.iostream import IOStream, SSLIOStream
from pollux.log import gen_log
from pollux_websocket.endpoint import Endpoint, Options
from pollux_websocket.errors import WebSocketClosedError
from pollux_websocket.frames import (
    BINARY,
    FIN,
    GOING_AWAY,
    INTERNAL_ERROR,
    PING,
    PONG,
    SHORT_HEADS,
    TEXT,
    Close,
    Failure,
    Ping,
    Pong,
    head,
)
from pollux_websocket.protocol import Message, Protocol

if TYPE_CHECKING:
    from pollux_http.server import HTTPServer

QUEUED = 64 * 1024  # bytes of messages that wait for the endpoint
QUEUED_MESSAGES = 64
JOINED_SIZE = 64 * 1024  # bytes: to copy a larger payload behind its head costs more than a second system call
LARGE_READ = 256 * 1024  # bytes: the most that is read at once of a large frame
TICK = 1.0  # seconds between two looks of a client at its deadlines


_done: WeakKeyDictionary[HTTPServer, asyncio.Future[None]] = WeakKeyDictionary()


class Connection:
    """One connection.

    :param stream: on which the opening handshake is done.
    :param pull_only: nobody but `read_message` takes messages.
    :param server: sweeps, and shuts down; None for a client.
    :ivar is_closing: nothing can be sent any more.
    :cvar busy: for the server, which never takes an open WebSocket for an idle connection.
    :ivar address: the peer's, as `socket.accept` gave it; None for a client's.
    :ivar short_heads: `frames.SHORT_HEADS` if that is how short messages are framed, else None.
    :ivar ending: the peer's Close, or what it did wrong; None: neither has come.
    :ivar done: a Future that is, for whoever need not wait; None until it is wanted (`make_done`).
    """

    __slots__ = (
        "__weakref__", "_drained", "_ended", "_endpoint", "_fast", "_on_message", "_opening",
        "_options", "_over", "_paused", "_pinged", "_pull_only", "_pulled", "_queue", "_queued",
        "_read_size", "_running", "_server", "_ticker", "_waiter", "_waiting_since", "_whole", "_working",
        "address", "done", "ending", "is_closing", "protocol", "short_heads", "stream",
    )  # fmt: skip

    busy = True

    def __init__(
        self,
        stream: IOStream,
        protocol: Protocol,
        endpoint: Endpoint,
        options: Options,
        pull_only: bool = False,
        server: HTTPServer | None = None,
    ) -> None:
        self.stream = stream
        self.protocol = protocol
        self._whole = protocol.whole
        self.short_heads = None if protocol.is_client or protocol.deflater is not None else SHORT_HEADS
        self._endpoint: Any = endpoint  # None once the connection is over
        self._on_message = endpoint.on_message
        self._options = options
        self._server = server
        self._pull_only = pull_only
        self._fast = False  # nothing is pending: a whole message may go to the endpoint at once
        self._running = False  # a coroutine of the endpoint is at work
        self._opening = False  # and that is `open`
        self._working = False  # `_work` is
        self._pulled = False  # somebody has called `read_message`
        self._paused = False
        self._queue: deque[Message] | None = None  # messages that wait for the endpoint
        self._queued = 0  # bytes
        self._read_size = stream.read_chunk_size  # as long as no frame is large
        self._waiter: asyncio.Future[Message | None] | None = None  # of `read_message`
        self.ending: Close | Failure | None = None
        self._ended = False  # `ending` was dealt with
        self._over = False  # the endpoint was told
        self.done: asyncio.Future[None] | None = None
        self._drained: list[asyncio.Future[None]] | None = None  # for whoever must
        self._waiting_since: float | None = None  # for the end of the connection, in one way or the other
        self._ticker: asyncio.TimerHandle | None = None
        self.is_closing = False
        self.address: Any = None
        # When the last Ping was sent; negative: that is answered.
        self._pinged = -stream.io_loop.time() if options.ping_interval else 0.0

    def start(self, opening: Awaitable[Any] | None = None, rest: bytes = b"") -> None:
        """Begin to receive.

        :param opening: messages wait until it is done.
        :param rest: what has come behind the handshake.
        """
        stream = self.stream
        if self._server is None and self._options.ping_interval:
            self._tick_later()
        stream.set_close_callback(self._stream_closed)
        if opening is not None:
            self._opening = True
            self._run(opening)
        if not stream.closed():
            stream.deliver_to(self.data_received)
        if rest:
            self.data_received(rest)
        else:
            self._work()

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent; b"" is its end of file."""
        if self._fast:
            message = self._whole(data)
            if message is not None:
                try:
                    result = self._on_message(message)
                    if result is not None:
                        self._run(result)
                except Exception:
                    self._callback_failed()
                return
        if data:
            self._receive(data)
        else:
            self.stream.close()  # without a Close, or after it

    def _receive(self, data: bytes) -> None:
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        for event in self.protocol.feed(data):
            if isinstance(event, str | bytes):
                queue.append(event)
                self._queued += len(event)
                continue
            self._work()  # what came before it is first
            if isinstance(event, Ping):
                if not self.is_closing:
                    self.post(self.protocol.control(PONG, event.payload))
                self._call(self._endpoint and self._endpoint.on_ping, event.payload)
            elif isinstance(event, Pong):
                self._pinged = -abs(self._pinged)
                self._call(self._endpoint and self._endpoint.on_pong, event.payload)
            else:
                self.ending = event
                self._wait()
        self._work()
        stream = self.stream
        if not queue:
            self._queue = None  # an empty deque has half a kilobyte
        size = self._read_size
        if self.protocol.left > size:
            size = min(self.protocol.left, LARGE_READ)
        if size != stream.read_chunk_size:
            stream.read_chunk_size = size

    def _call(self, callback: Any, payload: bytes) -> None:
        try:
            if callback is not None:
                callback(payload)
        except Exception:
            self._callback_failed()

    def _work(self) -> None:
        """Pass on what waits, as far as the endpoint takes it."""
        if self._working:
            return
        self._working = True
        queue = self._queue
        while queue:
            waiter = self._waiter
            if waiter is not None:
                self._waiter = None
                if not waiter.done():
                    waiter.set_result(self._take(queue))
            elif self._running or self._pull_only or self._over:
                break
            else:
                try:
                    result = self._on_message(self._take(queue))
                    if result is not None:
                        self._run(result)
                except Exception:
                    self._callback_failed()
        self._working = False
        if not self._ended and self.ending is not None and self._settled():
            self._conclude(self.ending)
        if self.stream.closed() and self._settled():
            self._end()
        full = self._queued >= QUEUED or (queue is not None and len(queue) >= QUEUED_MESSAGES)
        if full is not self._paused:
            self._paused = full
            if full:
                self.stream.pause_reading()
            else:
                self._pinged = -abs(self._pinged)  # its Pong may have waited in the kernel
                self.stream.resume_reading()
        self._fast = not (queue or self._running or self._pull_only or self._waiter or self.ending or self._over)

    def _take(self, queue: deque[Message]) -> Message:
        message = queue.popleft()
        self._queued -= len(message)
        return message

    def _settled(self) -> bool:
        """Return whether all that came before the end is dealt with."""
        if self._queue:
            return False
        if not self._running and not self._pull_only:
            return True
        return self._waiter is not None or (not self._pulled and (self._opening or self._pull_only))

    def _run(self, awaitable: Awaitable[Any]) -> None:
        self._running = True
        self._fast = False
        self.stream.io_loop.start_task(self._follow(awaitable))

    async def _follow(self, awaitable: Awaitable[Any]) -> None:
        """Await what a callback has returned, then go on with the next message."""
        try:
            await awaitable
        except Exception:
            self._callback_failed()
        finally:
            self._running = self._opening = False
            self._work()

    def _callback_failed(self) -> None:
        """A callback of the endpoint has raised."""
        error = sys.exception()
        if self._endpoint is None or (isinstance(error, WebSocketClosedError) and self.is_closing):
            return  # that is how a coroutine learns of the end
        self._endpoint.log_exception(type(error), error, error and error.__traceback__)
        self.close_with(INTERNAL_ERROR, "")

    def push(self) -> None:
        """From now on messages go to `on_message`."""
        self._pull_only = False
        self._work()

    def read_message(self) -> asyncio.Future[Message | None]:
        """Return a Future of the next message that no callback has got; None: there are no more.

        :raises RuntimeError: somebody waits for one already.
        """
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("read_message() was called already: await that first")
        self._pulled = True
        self._fast = False
        future: asyncio.Future[Message | None] = self.stream.io_loop.create_future()
        if self._queue:
            future.set_result(self._take(self._queue))
        elif self._over:
            future.set_result(None)
        else:
            self._waiter = future
        self._work()
        return future

    # Sending

    def write(self, payload: bytes, binary: bool) -> asyncio.Future[None]:
        """Send a message.

        :param payload: UTF-8 if not `binary`.
        :returns: done when the kernel has taken all that was sent until now; may be shared.
        :raises WebSocketClosedError: the connection is closed or closing.
        """
        if self.is_closing:
            raise WebSocketClosedError("the WebSocket connection is closed, or closing")
        protocol = self.protocol
        if len(payload) > JOINED_SIZE and protocol.deflater is None and not protocol.is_client:
            self.stream.send(head(FIN | (BINARY if binary else TEXT), len(payload)))
            sent = self.stream.send(payload)
        else:
            payload = protocol.message(payload, binary)
            sent = self.stream.send(payload)
        return self.done or self.make_done() if sent else self.wait_for_drain(len(payload))

    def post(self, frame: bytes) -> None:
        """Send a frame that was made elsewhere, on a connection that is not closing, and wait for nothing."""
        if not self.stream.send(frame):
            self.keep(len(frame))

    def make_done(self) -> asyncio.Future[None]:
        """Make `done`: one for all connections of a server, which are many."""
        server: Any = self._server
        done: asyncio.Future[None] | None = None if server is None else _done.get(server)
        if done is None:
            done = self.stream.io_loop.create_future()
            done.set_result(None)
            if server is not None:
                _done[server] = done
        self.done = done
        return done

    def wait_for_drain(self, size: int) -> asyncio.Future[None]:
        """Return a Future of when all has left. The last `size` bytes, at least, have not.

        Each caller has one of its own, for who is cancelled cancels what he awaits. But one that nobody has kept is
        given out again: who never awaits must not fill memory.
        """
        drained = self._drained
        if drained is None:
            drained = self._drained = []
        if not drained or sys.getrefcount(drained[-1]) > 2:
            drained.append(self.stream.io_loop.create_future())
        future = drained[-1]
        self.keep(size)
        return future

    def keep(self, size: int) -> None:
        """The last `size` bytes, at least, wait for the peer to read. One that does not read is cut off."""
        if self.stream.unsent - size > self._options.max_unsent:
            gen_log.info("closing a WebSocket that has not read %d bytes", self.stream.unsent)
            self.stream.close(BufferError(f"above {self._options.max_unsent} bytes are unsent"))
            self._shut()
        else:
            self.stream.on_drain(self._all_sent)

    def _all_sent(self) -> None:
        drained, self._drained = self._drained, None
        for future in drained or ():
            if not future.done():
                future.set_result(None)
        if self._ended:
            self._leave()

    def ping(self, data: bytes) -> None:
        """Send a Ping.

        :raises WebSocketClosedError: the connection is closed or closing.
        :raises ValueError: `data` is above 125 bytes.
        """
        if self.is_closing:
            raise WebSocketClosedError("the WebSocket connection is closed, or closing")
        self.post(self.protocol.control(PING, data))

    # Closing

    def close_with(self, code: int | None, reason: str) -> None:
        """Begin to close: send a Close, and wait for the peer's. A second time nothing happens.

        :raises ValueError: see `frames.close_payload`.
        """
        if not self.is_closing:
            frame = self.protocol.close(code, reason)
            self.is_closing = True
            self._wait()
            self.post(frame)

    def close_if_idle(self) -> None:
        """The server shuts down: say so, and wait for the peer."""
        self.close_with(GOING_AWAY, "")

    def close(self) -> None:
        """The server is at its end: say so, if that was not said, and cut the connection."""
        self.close_with(GOING_AWAY, "")
        self.stream.close()

    def abandon(self, request: object) -> None:
        """What was asked for by `request` has failed when the connection was open already."""
        self.close_with(INTERNAL_ERROR, "")

    def _wait(self) -> None:
        """The end has begun: give it `close_timeout` from now on."""
        self._waiting_since = self.stream.io_loop.time()
        if self._server is None and self._ticker is None:
            self._tick_later()

    def _conclude(self, ending: Close | Failure) -> None:
        """Answer the end of what the peer sends."""
        self._ended = True
        if isinstance(ending, Failure):
            gen_log.info("WebSocket failed: %s", ending.reason)
        if not self.is_closing:
            self.is_closing = True
            # A Close is answered by its code (RFC 6455 5.5.1), a failure by what is wrong.
            self.post(self.protocol.close(ending.code, ending.reason if isinstance(ending, Failure) else ""))
        self._wait()
        if not self.stream.unsent:
            self._leave()

    def _leave(self) -> None:
        """All is said, and has left. The server closes first (RFC 6455 7.1.1), a client waits for that."""
        failed = isinstance(self.ending, Failure)
        if failed and not isinstance(self.stream, SSLIOStream):  # TLS cannot end one side only
            try:
                self.stream.socket.shutdown(socket.SHUT_WR)
            except (OSError, AttributeError):
                self.stream.close()
        elif failed or self._server is not None:
            self.stream.close()

    def _stream_closed(self) -> None:
        self._shut()
        self._ended = True  # what has not been answered cannot be, any more
        self._wait()
        self._work()

    def _shut(self) -> None:
        """Nothing can be sent any more: tell those who wait for that."""
        self.is_closing = True
        drained, self._drained = self._drained, None
        for future in drained or ():
            if not future.done():
                future.set_exception(WebSocketClosedError("the WebSocket connection is closed"))
                future.exception()  # asyncio is not to complain if nobody looks at it

    def _end(self) -> None:
        """The connection is closed, and all that came before is dealt with: tell the endpoint."""
        if self._over:
            return
        self._over = True
        self._fast = False
        if self._server is not None:
            self._server.forget(self)  # type: ignore[arg-type]
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        endpoint, self._endpoint = self._endpoint, None
        self._on_message = None  # type: ignore[assignment]  # breaks the cycle
        ending = self.ending
        try:
            endpoint.connection_closed(ending and ending.code, (ending and ending.reason) or None)
        except Exception:
            endpoint.log_exception(*sys.exc_info())

    # Deadlines

    def check_deadline(self, now: float) -> None:
        """Look whether the peer has kept us waiting for too long, and send a Ping where it is time."""
        since = self._waiting_since
        if since is not None:
            if now - since > self._options.close_timeout:
                if self.stream.closed():
                    self._end()
                elif self.ending is not None and not self._ended:
                    self._conclude(self.ending)
                else:
                    self.stream.close(TimeoutError("the peer does not end the WebSocket connection"))
            return
        interval = self._options.ping_interval
        if interval and not self._paused:
            pinged = self._pinged
            if pinged > 0:
                if now - pinged > (self._options.ping_timeout or interval):
                    gen_log.info("closing a WebSocket: no answer to a Ping for %.1f s", now - pinged)
                    self.close_with(INTERNAL_ERROR, "no answer to a Ping")
                    self.stream.close(TimeoutError("no answer to a Ping"))
            elif now + pinged >= interval and not self.is_closing:
                self._pinged = now
                self.ping(b"")

    def _tick_later(self) -> None:
        interval = min(TICK, self._options.close_timeout / 4, (self._options.ping_interval or TICK) / 4)
        self._ticker = self.stream.io_loop.call_later(interval, self._tick)

    def _tick(self) -> None:
        self._tick_later()
        self.check_deadline(self.stream.io_loop.time())
