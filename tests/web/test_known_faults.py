"""Faults that others have met, by class, and which test is about each; and two tests that look for the next one.

`FAULTS` is an index: whoever looks for a class finds its tests, and a test that is renamed is missed here.
"""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import h11
import pytest

from pollux import IOLoop
from pollux_http import HTTPHeaders, HTTPInputError, HTTPServerRequest
from pollux_http.parsing import Limits, RequestParser
from tests.web.client import Web
from tests.web.test_malformed import LIMITS, MALFORMED, SMUGGLED

TESTS = Path(__file__).parents[1]

# Class of fault, where it happened; then where it is tested: file::test, or a key of MALFORMED.
FAULTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "Content-Length with a sign, an underscore, Unicode digits; chunk size 0x5. CVE-2022-24801, CVE-2023-54397",
        ["length b' +5'", "length b' 5_0'", "length b'\\xd9\\xa5'", "chunk size b'0x5'", "chunk size b'-5'"],
    ),
    2: (
        "Content-Length together with Transfer-Encoding; `chunked123`. CVE-2020-10109, CVE-2023-47641",
        ["length and coding", "coding and length", "coding and length 0", "coding b'chunked123'"],
    ),
    3: (
        "Different Content-Lengths; the same one twice is allowed (RFC 9110 8.6). CVE-2020-10108",
        ["different lengths", "web/test_known_faults.py::test_the_same_length_twice_is_one"],
    ),
    4: (
        "Transfer-Encoding twice, or unknown. CVE-2024-14029",
        ["coding b'chunked\\r\\nTransfer-Encoding: chunked'", "coding b'identity'", "coding b'gzip'"],
    ),
    5: (
        "Chunk data without CRLF, LF in extensions, trailers. CVE-2025-43859, CVE-2024-52304, CVE-2025-53643",
        ["chunk data without CRLF", "LF in a chunk extension", "LF in a quoted extension", "length as a trailer"],
    ),
    6: ("Bare LF, bare CR, folded lines", ["bare LF ends a field", "bare CR in a value", "folded value"]),
    7: (
        "Other white space stripped, a space before the colon, lines split at others. CVE-2021-22959, CVE-2026-44546",
        ["space before the colon", "0x0b in a value", "0x1c in a value", "0x85 in a name", "0x00 in a value"],
    ),
    8: ("Several Hosts, none, an invalid one. CVE-2026-34525", ["no Host", "two Hosts", "Host b'a@b'", "Host b'[::1'"]),
    9: (
        "An Upgrade with a body; `notupgrade`. CVE-2026-69243",
        ["upgrade with a body: b'Content-Length: 5'", "web/test_parsing.py::test_notupgrade_is_no_upgrade",
         "websocket/test_handshake.py::test_an_upgrade_with_a_body_is_refused"],
    ),
    10: (
        "An absolute target that spoofs scheme or host",
        ["target b'http://u@b/'", "target b'ftp://b/'",
         "web/test_parsing.py::test_the_scheme_of_the_target_is_not_believed"],
    ),
    11: (
        "Pipelining: the order of answers, and a bounded queue. CVE-2023-46137, CVE-2024-41671, CVE-2026-54273",
        ["web/test_pipelining.py::test_answers_come_in_order",
         "web/test_pipelining.py::test_ten_thousand_requests_stay_bounded"],
    ),
    16: (
        "Multipart: a log line for each part, quadratic work, number and size of parts, endless loops. "
        "CVE-2025-47287, CVE-2025-67726, CVE-2026-31958, CVE-2024-30251",
        ["web/test_forms.py::test_a_bad_form_is_one_line_in_the_log",
         "web/test_multipart_form.py::test_what_is_refused",
         "web/test_multipart_form.py::test_hostile_forms_take_linear_work", "body too large"],
    ),
    17: ("The number of urlencoded arguments. CVE-2026-82397", ["web/test_handler.py::test_too_many_arguments"]),
    18: (
        "Quadratic cookies, repeated fields, many tiny chunks; limits across reads. CVE-2024-52804, CVE-2025-67725, "
        "CVE-2025-69229",
        ["web/test_cookies.py::test_parsing_quadratic_cookies_takes_linear_work",
         "web/test_known_faults.py::test_repeated_fields_take_linear_work",
         "web/test_parsing.py::test_many_tiny_chunks",
         "web/test_parsing.py::test_limits_hold_across_reads"],
    ),
    19: (
        "Decompression bombs, also while a body is drained. CVE-2026-49855, CVE-2025-69223",
        ["web/test_server_options.py::test_bombs_and_broken_data",
         "web/test_server_options.py::test_inflating_never_makes_more_than_the_limit_and_one",
         "web/test_known_faults.py::test_a_body_that_is_dropped_is_not_inflated"],
    ),
    20: (
        "WebSocket: inflated size, fragments held, lengths of 2^63, RSV1 that was not negotiated, tiny reads",
        ["websocket/test_deflate.py::test_a_bomb_costs_no_more_than_the_limit",
         "websocket/test_protocol.py::test_fragments_are_bounded",
         "websocket/test_protocol.py::test_tiny_reads_hold_little",
         "websocket/test_protocol.py::test_lengths_are_refused_before_anything_is_held",
         "websocket/test_protocol.py::test_violations", "websocket/test_handshake.py::test_subprotocols"],
    ),
    21: (
        "Slow heads, slow bodies, slow readers",
        ["web/test_deadlines.py::test_late_request", "web/test_deadlines.py::test_a_head_in_drops_is_late_nevertheless",
         "web/test_deadlines.py::test_slow_reader_is_cut"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("number", FAULTS)
def test_each_class_has_its_tests(number: int) -> None:
    for where in FAULTS[number][1]:
        file, separator, name = where.partition(".py::")
        if not separator:
            assert where in MALFORMED
        else:
            tree = ast.parse((TESTS / f"{file}.py").read_text())
            found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in found, f"{file}.py has no {name}"


def fed(data: bytes, step: int | None = None) -> list[tuple[str, str, bytes]]:
    """Return the requests that our parser finds, whole, or in pieces."""
    parser = RequestParser(Limits())
    try:
        for start in range(0, len(data), step or len(data)):
            parser.feed(data[start : start + (step or len(data))])
    except HTTPInputError as error:
        if error.status not in (400, 413, 414, 417, 431, 501, 505):
            pytest.fail(f"{data!r} is answered {error.status}")
    return [(request.method, request.uri, request.body) for request in parser.requests]


def test_the_same_length_twice_is_one() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok" + SMUGGLED
    assert len(fed(data)) in (0, 2)
    assert fed(data) == fed(data, 1)


def read_by_h11(data: bytes) -> list[tuple[str, str, bytes]]:
    """Return the requests that h11 finds, which was written from the RFC's grammar."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[tuple[str, str, bytes]] = []
    head: Any = None
    body = b""
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((head.method.decode(), head.target.decode("latin-1"), body))
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if h11.MUST_CLOSE in (connection.our_state, connection.their_state):
                    break
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        pass
    return found


def allowed_readings(data: bytes) -> list[bytes]:
    """What a request may be taken for beyond the grammar: RFC 9112 2.2 lets a server skip empty lines before a request
    line (llhttp also takes a bare CR or LF for one), 3 lets it take several spaces in that line for one."""
    readings = [data, data.lstrip(b"\r\n"), re.sub(rb"^[^\r\n]*", lambda line: re.sub(b" +", b" ", line[0]), data)]
    return readings + [data[:end] for end in range(len(data), len(data.rstrip(b"\r\n")) - 1, -1)]


GOOD = {
    "no body": b"GET /p?q=1 HTTP/1.1\r\nHost: a\r\nX: a b\r\n\r\n",
    "length": b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    "chunks": b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n0\r\nT: u\r\n\r\n",
}
OCTETS = [
    b"\0", b"\n", b"\r", b"\r\n", b"\x0b", b"\x0c", b"\x1c", b"\x7f", b"\x85", b"\xff", b" ", b"\t", b":", b";", b",",
    b'"', b"-", b"+", b"0", b"x", b"_", b"\r\n ", b"\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("good", GOOD)
def test_with_any_octet_put_anywhere_we_find_no_request_that_the_grammar_does_not(good: str) -> None:
    """Request smuggling: what stands behind is served only where another reader finds it, too. Whole, and byte by
    byte."""
    text = GOOD[good]
    for place in range(len(text) + 1):
        for octet in OCTETS:
            for data in (text[:place] + octet + text[place:], text[:place] + octet + text[place + 1 :]):
                ours = fed(data + SMUGGLED)
                assert ours == fed(data + SMUGGLED, 1), data
                if ours:
                    theirs = [read_by_h11(reading + SMUGGLED) for reading in allowed_readings(data)]
                    assert any(ours == each[: len(ours)] for each in theirs), data


def test_the_server_refuses_each_malformed_request_byte_by_byte() -> None:
    """The whole way, of which the parser is a part; on one poller: none of it depends on which."""
    served: list[str] = []

    def answer(request: HTTPServerRequest) -> None:
        served.append(request.uri)
        request.connection.respond(body=b"good")

    async def main() -> None:
        for name, (status, data) in MALFORMED.items():
            client = await web.connect(server)
            step = max(1, len(data) // 300)
            try:
                for start in range(0, len(data), step):
                    await client.send(data[start : start + step])
                    await asyncio.sleep(0)  # the server reads
                await client.send(SMUGGLED)
                client.end()
            except OSError:
                pass  # it has closed
            refused = await client.answer()
            assert refused.status == status or (status == 0 and refused.status in (400, 501)), name
            assert await client.rest() == b"", name
            client.close()
            assert served == [], name

    loop = IOLoop(make_current=False)
    loop.make_current()
    web = Web(loop)
    try:
        server = web.serve(answer, **LIMITS)
        web.run(main())
    finally:
        web.close()
        IOLoop.clear_current()


def test_repeated_fields_take_linear_work() -> None:
    """Quadratic, this would take minutes, which the timeout of the tests cuts off."""
    count = 300_000
    headers = HTTPHeaders.from_raw(tuple([(b"x", b"y")] * count))
    assert headers["X"] == ",".join("y" * count)
    assert len(headers.get_list("x")) == count
    added = HTTPHeaders()
    for _ in range(count):
        added.add("X", "y")
    assert len(list(added.get_all())) == count
    parsed = HTTPHeaders.parse("X: y\r\n" * 100_000)
    assert len(parsed.get_list("x")) == 100_000


def test_a_body_that_is_dropped_is_not_inflated() -> None:
    """Nobody wants it: it is not worth the work, and a bomb stays what it is."""
    import gzip

    bomb = gzip.compress(bytes(50_000_000))
    parser = RequestParser(Limits(body_size=100_000), lambda request: True, True)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    parser.feed(head)
    request = parser.requests.popleft()
    parser.skip_body()
    for start in range(0, len(bomb), 1000):
        parser.feed(bomb[start : start + 1000])
    assert request.incoming == []
    assert parser.skipped == len(bomb) or parser.idle
    parser.feed(SMUGGLED)
    assert [each.uri for each in parser.requests] == ["/smuggled"], "and HTTP goes on behind it"
