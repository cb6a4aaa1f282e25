"""`examples/0a_async_callback.py` on every backend, and with nobody there to answer."""

from __future__ import annotations

import ast

import pytest

from pollux.testing.descriptors import refusing_address
from tests.examples.programs import output
from tests.reactor.loops import BACKENDS

PAGE = b"One loop,\nany poller,\nno thread.\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_page_is_shown_as_it_comes(backend: str) -> None:
    """How the pieces are cut is the network's business."""
    head, *pieces, end = output(backend, "0a_async_callback.py")
    assert head == "head: HTTP/1.0 200 OK"
    assert b"".join(ast.literal_eval(line.removeprefix("piece: ")) for line in pieces) == PAGE
    assert end == "that was all"


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_answers(backend: str) -> None:
    with refusing_address() as (host, port):
        (line,) = output(backend, "0a_async_callback.py", host, str(port))
    assert line.startswith("failed: ")
    assert "refused" in line
