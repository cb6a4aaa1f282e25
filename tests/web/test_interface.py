"""Which interface an application speaks, by its signature."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from pollux_http.asgi import ASGIAdapter
from pollux_http.hosting import hosted
from pollux_http.interface import InterfaceError, interface_of
from pollux_http.wsgi import WSGIContainer
from pollux_web import Application


class Instance:
    """Called as ASGI and Starlette are."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WSGIInstance:
    """Called as Flask is."""

    def __call__(self, environ: Any, start_response: Any) -> Any: ...

    def bound(self, environ: Any, start_response: Any) -> Any: ...

    async def bound_asgi(self, scope: Any, receive: Any, send: Any) -> None: ...


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


async def anything_async(*args: Any) -> None: ...


def asgi_by_hand(scope: Any, receive: Any, send: Any) -> Any: ...


def wsgi(environ: Any, start_response: Any, more: int = 1) -> Any: ...


def plain_wsgi(environ: Any, start_response: Any) -> Any: ...


def callback(request: Any) -> None: ...


def anything(*args: Any) -> None: ...


def none() -> None: ...


async def one(scope: Any) -> None: ...


GOOD = [
    (Application(), "pollux"), (callback, "pollux"), (lambda request: None, "pollux"),
    (asgi, "asgi"), (Instance(), "asgi"), (Instance().__call__, "asgi"), (asgi_by_hand, "asgi"),
    (anything_async, "asgi"), (functools.partial(asgi), "asgi"), (WSGIInstance().bound_asgi, "asgi"),
    (functools.partial(lambda more, scope, receive, send: None, 1), "asgi"),
    (plain_wsgi, "wsgi"), (WSGIInstance(), "wsgi"), (WSGIInstance().bound, "wsgi"),
]  # fmt: skip


@pytest.mark.parametrize(("application", "kind"), GOOD)
def test_the_signature_tells(application: Any, kind: str) -> None:
    assert interface_of(application) == kind


@pytest.mark.parametrize(
    ("application", "words"),
    [
        (5, "cannot be called: got int"), (None, "got NoneType"), (Instance, "is no application but a class"),
        (one, "no application: expected"), (none, "no application: expected"),
        (anything, "fits pollux and wsgi and asgi"),
        (wsgi, "fits wsgi and asgi: say which it is, as in interface='asgi' or --interface asgi"),
        (dict.fromkeys, "say of which interface"), (min, "say of which interface"),
    ],
)  # fmt: skip
def test_what_it_does_not_tell_is_an_error(application: Any, words: str) -> None:
    with pytest.raises(InterfaceError) as raised:
        interface_of(application)
    assert words in str(raised.value) or ("say which" in str(raised.value) and "say of" in words)


def test_the_operators_word_counts() -> None:
    assert interface_of(wsgi, "wsgi") == "wsgi"
    assert interface_of(anything, "asgi") == "asgi"
    with pytest.raises(InterfaceError, match="there is no interface 'cgi'"):
        interface_of(wsgi, "cgi")


def test_hosted() -> None:
    application = Application()
    assert hosted(application) is application
    assert type(hosted(asgi)) is ASGIAdapter
    container = hosted(plain_wsgi, wsgi_threads=1, root_path="/x")
    assert type(container) is WSGIContainer
    assert container.root_path == "/x"
