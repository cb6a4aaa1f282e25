"""What is asked of every server, and how a right answer looks.

The request head is the one curl sends: Host, User-Agent, Accept. (wrk sends Host alone; a browser sends ten more.)
"""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass

USER_AGENT = "curl/8.5.0"


@dataclass(frozen=True, slots=True)
class Case:
    """One request, made over and over.

    :param name: the word on the command line.
    :param summary: one line for the table.
    :param path: the request target.
    :param body: an exemplary right answer: what the C floor sends.
    :param content_type: how the answer's Content-Type must begin where there is one: socketify sends none unless told.
    :param right: whether a body is a right answer.
    :param upload: the body of the request; with one it is a POST.
    """

    name: str
    summary: str
    path: str
    body: bytes
    content_type: str
    right: Callable[[bytes], bool]
    upload: bytes = b""
    echo = False

    @property
    def large(self) -> bool:
        """Whether a body does not fit into one read or write."""
        return len(self.body) + len(self.upload) > 65536

    @property
    def method(self) -> str:
        """The request's method."""
        return "POST" if self.upload else "GET"

    def request(self, port: int) -> bytes:
        """Return the bytes of the request to 127.0.0.1:`port`."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"User-Agent: {USER_AGENT}"]
        lines.append("Accept: */*")
        if self.upload:
            lines.append(f"Content-Length: {len(self.upload)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.upload

    def answer(self) -> bytes:
        """Return a whole right answer, head and body."""
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body

    def fault(self, port: int) -> str | None:
        """Ask the server on 127.0.0.1:`port` once; return what is wrong with its answer, or None."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            headers = {"User-Agent": USER_AGENT, "Accept": "*/*"}
            connection.request(self.method, self.path, self.upload or None, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{self.method} {self.path}: {type(error).__name__}: {error}"
        finally:
            connection.close()
        if response.status != 200:
            return f"{self.method} {self.path} was answered {response.status}, not 200: {body[:200]!r}"
        if not self.right(body):
            return (
                f"{self.method} {self.path} was answered with {body[:200]!r}, expected something like "
                f"{self.body[:200]!r}"
            )
        kind = response.headers.get("Content-Type", self.content_type)
        if not kind.startswith(self.content_type):
            return f"{self.method} {self.path} was answered as {kind!r}, expected {self.content_type!r}"
        return None


def _is_message(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == {"message": "Hello, world!"})
    except ValueError:
        return False


MIB = bytes(range(256)) * 4096

CASES = {
    case.name: case
    for case in (
        Case(
            "hello",
            "a fixed text: GET / -> Hello, world",
            "/",
            b"Hello, world",
            "text/html",
            b"Hello, world".__eq__,
        ),
        Case(
            "json",
            'a dict serialised for each request: GET /json -> {"message": "Hello, world!"}',
            "/json",
            b'{"message": "Hello, world!"}',
            "application/json",
            _is_message,
        ),
        Case(
            "path",
            "a path parameter echoed: GET /user/12345 -> 12345",
            "/user/12345",
            b"12345",
            "text/",
            b"12345".__eq__,
        ),
        Case("large", "1 MiB sent: GET /large", "/large", MIB, "application/octet-stream", MIB.__eq__),
        Case(
            "upload",
            "1 MiB taken: POST /upload -> 1048576, its length",
            "/upload",
            b"1048576",
            "text/",
            b"1048576".__eq__,
            MIB,
        ),
    )
}
