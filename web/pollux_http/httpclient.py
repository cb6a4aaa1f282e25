"""Tornado's module `httpclient`: the client by the names under which its programs import it.

python -m pollux_http.httpclient [--print_headers] [--no-print_body] [--no-follow_redirects] [--no-validate_cert]
    [--proxy_host HOST --proxy_port PORT] URL ...
"""

from __future__ import annotations

import argparse
import sys

from pollux_http.client import AsyncHTTPClient, HTTPClient
from pollux_http.client_errors import (
    HTTPClientError,
    HTTPError,
    HTTPProxyError,
    HTTPResponseError,
    HTTPStreamClosedError,
    HTTPTimeoutError,
)
from pollux_http.client_request import HTTPRequest
from pollux_http.client_response import HTTPResponse

__all__ = [
    "AsyncHTTPClient",
    "HTTPClient",
    "HTTPClientError",
    "HTTPError",
    "HTTPProxyError",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPResponseError",
    "HTTPStreamClosedError",
    "HTTPTimeoutError",
    "main",
]


def main() -> None:
    """Fetch the URLs of the command line, and print what comes."""
    parser = argparse.ArgumentParser(prog="python -m pollux_http.httpclient", description="Fetch URLs.")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--print_headers", action=switch, default=False, help="print the response headers")
    parser.add_argument("--print_body", action=switch, default=True, help="print the body")
    parser.add_argument("--follow_redirects", action=switch, default=True)
    parser.add_argument("--validate_cert", action=switch, default=True)
    parser.add_argument("--proxy_host")
    parser.add_argument("--proxy_port", type=int)
    parser.add_argument("url", nargs="+")
    options = parser.parse_args()
    client = HTTPClient()
    try:
        for url in options.url:
            response = client.fetch(
                url,
                raise_error=False,
                follow_redirects=options.follow_redirects,
                validate_cert=options.validate_cert,
                proxy_host=options.proxy_host,
                proxy_port=options.proxy_port,
            )
            if options.print_headers:
                sys.stdout.write(f"{response.headers}\n")
            if options.print_body:
                sys.stdout.flush()
                sys.stdout.buffer.write(response.body)
                sys.stdout.buffer.flush()
    finally:
        client.close()


if __name__ == "__main__":
    main()
