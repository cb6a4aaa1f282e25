"""`SSLIOStream`: TLS straight on the socket, by OpenSSL through `ssl.SSLSocket`.

What the outside world fixes
----------------------------
* The handshake needs the socket readable or writable in turns, and says which (SSLWantReadError, SSLWantWriteError).
  Later, too, a read may need to write and a write to read (TLS 1.3 key updates, TLS 1.2 renegotiation).
* OpenSSL decrypts a record of up to 16 KiB at a time. What of it was not asked for waits in OpenSSL (`pending()`),
  where no poller sees it.
* A write that was refused must be repeated with the same bytes, and not fewer (SSL_write(3)).
* Who says nothing at all keeps a handshake open for ever.

What was decided
----------------
* Reads wait, and writes are kept, until the handshake is done. It is bounded by a timeout.
* READ interest is never left on while something is pending and somebody reads: what is pending is read first.
* A read that needs to write is watched for that alone, and the other way round: else a level-triggered poller would
  report the other direction for ever.
* Certificate and host name are verified by the context, in the handshake. What fails there is logged once.
* `close` says so to the peer (close_notify, RFC 8446 6.1) if it need not wait for that, and awaits no answer.
"""

from __future__ import annotations

import socket
import ssl
from asyncio import Future, TimerHandle
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pollux.basestream import promised
from pollux.log import gen_log
from pollux.netutil import ssl_options_to_context
from pollux.poller import READ, WRITE
from pollux.rawstream import StreamClosedError
from pollux.socketstream import HANDSHAKE_TIMEOUT, IOStream
from pollux.waiters import Waiter, fail
from pollux.writebuffer import JOINED_SIZE

if TYPE_CHECKING:
    from typing import Self

    from pollux.ioloop import IOLoop


@lru_cache(maxsize=2)
def default_context(server_side: bool) -> ssl.SSLContext:
    """Return the context for who gives no options. Kept: loading the system's authorities takes milliseconds."""
    return ssl_options_to_context({}, server_side=server_side)


class SSLIOStream(IOStream):
    """A stream over TLS.

    :param socket: connected and wrapped (`ssl.SSLContext.wrap_socket(..., do_handshake_on_connect=False)`): the
        handshake begins in the next iteration; or a plain one that `connect` is to connect and wrap.
    :param max_buffer_size: these three and `io_loop`: see `BaseIOStream`.
    :param ssl_options: for `connect`: a context, or a dict as `pollux.netutil.ssl_options_to_context` takes it.
        Default: verify with the system's authorities.
    :param handshake_timeout: seconds, default `HANDSHAKE_TIMEOUT`, 60. The stream is then closed with a `TimeoutError`.
    :raises ValueError: the socket is connected but not wrapped.
    """

    __slots__ = (
        "_context", "_crossed", "_handshake_timeout", "_handshake_timer", "_handshake_waiter", "_secure",
        "_server_hostname",
    )  # fmt: skip

    def __init__(
        self,
        socket: socket.socket,
        max_buffer_size: int | None = None,
        read_chunk_size: int | None = None,
        max_write_buffer_size: int | None = None,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        io_loop: IOLoop | None = None,
    ) -> None:
        wrapped = isinstance(socket, ssl.SSLSocket)
        if not wrapped and _is_connected(socket):
            raise ValueError(
                "SSLIOStream: the socket is connected but not wrapped: "
                "use context.wrap_socket(socket, do_handshake_on_connect=False), or IOStream.start_tls()"
            )
        self._context: Mapping[str, Any] | ssl.SSLContext | None = ssl_options
        self._server_hostname: str | None = None
        self._handshake_timeout = handshake_timeout
        self._handshake_timer: TimerHandle | None = None
        self._handshake_waiter: Waiter | None = None
        self._secure = False  # the handshake is done
        self._crossed = False  # a read waits for WRITE, or a write for READ
        super().__init__(socket, max_buffer_size, read_chunk_size, max_write_buffer_size, io_loop)
        if wrapped:
            self._begin_connecting()
            self._begin_handshake()

    def _recv(self, size: int) -> bytes:
        try:
            return self.socket.recv(size)  # type: ignore[no-any-return]
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._cross(WRITE)
            raise BlockingIOError from None

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.socket.send(memoryview(data)[:JOINED_SIZE])  # type: ignore[no-any-return]
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except ssl.SSLWantReadError:
            self._cross(READ)
            raise BlockingIOError from None

    def _cross(self, events: int) -> None:
        """Wait for `events` alone; `_events` still says what is wanted. Unregistered, the usual interest finds out."""
        if self._registered:
            self.io_loop.update_handler(self.socket, events)
            self._crossed = True

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """See `BaseIOStream.read_from_fd`."""
        try:
            data = SSLIOStream._recv(self, len(buf))
        except BlockingIOError:
            return None
        buf[: len(data)] = data
        return len(data)

    def write_to_fd(self, data: memoryview) -> int:
        """See `BaseIOStream.write_to_fd`."""
        try:
            return SSLIOStream._send(self, data)
        except BlockingIOError:
            return 0

    def _is_connreset(self, error: BaseException) -> bool:
        return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or super()._is_connreset(error)

    # Events

    def _want(self, events: int) -> None:
        resumed = events & ~self._events & READ
        super()._want(events)
        if resumed and self._secure and not self._closed and self.socket.pending():
            self.io_loop.call_soon(self._handle_pending)

    def _handle_pending(self) -> None:
        if self._events & READ and self.socket.pending():
            self._handle_events(self.socket, READ)

    def _handle_events(self, fd: Any, events: int) -> None:
        if self._crossed:
            self._crossed = False
            self.io_loop.update_handler(self.socket, self._events)
            events = READ | WRITE
        super()._handle_events(fd, events)
        while self._events & READ and not self._crossed and self.socket.pending():
            super()._handle_events(fd, READ)

    # The handshake

    def connect(
        self, address: Any, server_hostname: str | None = None, callback: Callable[[], Any] | None = None
    ) -> Future[Self]:
        """Connect, then shake hands; the result is the stream itself.

        :param server_hostname: the name that the server's certificate must bear, also sent to it (SNI, RFC 6066).
        :raises OSError: from the Future: connecting (ConnectionRefusedError, ...) or the handshake failed
            (`ssl.SSLCertVerificationError`, ...). The stream is closed. Else as `IOStream.connect`.
        """
        if callable(server_hostname):
            server_hostname, callback = callback, server_hostname  # type: ignore[unreachable]
        self._server_hostname = server_hostname
        super().connect(address)
        return self.wait_for_handshake(callback)

    def wait_for_handshake(self, callback: Callable[[], Any] | None = None) -> Future[Self]:
        """Wait until the handshake is done; the result is the stream itself.

        Then `socket` tells the peer's certificate and what was negotiated (ALPN). Not needed before reading or writing:
        both wait by themselves.

        :raises RuntimeError: somebody waits already.
        :raises OSError: from the Future: the handshake failed; see `connect`.
        """
        if self._handshake_waiter is not None:
            raise RuntimeError("Already waiting: wait_for_handshake() and connect() may be called once")
        waiter: Any = self._waiter_for(callback, with_result=False)
        if self._closed:
            fail(waiter, self.error or StreamClosedError())
        elif self._secure:
            waiter.set_result(self)
        else:
            self._handshake_waiter = waiter
        return promised(waiter)

    def close_if_cancelled(self, future: Future[Any]) -> None:
        """Close the stream if `future` was cancelled: whoever waited for it does not know it."""
        if future.cancelled():
            self.close()

    def _established(self) -> None:
        """The socket is connected: wrap it."""
        try:
            self.socket.getpeername()  # of a reset connection, wrap_socket would leave its socket open
            context = default_context(False) if self._context is None else ssl_options_to_context(self._context, False)
            self.socket = context.wrap_socket(
                self.socket, server_hostname=self._server_hostname, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            gen_log.warning("TLS cannot begin: %s", error)
            self.close(error)
        else:
            self._begin_handshake()

    def _begin_handshake(self) -> None:
        self._handshake_timer = self.io_loop.call_later(self._handshake_timeout, self._handshake_late)
        # Who is the client speaks first.
        self._events = READ if self.socket.server_side else WRITE
        self._register(self._handle_handshake, self._events)

    def _handle_handshake(self, fd: Any, events: int) -> None:
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._await_handshake(READ)
        except ssl.SSLWantWriteError:
            self._await_handshake(WRITE)
        except (OSError, ValueError) as error:
            if not self._is_connreset(error):
                gen_log.warning("SSL Error on %r: %s", self, error)
            self.close(error)
        else:
            self._secure = True
            self._end_handshake_timer()
            waiter: Any = self._handshake_waiter
            self._handshake_waiter = None
            if waiter is not None and not waiter.done():
                waiter.set_result(self)
            self._connected()

    def _await_handshake(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self.io_loop.update_handler(self.socket, events)

    def _handshake_late(self) -> None:
        gen_log.warning("TLS handshake not done within %g s on %r", self._handshake_timeout, self)
        self.close(TimeoutError(f"the TLS handshake was not done within {self._handshake_timeout} seconds"))

    def _end_handshake_timer(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _fail_waiters(self) -> None:
        self._end_handshake_timer()
        waiter, self._handshake_waiter = self._handshake_waiter, None
        if waiter is not None:
            fail(waiter, self.error or StreamClosedError())
        super()._fail_waiters()

    def close_fd(self) -> None:
        """See `BaseIOStream.close_fd`. The peer is told that this is the end."""
        if self._secure and self.error is None and not self._write_buffer:
            try:
                self.socket.unwrap()
            except (OSError, ValueError):  # it would wait for the peer's answer, or the peer has gone
                pass
        super().close_fd()


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
