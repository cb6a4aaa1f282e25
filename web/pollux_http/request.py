"""`HTTPServerRequest`: what a handler sees of a request. Everything that costs something is made when it is asked
for."""

from __future__ import annotations

from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from pollux_http.cookies import as_morsels, parse_cookie
from pollux_http.errors import HTTPInputError
from pollux_http.headers import HTTPHeaders
from pollux_http.multipart_form import HTTPFile, boundary_of, parse_multipart
from pollux_http.start_line import parse_response_start_line

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from http.cookies import Morsel

    from pollux_http.connection import ServerConnection

Fields = tuple[tuple[bytes, bytes], ...]

MAX_FORM_FIELDS = 1000  # urlencoded arguments in one request: Django's limit; more are an attack on the parser


class HTTPServerRequest:
    """One request. Names and meanings are Tornado 6's (tornado.httputil.HTTPServerRequest).

    The parser makes it, the connection that serves it sets `connection`. What is rarely not the usual is a class
    attribute.

    :ivar method: such as "GET".
    :ivar uri: the request target, such as "/path?a=1" (of an absolute-form target: without scheme and authority).
    :ivar fields: the header fields in the order in which they came: pairs of bytes, the names in lower case.
    :ivar body: bytes, whole; of a request whose body is streamed always b"".
    :ivar incoming: of a request whose body is streamed, the parts of it that were not taken yet; else None. Take them
        with `connection.take_body`.
    :ivar complete: whether the whole body has come.
    :ivar upgrade: whether the client offers to go on in another protocol (Upgrade, or CONNECT); see
        `ServerConnection.detach`.
    :ivar protocol: "http" or "https": that of the connection, or what a proxy says that is believed; never what the
        request line claims.
    :ivar connection: where the answer goes.
    :ivar plain: HTTP/1.1, kept alive, not HEAD: nothing about it makes its response special.
    """

    body = b""
    incoming: list[bytes] | None = None
    complete = True
    upgrade = False
    http11 = True
    keep_alive = True
    plain = True
    protocol = "http"
    connection: ServerConnection

    started: float | None = None
    _answered = False
    _headers: HTTPHeaders | None = None
    _arguments: dict[str, list[bytes]] | None = None
    _query_arguments: dict[str, list[bytes]] | None = None
    _body_arguments: dict[str, list[bytes]] | None = None
    _files: dict[str, list[HTTPFile]] | None = None

    def __init__(self, method: str, uri: str, fields: Fields = (), raw_host: bytes = b"") -> None:
        self.method = method
        self.uri = uri
        self.fields = fields
        self.raw_host = raw_host

    def __repr__(self) -> str:
        return f"HTTPServerRequest({self.method} {self.host}{self.uri}, {self.version})"

    @property
    def version(self) -> str:
        """ "HTTP/1.1" or "HTTP/1.0"."""
        return "HTTP/1.1" if self.http11 else "HTTP/1.0"

    @property
    def headers(self) -> HTTPHeaders:
        """The header fields."""
        headers = self._headers
        if headers is None:
            headers = self._headers = HTTPHeaders.from_raw(self.fields)
        return headers

    @property
    def path(self) -> str:
        """The target up to the question mark, undecoded."""
        return self.uri.partition("?")[0]

    @property
    def query(self) -> str:
        """The target after the question mark, undecoded; "" if there is none."""
        return self.uri.partition("?")[2]

    @property
    def host(self) -> str:
        """Host, with its port if one was sent; "127.0.0.1" if there was none (HTTP/1.0)."""
        return self.raw_host.decode("latin-1") or "127.0.0.1"

    @property
    def host_name(self) -> str:
        """Host in lower case, without a port."""
        host = self.host
        name = host[: host.index("]") + 1] if host[:1] == "[" and "]" in host else host.partition(":")[0]
        return name.lower()

    @cached_property
    def remote_ip(self) -> str:
        """The client's address, or what a proxy says that is believed; "0.0.0.0" on a Unix socket (Tornado's word)."""
        address = self.connection.address
        return address[0] if isinstance(address, tuple) else "0.0.0.0"

    @property
    def query_arguments(self) -> dict[str, list[bytes]]:
        """The arguments of the query string."""
        if self._query_arguments is None:
            self._query_arguments = _parse_arguments(self.query)
        return self._query_arguments

    @property
    def body_arguments(self) -> dict[str, list[bytes]]:
        """The arguments of a form in the body, urlencoded or multipart, of any method that has one.

        :raises HTTPInputError: the form is malformed or past a limit.
        """
        if self._body_arguments is None:
            self._parse_body()
        return self._body_arguments or {}

    @property
    def files(self) -> dict[str, list[HTTPFile]]:
        """The files of a multipart form in the body, by the name of their field.

        :raises HTTPInputError: the form is malformed or past a limit.
        """
        if self._files is None:
            self._parse_body()
        return self._files or {}

    def _parse_body(self) -> None:
        kind = self.headers.get("Content-Type", "") if self.body else ""
        boundary = boundary_of(kind)
        if boundary is not None:
            form = parse_multipart(boundary, self.body)
            self._body_arguments, self._files = form.arguments, form.files
        else:
            is_form = kind.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
            self._body_arguments = _parse_arguments(self.body.decode("latin-1")) if is_form else {}
            self._files = {}

    @cached_property
    def cookies(self) -> dict[str, Morsel[str]]:
        """The cookies that the client sent: `request.cookies["name"].value`."""
        return as_morsels(parse_cookie("; ".join(self.headers.get_list("Cookie"))))

    @property
    def arguments(self) -> dict[str, list[bytes]]:
        """The arguments of query and body, those of the query first; a dict of its own, which may be changed."""
        merged = self._arguments
        if merged is None:
            merged = {name: values.copy() for name, values in self.query_arguments.items()}
            for name, values in self.body_arguments.items():
                merged.setdefault(name, []).extend(values)
            self._arguments = merged
        return merged

    # Tornado's words of versions 1 to 3

    def write(self, chunk: bytes | str) -> Awaitable[None]:
        """Send part of a response as it is to go out, the first one with the whole head. `Connection`, `Date` and the
        like are added.

        :returns: see `ServerConnection.write`.
        :raises HTTPInputError: the first one does not begin with the head of a response.
        """
        data = chunk.encode() if isinstance(chunk, str) else chunk
        if self._answered:
            return self.connection.write(data)
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            raise HTTPInputError(f"what is written first holds the whole head of the response, got {data[:80]!r}")
        line, _, fields = head.decode("latin-1").partition("\r\n")
        started = self.connection.write_headers(parse_response_start_line(line), HTTPHeaders.parse(fields), body)
        self._answered = True
        return started

    def finish(self) -> None:
        """End the response that `write` has begun."""
        self.connection.finish()

    def get_ssl_certificate(self, binary_form: bool = False) -> Any:
        """Return the client's certificate, as `ssl.SSLSocket.getpeercert` has it: a dict, or DER bytes.

        None if the client sent none, was asked for none (`ssl_options` with `cert_reqs` and `ca_certs`), or there is no
        TLS.
        """
        getpeercert = getattr(self.connection.stream.socket, "getpeercert", None)
        return None if getpeercert is None else getpeercert(binary_form) or None

    def full_url(self) -> str:
        """Return scheme, host and target in one."""
        return f"{self.protocol}://{self.host}{self.uri}"

    def request_time(self) -> float:
        """Return the seconds since the request had come in whole, for servers that log; for others since this was first
        asked (to read the clock for each request is not free).
        """
        if self.started is None:
            self.started = monotonic()
        return monotonic() - self.started


def _parse_arguments(text: str) -> dict[str, list[bytes]]:
    if not text:
        return {}
    try:
        # ISO-8859-1 keeps bytes as they are: the handler decodes what they stand for.
        pairs = parse_qs(
            text, keep_blank_values=True, encoding="latin-1", errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError:
        raise HTTPInputError(f"more than {MAX_FORM_FIELDS} arguments") from None
    return {
        name.encode("latin-1").decode("utf-8", "replace"): [value.encode("latin-1") for value in values]
        for name, values in pairs.items()
    }
