"""`AsyncHTTPTestCase`: a test with an HTTP server of its own, by Tornado's names (tornado.testing). What needs no
server is in `pollux.testing`.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

from pollux.errors import MissingExtraError
from pollux.testing.cases import AsyncTestCase, bind_unused_port, get_async_test_timeout
from pollux_http import AsyncHTTPClient, HTTPResponse, HTTPServer


class AsyncHTTPTestCase(AsyncTestCase):
    """A test of an application that is served on a free port of this machine.

    .. code-block:: python

        class TestHello(AsyncHTTPTestCase):
            def get_app(self):
                return make_application()

            def test_hello(self):
                self.assertEqual(self.fetch("/").body, b"Hello, world")

    :ivar http_client: the loop's `AsyncHTTPClient`.
    :ivar http_server: the `HTTPServer`.
    """

    def setUp(self) -> None:
        """Start the server."""
        super().setUp()
        sock, self._port = bind_unused_port()
        try:
            self.http_client = self.get_http_client()
            self._app = self.get_app()
            self.http_server = self.get_http_server()
        except BaseException:
            sock.close()
            raise
        self.http_server.add_sockets([sock])

    def tearDown(self) -> None:
        """Stop it."""
        self.http_server.stop()
        self.io_loop.run_sync(self.http_server.close_all_connections, timeout=get_async_test_timeout())
        self.http_client.close()
        super().tearDown()

    def get_app(self) -> Any:
        """Return what is served: an `Application`, or what else `HTTPServer` takes. Override it."""
        raise NotImplementedError(f"override {type(self).__name__}.get_app()")

    def get_http_client(self) -> AsyncHTTPClient:
        """Return the client."""
        return AsyncHTTPClient()

    def get_http_server(self) -> HTTPServer:
        """Return the server."""
        return HTTPServer(self._app, **self.get_httpserver_options())

    def get_httpserver_options(self) -> dict[str, Any]:
        """Return options for `HTTPServer`. Override it."""
        return {}

    def get_http_port(self) -> int:
        """Return the port."""
        return self._port

    def get_protocol(self) -> str:
        """Return the scheme."""
        return "http"

    def get_url(self, path: str) -> str:
        """Return the URL of a path on the server."""
        return f"{self.get_protocol()}://127.0.0.1:{self.get_http_port()}{path}"

    def fetch(self, path: str, raise_error: bool = False, **kwargs: Any) -> HTTPResponse:
        """Fetch a path of the server, or a whole URL, and return the response.

        :param raise_error: raise what is no 2xx.
        :param kwargs: options of `HTTPRequest`, such as `method` and `body`.
        :raises TimeoutError: it takes longer than `get_async_test_timeout`.
        """
        url = path if path.lower().startswith(("http://", "https://")) else self.get_url(path)
        fetch = partial(self.http_client.fetch, url, raise_error=raise_error, **kwargs)
        response: HTTPResponse = self.io_loop.run_sync(fetch, timeout=get_async_test_timeout())
        return response


class AsyncHTTPSTestCase(AsyncHTTPTestCase):
    """The same over TLS, with a certificate that was made for the test and that the client does not check."""

    def get_http_client(self) -> AsyncHTTPClient:
        """Return a client of the test's own."""
        return AsyncHTTPClient(force_instance=True, defaults={"validate_cert": False})

    def get_httpserver_options(self) -> dict[str, Any]:
        """Return the options of TLS."""
        return {"ssl_options": self.get_ssl_options()}

    def get_ssl_options(self) -> Any:
        """Return what `HTTPServer(ssl_options=...)` takes. Override it for a certificate of your own.

        :raises MissingExtraError: trustme is missing, which makes one.
        """
        try:
            import trustme
        except ImportError as error:
            raise MissingExtraError("AsyncHTTPSTestCase needs trustme: pip install 'pollux[test]'") from error
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return context

    def get_protocol(self) -> str:
        """Return the scheme."""
        return "https"
