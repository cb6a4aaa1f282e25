"""`HTTPRequest`: what to fetch and how. Names, order and defaults of the arguments are Tornado 6's, plus those it
dropped: `use_gzip`."""

from __future__ import annotations

import datetime
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import formatdate
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

from pollux_http.headers import HTTPHeaders

Body = bytes | str | None
Write = Callable[[bytes], Awaitable[None]]


class HTTPRequest:
    """A request for `AsyncHTTPClient.fetch`. None means the default of the client (`defaults=`), else the one below.

    :param url: http or https. Control characters and spaces are refused, characters beyond ASCII are quoted.
    :param method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS; others with `allow_nonstandard_methods`.
    :param headers: a mapping, or `HTTPHeaders`.
    :param body: bytes, or a str that is sent in UTF-8.
    :param auth_username, auth_password, auth_mode: HTTP authentication; the mode is "basic". A user in the URL wins.
    :param connect_timeout: seconds until the connection stands, default 20; 0 for no limit.
    :param request_timeout: seconds for all of it, default 20; 0 for no limit.
    :param if_modified_since: a datetime (UTC, if it is naive) or seconds since the epoch, for If-Modified-Since.
    :param follow_redirects: default True.
    :param max_redirects: default 5; the response after so many is returned as it is.
    :param user_agent: for User-Agent.
    :param use_gzip: the name of `decompress_response` before Tornado 4.
    :param network_interface: numeric address to connect from.
    :param streaming_callback: called with each piece of the body as it comes; the response's `body` is then empty.
        If it returns an awaitable, no more is read until that is done.
    :param header_callback: called with each line of the final response's head as it came, the first being the status
        line and the last an empty one; each ends in CR LF.
    :param prepare_curl_callback: ignored: there is no curl.
    :param proxy_host, proxy_port, proxy_username, proxy_password, proxy_auth_mode: an HTTP proxy; https goes through a
        tunnel (CONNECT). The mode is "basic".
    :param allow_nonstandard_methods: take any method, and a body or none with any. Default False.
    :param validate_cert: verify the server's certificate and name, default True.
    :param ca_certs: PEM file of the authorities to trust; default: those of the system.
    :param allow_ipv6: default True.
    :param client_key, client_cert: PEM files of a certificate of our own.
    :param body_producer: called with a function `write(data)`, whose result may be awaited for backpressure; what it
        returns, if awaitable, is awaited. Without a Content-Length in `headers` the body goes out in chunks.
    :param expect_100_continue: send the body only when the server has said that it wants it (RFC 9110 10.1.1).
    :param decompress_response: ask for a compressed response and undo that, default True.
    :param ssl_options: a context, or a dict as `pollux.netutil.ssl_options_to_context` takes it; in place of
        `validate_cert`, `ca_certs`, `client_key` and `client_cert`.
    :raises ValueError: both `body` and `body_producer` are given.
    """

    _headers: HTTPHeaders | dict[str, str] | None
    _DEFAULTS: ClassVar[dict[str, Any]] = {
        "connect_timeout": 20.0,
        "request_timeout": 20.0,
        "follow_redirects": True,
        "max_redirects": 5,
        "decompress_response": True,
        "proxy_password": "",
        "allow_nonstandard_methods": False,
        "validate_cert": True,
    }

    def __init__(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | HTTPHeaders | None = None,
        body: Body = None,
        auth_username: str | None = None,
        auth_password: str | None = None,
        auth_mode: str | None = None,
        connect_timeout: float | None = None,
        request_timeout: float | None = None,
        if_modified_since: float | datetime.datetime | None = None,
        follow_redirects: bool | None = None,
        max_redirects: int | None = None,
        user_agent: str | None = None,
        use_gzip: bool | None = None,
        network_interface: str | None = None,
        streaming_callback: Callable[[bytes], Any] | None = None,
        header_callback: Callable[[str], Any] | None = None,
        prepare_curl_callback: Callable[[Any], Any] | None = None,
        proxy_host: str | None = None,
        proxy_port: int | None = None,
        proxy_username: str | None = None,
        proxy_password: str | None = None,
        proxy_auth_mode: str | None = None,
        allow_nonstandard_methods: bool | None = None,
        validate_cert: bool | None = None,
        ca_certs: str | None = None,
        allow_ipv6: bool | None = None,
        client_key: str | None = None,
        client_cert: str | None = None,
        body_producer: Callable[[Write], Any] | None = None,
        expect_100_continue: bool = False,
        decompress_response: bool | None = None,
        ssl_options: Mapping[str, Any] | ssl.SSLContext | None = None,
    ) -> None:
        self._headers = headers  # type: ignore[assignment]  # any mapping will do
        if if_modified_since is not None:
            self.headers["If-Modified-Since"] = _http_date(if_modified_since)
        if body is not None and body_producer is not None:
            raise ValueError("HTTPRequest: body and body_producer exclude each other, got both")
        self.url = url
        self.method = method
        self._body = body.encode() if isinstance(body, str) else body
        self.auth_username = auth_username
        self.auth_password = auth_password
        self.auth_mode = auth_mode
        self.connect_timeout = connect_timeout
        self.request_timeout = request_timeout
        self.follow_redirects = follow_redirects
        self.max_redirects = max_redirects
        self.user_agent = user_agent
        self.network_interface = network_interface
        self.streaming_callback = streaming_callback
        self.header_callback = header_callback
        self.prepare_curl_callback = prepare_curl_callback
        self.proxy_host = proxy_host
        self.proxy_port = proxy_port
        self.proxy_username = proxy_username
        self.proxy_password = proxy_password
        self.proxy_auth_mode = proxy_auth_mode
        self.allow_nonstandard_methods = allow_nonstandard_methods
        self.validate_cert = validate_cert
        self.ca_certs = ca_certs
        self.allow_ipv6 = allow_ipv6
        self.client_key = client_key
        self.client_cert = client_cert
        self.body_producer = body_producer
        self.expect_100_continue = expect_100_continue
        self.decompress_response = use_gzip if decompress_response is None else decompress_response
        self.ssl_options = ssl_options
        self.start_time = time.time()

    @property
    def headers(self) -> HTTPHeaders | dict[str, str]:
        """The header fields, to be changed at will until `fetch`; what `fetch` adds is not added here."""
        if self._headers is None:
            self._headers = HTTPHeaders()
        return self._headers

    @headers.setter
    def headers(self, value: Mapping[str, str] | HTTPHeaders | None) -> None:
        self._headers = value  # type: ignore[assignment]  # as in the constructor

    @property
    def given_headers(self) -> HTTPHeaders | dict[str, str] | None:
        """The header fields, None if there never were any: most requests have none."""
        return self._headers

    @property
    def body(self) -> bytes | None:
        """The body. A str that is assigned is kept as UTF-8."""
        return self._body

    @body.setter
    def body(self, value: Body) -> None:
        self._body = value.encode() if isinstance(value, str) else value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.url}>"


def _http_date(when: float | datetime.datetime) -> str:
    """Return a time as RFC 9110 5.6.7 has it."""
    if isinstance(when, datetime.datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()
    return formatdate(when, usegmt=True)


class Settings(NamedTuple):
    """The options of a request with the client's defaults put in. See `HTTPRequest`."""

    auth_username: str | None
    auth_password: str | None
    auth_mode: str | None
    connect_timeout: float
    request_timeout: float
    follow_redirects: bool
    max_redirects: int
    user_agent: str | None
    decompress_response: bool
    network_interface: str | None
    streaming_callback: Callable[[bytes], Any] | None
    header_callback: Callable[[str], Any] | None
    proxy_host: str | None
    proxy_port: int | None
    proxy_username: str | None
    proxy_password: str | None
    proxy_auth_mode: str | None
    allow_nonstandard_methods: bool
    validate_cert: bool
    ca_certs: str | None
    allow_ipv6: bool | None
    client_key: str | None
    client_cert: str | None
    body_producer: Callable[[Write], Any] | None
    expect_100_continue: bool
    ssl_options: Mapping[str, Any] | ssl.SSLContext | None


chosen = attrgetter(*Settings._fields)
"""What a request says itself, in the order of `Settings`: one call in C, for most requests say nothing."""

NOTHING_CHOSEN = tuple(False if name == "expect_100_continue" else None for name in Settings._fields)


def merged(values: tuple[Any, ...], defaults: Settings) -> Settings:
    """Put the defaults where a request says nothing."""
    pairs: Iterable[tuple[Any, Any]] = zip(values, defaults, strict=True)
    return Settings._make([default if value is None else value for value, default in pairs])


def settings_of(defaults: Mapping[str, Any]) -> Settings:
    """Return the settings of a request that says nothing.

    :raises ValueError: a default has no such name.
    """
    known = set(Settings._fields) | {"use_gzip", "prepare_curl_callback", "headers", "method", "body"}
    for name in defaults:
        if name not in known:
            raise ValueError(f"unknown default {name!r} of AsyncHTTPClient; known: {', '.join(Settings._fields)}")
    if "use_gzip" in defaults:
        defaults = {"decompress_response": defaults["use_gzip"], **defaults}
    values = {**HTTPRequest._DEFAULTS, **defaults}
    return Settings._make([values.get(name) for name in Settings._fields])
