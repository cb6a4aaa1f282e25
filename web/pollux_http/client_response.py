"""`HTTPResponse`: what a fetch brings. What costs something is made when it is asked for."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pollux_http.client_errors import HTTPClientError
from pollux_http.headers import HTTPHeaders
from pollux_http.response import reason_phrase

if TYPE_CHECKING:
    from typing import Self

    from pollux_http.client_request import HTTPRequest
    from pollux_http.response_parsing import Head


class HTTPResponse:
    """A response. Names and meanings are Tornado 6's.

    :ivar request: the `HTTPRequest` that was fetched; after redirects, the first one.
    :ivar code: the status; 599 if there was no response.
    :ivar reason: the reason phrase that the server sent, or the usual one.
    :ivar headers: `HTTPHeaders`. A Content-Encoding that was undone is named X-Consumed-Content-Encoding.
    :ivar buffer: the body as a `BytesIO`, None if there was no response.
    :ivar effective_url: where the response came from, after redirects.
    :ivar error: the exception, if the code is no 2xx or there was no response, else None.
    :ivar request_time: seconds from the start to the end; without the time in the queue, and of redirects the last.
    :ivar start_time: when that began, in seconds since the epoch.
    :ivar time_info: seconds from the start until the end of each phase, as curl has it: `namelookup`, `connect`,
        `appconnect` (TLS; these three are 0 on a connection that stood already), `pretransfer` (the request can be
        sent), `starttransfer` (the first byte came), `total`; also `queue` (before the start), and `redirect` (all the
        requests before the last).
    """

    _fields: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self,
        request: HTTPRequest,
        code: int,
        headers: HTTPHeaders | None = None,
        buffer: BytesIO | None = None,
        effective_url: str | None = None,
        error: BaseException | None = None,
        request_time: float | None = None,
        time_info: dict[str, float] | None = None,
        reason: str | None = None,
        start_time: float | None = None,
    ) -> None:
        self.request = request
        self.code = code
        self.reason = reason or reason_phrase(code)
        self._headers = headers
        self._buffer = buffer
        self._body: bytes | None = None
        self.effective_url = request.url if effective_url is None else effective_url
        self._error_is_response_code = error is None and not 200 <= code < 300
        self.error = HTTPClientError(code, self.reason, self) if self._error_is_response_code else error
        self.start_time = start_time
        self.request_time = request_time
        self.time_info = {} if time_info is None else time_info

    @classmethod
    def of(
        cls,
        request: HTTPRequest,
        head: Head,
        body: bytes,
        effective_url: str,
        request_time: float,
        time_info: dict[str, float],
        start_time: float,
    ) -> Self:
        """Make one of what the parser found."""
        self = cls(
            request,
            head.code,
            effective_url=effective_url,
            request_time=request_time,
            time_info=time_info,
            reason=head.reason,
            start_time=start_time,
        )
        self._fields = head.fields
        self._body = body
        return self

    @property
    def headers(self) -> HTTPHeaders:
        """The header fields."""
        if self._headers is None:
            self._headers = HTTPHeaders.from_raw(self._fields)
        return self._headers

    @property
    def buffer(self) -> BytesIO | None:
        """The body as a file, at its beginning; None if there was no response."""
        if self._buffer is None and self._body is not None:
            self._buffer = BytesIO(self._body)
        return self._buffer

    @property
    def body(self) -> bytes:
        """The body; b"" if there was none, or a `streaming_callback` took it."""
        if self._body is None:
            if self._buffer is None:
                return b""
            self._body = self._buffer.getvalue()
        return self._body

    def rethrow(self) -> None:
        """Raise `error`, if there is one."""
        if self.error is not None:
            raise self.error

    def __repr__(self) -> str:
        size = len(self.body)
        return f"<{type(self).__name__} {self.code} {self.reason}, {size} bytes from {self.effective_url}>"
