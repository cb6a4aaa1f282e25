"""`RequestHandler` over real sockets: what each of its methods puts on the wire, and what is logged.

One file past 500 lines, because `RequestHandler` is one class and its methods share one small set of fixtures.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import logging
from typing import Any

import pytest

from pollux.iostream import StreamClosedError
from pollux_web import Application, ErrorHandler, HTTPError, MissingArgumentError, RequestHandler
from tests.web.client import Answer, Client, Web, get, post


def ask(web: Web, handler: type[RequestHandler], *requests: bytes, **settings: Any) -> list[Answer]:
    """Serve `handler` for every path and return its answers, on one connection."""
    server = web.serve(Application([(".*", handler)], **settings))

    async def main() -> list[Answer]:
        client = await web.connect(server)
        return [await client.ask(data, data.partition(b" ")[0].decode()) for data in requests or [get()]]

    return web.run(main())


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


METHODS = ["GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS"]


@pytest.mark.parametrize("suspends", [None, False, True])
def test_every_method(web: Web, suspends: bool | None) -> None:
    def respond(self: RequestHandler) -> None:
        self.set_header("X-Method", self.request.method)
        self.write(self.request.method)

    async def respond_later(self: RequestHandler) -> None:
        if suspends:
            await asyncio.sleep(0)
        respond(self)

    answer = respond if suspends is None else respond_later
    handler = type("All", (RequestHandler,), {method.lower(): answer for method in METHODS})
    for method, found in zip(METHODS, ask(web, handler, *[get(method=method) for method in METHODS]), strict=True):
        assert (found.status, found.one("X-Method")) == (200, method)
        assert found.body == (b"" if method == "HEAD" else method.encode())
        assert found.one("Content-Length") == str(len(method))


def test_a_method_that_is_not_there(web: Web) -> None:
    requests = [get(method=method) for method in [*METHODS, "TRACE", "PROPFIND"]]
    assert [found.status for found in ask(web, RequestHandler, *requests)] == [405] * len(requests)


@pytest.mark.parametrize("suspends", [False, True])
def test_prepare_comes_first_and_may_finish(web: Web, suspends: bool) -> None:
    order: list[str] = []

    class Prepared(RequestHandler):
        def initialize(self) -> None:
            order.append("initialize")

        def prepare(self) -> Any:
            order.append("prepare")
            return self.later() if suspends else self.now()

        def now(self) -> None:
            if self.request.path == "/early":
                self.finish("early")
            elif self.request.path == "/refuse":
                raise HTTPError(403)

        async def later(self) -> None:
            await asyncio.sleep(0)
            self.now()

        async def get(self) -> None:
            order.append("get")
            self.write("got")

        def on_finish(self) -> None:
            order.append("on_finish")

    answers = ask(web, Prepared, get(), get("/early"), get("/refuse"))
    assert [(found.status, found.body[:5]) for found in answers] == [(200, b"got"), (200, b"early"), (403, b"<html")]
    start, end = ["initialize", "prepare"], ["on_finish"]
    assert order == [*start, "get", *end, *start, *end, *start, *end]


def test_initialize_and_path_groups(web: Web) -> None:
    class Show(RequestHandler):
        def initialize(self, word: str = "none") -> None:
            self.word = word

        def get(self, *args: Any, **kwargs: Any) -> None:
            self.write(json.dumps([self.word, args, kwargs]))

    routes = [
        ("/plain", Show), ("/word", Show, {"word": "given"}), (r"/two/(\w+)/([^/]*)", Show, {"word": "w"}),
        (r"/named/(?P<first>[^/]+)/(?P<second>.*)", Show), (r"/maybe(/x)?", Show),
    ]  # fmt: skip
    server = web.serve(Application(routes))

    async def main() -> None:
        client = await web.connect(server)
        for path, expected in {
            "/plain": ["none", [], {}],
            "/plain?a=b": ["none", [], {}],
            "/word": ["given", [], {}],
            "/two/a/b%20c%2Fd%C3%A9+": ["w", ["a", "b c/dé+"], {}],
            "/named/a%2fb/": ["none", [], {"first": "a/b", "second": ""}],
            "/maybe": ["none", [None], {}],
            "/maybe/x": ["none", ["/x"], {}],
        }.items():
            assert json.loads((await client.ask(get(path))).body) == expected, path

    web.run(main())


def test_what_can_be_written(web: Web) -> None:
    class Write(RequestHandler):
        def get(self) -> None:
            match self.request.path:
                case "/str":
                    self.write("é")
                case "/bytes":
                    self.write(b"\xff")
                    self.write(memoryview(b"\x00"))  # type: ignore[arg-type]  # taken as well
                case "/dict":
                    self.write({"a": "</script>"})
                case "/typed":
                    self.set_header("Content-Type", "x/y")
                    self.write({})
                case "/finish":
                    self.write("a")
                    self.finish("b")

    paths = ("/str", "/bytes", "/dict", "/typed", "/finish")
    str_, bytes_, dict_, typed, finish = ask(web, Write, *[get(path) for path in paths])
    assert (typed.body, typed.one("Content-Type")) == (b"{}", "application/json; charset=UTF-8")
    assert (str_.body, str_.one("Content-Length")) == ("é".encode(), "2")
    assert bytes_.body == b"\xff\x00"
    assert json.loads(dict_.body) == {"a": "</script>"}
    assert b"</" not in dict_.body
    assert dict_.one("Content-Type") == "application/json; charset=UTF-8"
    assert finish.body == b"ab"


@pytest.mark.parametrize("value", [["a"], 1, None, object(), ("a",), {"a": object()}])
def test_what_cannot_be_written(web: Web, caplog: pytest.LogCaptureFixture, value: Any) -> None:
    class Write(RequestHandler):
        def get(self) -> None:
            self.write(value)

    (answer,) = ask(web, Write)
    assert answer.status == 500
    assert "TypeError" in caplog.text


def test_after_finish_nothing_can_be_written(web: Web) -> None:
    refused: list[str] = []

    class Late(RequestHandler):
        def get(self) -> None:
            self.finish("done")
            with pytest.raises(RuntimeError) as error:
                self.write("x")
            refused.append(str(error.value))
            with pytest.raises(RuntimeError) as error:
                self.finish()
            refused.append(str(error.value))

    (answer,) = ask(web, Late)
    assert answer.body == b"done"
    assert refused == ["Cannot write() after finish()", "finish() called twice"]


def test_status_and_headers(web: Web) -> None:
    class Headers(RequestHandler):
        def set_default_headers(self) -> None:
            self.set_header("Server", "mine")

        def get(self) -> None:
            self.set_status(299, "Made up")
            assert self.get_status() == 299
            self.set_header("X-Int", 5)
            self.set_header("x-str", "a\tb\xe9")
            self.set_header("X-Bytes", b"\xe9")
            self.set_header("X-Date", datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC))
            self.add_header("X-Many", "1")
            self.add_header("x-many", "2")
            self.set_header("X-Gone", "x")
            self.clear_header("x-gone")
            self.clear_header("never")

    (answer,) = ask(web, Headers)
    assert answer[:2] == (299, "Made up")
    assert answer.one("Server") == "mine"
    assert answer.one("X-Int") == "5"
    assert answer.one("X-Str") == "a\tb\xe9"
    assert answer.one("X-Bytes") == "\xe9"
    assert answer.one("X-Date") == "Thu, 02 Jan 2020 03:04:05 GMT"
    assert answer.all("X-Many") == ["1", "2"]
    assert answer.one("X-Gone") is None


def test_clear(web: Web) -> None:
    class Clear(RequestHandler):
        def set_default_headers(self) -> None:
            self.set_header("X-Default", "kept")

        def get(self) -> None:
            self.write({"a": 1})
            self.set_status(404)
            self.set_header("X-Mine", "x")
            self.clear()
            self.write("new")

    (answer,) = ask(web, Clear)
    assert (answer.status, answer.body, answer.one("X-Mine"), answer.one("X-Default")) == (200, b"new", None, "kept")
    assert answer.one("Content-Type") == "text/html; charset=UTF-8"


@pytest.mark.parametrize("bad", ["a\r\nSet-Cookie: b", "a\n", "a\r", "\x00", "\x1b[2J", "\u65e5"])
def test_nothing_can_be_injected(web: Web, caplog: pytest.LogCaptureFixture, bad: str) -> None:
    """Response splitting, in reason or header. The fault is the server's: the client sees a 500 and nothing else."""
    refused: list[str] = []

    class Inject(RequestHandler):
        def get(self) -> None:
            for attempt in (
                lambda: self.set_header("X", bad), lambda: self.add_header("X", bad), lambda: self.set_status(200, bad),
                lambda: self.set_header(bad, "x"), lambda: HTTPError(400, reason=bad),
            ):  # fmt: skip
                with pytest.raises(ValueError, match=r"got"):
                    attempt()
                refused.append(bad)
            if self.request.path == "/header":
                self.set_header("X", bad)
            else:
                self.send_error(400, reason=bad)

    for answer in ask(web, Inject, get("/header"), get("/reason")):
        assert (answer.status, answer.reason) == (500, "Internal Server Error")
        assert answer.one("X") is answer.one("Set-Cookie") is None
    assert len(refused) == 10


@pytest.mark.parametrize("where", ["log_exception", "set_default_headers", "send_error"])
def test_no_request_hangs_when_its_error_handling_fails(web: Web, caplog: pytest.LogCaptureFixture, where: str) -> None:
    class Fails(RequestHandler):
        async def get(self) -> None:
            def fail(*_: object, **__: object) -> None:
                raise LookupError("in error handling")

            setattr(self, where, fail)
            await asyncio.sleep(0)
            raise ZeroDivisionError

    server = web.serve(Application([("/", Fails)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        assert await client.rest() == b""

    web.run(main())
    assert "Uncaught exception in error handling of GET '/'" in messages(caplog)


@pytest.mark.parametrize("suspends", [False, True])
def test_an_answer_that_cannot_be_sent_becomes_an_error(web: Web, suspends: bool) -> None:
    class Unsendable(RequestHandler):
        def get(self) -> Any:
            return self.later() if suspends else self.now()

        def now(self) -> None:
            self.set_status(201)
            self._reason = "a\r\nX: y"  # past the check of set_status
            self.write("never")

        async def later(self) -> None:
            await asyncio.sleep(0)
            self.now()

    for answer in ask(web, Unsendable, get(), post("/", b"x", method="GET")):
        assert (answer.status, answer.reason, answer.one("X")) == (500, "Internal Server Error", None)
        assert b"never" not in answer.body


@pytest.mark.parametrize("value", ["x", "-1", "+1", "1_0", "1, 1", ""])
def test_a_bad_content_length_becomes_an_error(web: Web, value: str) -> None:
    class Bad(RequestHandler):
        async def get(self) -> None:
            self.set_header("Content-Length", value)
            self.write("x")
            await self.flush()

    for answer in ask(web, Bad, get(), get()):
        assert (answer.status, answer.one("Content-Length")) == (500, str(len(answer.body)))


@pytest.mark.parametrize("suspends", [False, True])
def test_http_error(web: Web, caplog: pytest.LogCaptureFixture, suspends: bool) -> None:
    errors = {
        "/plain": HTTPError(404), "/message": HTTPError(400, "bad %s %d", "<x>", 5),
        "/reason": HTTPError(418, reason="<Tea>"),
        "/percent": HTTPError(400, "100% of %s"), "/missing": MissingArgumentError("50%s"),
    }  # fmt: skip

    class Raise(RequestHandler):
        async def later(self) -> None:
            await asyncio.sleep(0)
            raise errors[self.request.path]

        def get(self) -> Any:
            self.write("not sent")
            if suspends:
                return self.later()
            raise errors[self.request.path]

    caplog.set_level(logging.INFO)
    answers = dict(zip(errors, ask(web, Raise, *map(get, errors)), strict=True))
    assert [answers[path].status for path in errors] == [404, 400, 418, 400, 400]
    assert answers["/reason"].reason == "<Tea>"
    assert b"<Tea>" not in answers["/reason"].body  # HTML in an error page
    assert b"&lt;Tea&gt;" in answers["/reason"].body
    assert answers["/plain"].body == b"<html><title>404: Not Found</title><body>404: Not Found</body></html>"
    logged = messages(caplog)
    assert [line.partition("HTTP ")[2] for line in logged] == [
        "400: Bad Request (bad <x> 5)", "400: Bad Request (100% of %s)", "400: Bad Request (Missing argument 50%s)",
    ]  # fmt: skip
    assert all("127.0.0.1" in line for line in logged)


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("debug", [False, True])
def test_uncaught_exception(web: Web, caplog: pytest.LogCaptureFixture, suspends: bool, debug: bool) -> None:
    class Fail(RequestHandler):
        async def later(self) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError("secret")

        def get(self) -> Any:
            if suspends:
                return self.later()
            raise ZeroDivisionError("secret")

    answers = ask(web, Fail, get(), get(), debug=debug, autoreload=False)
    for answer in answers:
        assert (answer.status, answer.reason) == (500, "Internal Server Error")
        assert (b"secret" in answer.body) is debug
        assert answer.one("Content-Type") == ("text/plain; charset=UTF-8" if debug else "text/html; charset=UTF-8")
        assert answer.one("Connection") is None
    assert caplog.text.count("ZeroDivisionError: secret") == 2


def test_write_error(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    class Page(RequestHandler):
        def get(self) -> None:
            match self.request.path:
                case "/send":
                    self.send_error(410, reason="Left", extra=1)
                case "/raise":
                    raise HTTPError(409, reason="Clash")
                case "/broken":
                    raise HTTPError(502)

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            if status_code == 502:
                raise ZeroDivisionError("in write_error")
            self.write(f"{status_code} {self.get_status()} {sorted(kwargs)}")

    send, raised, broken = ask(web, Page, get("/send"), get("/raise"), get("/broken"))
    assert (send.status, send.reason, send.body) == (410, "Left", b"410 410 ['extra', 'reason']")
    assert (raised.status, raised.reason, raised.body) == (409, "Clash", b"409 409 ['exc_info']")
    assert (broken.status, broken.body) == (502, b"")
    assert "in write_error" in caplog.text


def test_streaming(web: Web) -> None:
    class Parts(RequestHandler):
        async def get(self) -> None:
            if self.request.path == "/known":
                self.set_header("Content-Length", "4")
            self.set_status(201)
            for part in ("ab", "cd"):
                self.write(part)
                self.flush()
                await asyncio.sleep(0)

        head = get

    chunked, known, head = ask(web, Parts, get(), get("/known"), get(method="HEAD"))
    assert (chunked.status, chunked.body, chunked.one("Transfer-Encoding")) == (201, b"abcd", "chunked")
    assert (known.body, known.one("Content-Length")) == (b"abcd", "4")
    assert head.body == b""


@pytest.mark.parametrize("how", ["raise", "send_error"])
@pytest.mark.parametrize("suspends", [False, True])
def test_an_error_after_the_head_cuts_the_connection(
    web: Web, caplog: pytest.LogCaptureFixture, how: str, suspends: bool
) -> None:
    finished: list[int] = []

    class Fail(RequestHandler):
        def get(self) -> Any:
            self.write("part")
            self.flush()
            if suspends:
                return self.later()
            return self.fail()

        def fail(self) -> None:
            if how == "raise":
                raise ZeroDivisionError
            self.send_error(500)

        async def later(self) -> None:
            await asyncio.sleep(0)
            self.fail()

        def on_finish(self) -> None:
            finished.append(self.get_status())

    server = web.serve(Application([("/", Fail)]))

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get())
        data = await client.rest()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"4\r\npart\r\n")

    web.run(main())
    assert "Cannot send error response after headers written" in messages(caplog)
    assert finished == [200]


def test_a_cancelled_handler(web: Web) -> None:
    class Cancelled(RequestHandler):
        async def get(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    assert [answer.status for answer in ask(web, Cancelled, get(), get())] == [503, 503]


@pytest.mark.parametrize("suspended_before", [False, True])
def test_a_handler_is_a_task_from_its_first_step(web: Web, suspended_before: bool) -> None:
    class Inside(RequestHandler):
        async def prepare(self) -> None:
            if suspended_before:
                await asyncio.sleep(0)

        async def get(self) -> None:
            assert asyncio.current_task() is not None
            async with asyncio.timeout(60):
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(asyncio.sleep(0, "slept"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            self.write(task.result())

    answers = ask(web, Inside, get(), get())
    assert [answer.body for answer in answers] == [b"slept"] * 2


def test_on_connection_close(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    gone = asyncio.Event()
    started = asyncio.Event()
    finished = asyncio.Event()

    class Wait(RequestHandler):
        async def get(self) -> None:
            started.set()
            await gone.wait()
            self.write("to nobody")

        def on_connection_close(self) -> None:
            gone.set()

        def on_finish(self) -> None:
            finished.set()

    server = web.serve(Application([("/", Wait)]))

    async def main() -> None:
        for leave in (Client.reset, Client.close):
            for event in (gone, started, finished):
                event.clear()
            client = await web.connect(server)
            await client.send(get())
            await started.wait()
            leave(client)
            await finished.wait()

    web.run(main())
    assert messages(caplog) == []


# Arguments


class Arguments(RequestHandler):
    def get(self) -> None:
        name = self.get_query_argument("name")
        self.write(
            json.dumps([self.get_argument(name), self.get_arguments(name), self.get_arguments(name, strip=False)])
        )

    def post(self) -> None:
        self.write(
            json.dumps(
                [self.get_query_arguments("a"), self.get_body_arguments("a"), self.get_arguments("a"),
                 self.get_argument("a"), self.get_argument("b", "default"), self.get_query_argument("b", None),
                 self.get_body_argument("b", 5)]
            )
        )  # fmt: skip


FORM = "Content-Type: application/x-www-form-urlencoded"


def test_arguments_of_the_query(web: Web) -> None:
    answers = ask(
        web, Arguments, get("/?name=a&a=+1+&a=%202%C3%A9"), get("/?name=b&b="), get("/?name=c&b=x"), get("/"),
        get("/?name=a&a=%ff"), get("/?name=a&a=%"),
    )  # fmt: skip
    assert [answer.status for answer in answers] == [200, 200, 400, 400, 400, 200]
    assert json.loads(answers[0].body) == ["2é", ["1", "2é"], [" 1 ", " 2é"]]
    assert json.loads(answers[1].body) == ["", [""], [""]]
    assert json.loads(answers[5].body) == ["%", ["%"], ["%"]]


def test_arguments_of_the_body(web: Web) -> None:
    form, typed, other = ask(
        web, Arguments, post("/?a=q", b"a=1&a=2+3&c=%C3%A9", FORM), post("/", b"a=1", FORM + "; charset=utf-8"),
        post("/?a=q", b"a=1", "Content-Type: text/plain"),
    )  # fmt: skip
    assert json.loads(form.body) == [["q"], ["1", "2 3"], ["q", "1", "2 3"], "2 3", "default", None, 5]
    assert json.loads(typed.body)[1] == ["1"]
    assert json.loads(other.body)[:4] == [["q"], [], ["q"], "q"]


@pytest.mark.parametrize("separator", ["&", "&a=&"])
def test_too_many_arguments(web: Web, caplog: pytest.LogCaptureFixture, separator: str) -> None:
    """Denial of service by many urlencoded fields."""
    many = separator.join("a=b" for _ in range(1001))
    exact = "&".join("a=b" for _ in range(999))
    answers = ask(
        web, Arguments, get("/?name=a&" + many), post("/", many.encode(), FORM), get("/?name=a&" + exact),
        post("/", exact.encode(), FORM),
    )  # fmt: skip
    assert [answer.status for answer in answers] == [400, 400, 200, 200]
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


# Application


def test_no_route(web: Web) -> None:
    class Mine(RequestHandler):
        def initialize(self, word: str) -> None:
            self.word = word

        def prepare(self) -> None:
            self.set_status(404)
            self.finish(self.word)

    def request(**settings: Any) -> Answer:
        server = web.serve(Application([("/there", RequestHandler)], **settings))
        return web.run(web.ask(server, get("/nowhere?x")))

    assert request().status == 404
    assert request(default_handler_class=Mine, default_handler_args={"word": "lost"}).body == b"lost"
    assert request(default_handler_class=ErrorHandler, default_handler_args={"status_code": 410}).status == 410


def test_add_handlers_and_settings(web: Web) -> None:
    class Show(RequestHandler):
        def get(self) -> None:
            self.write(self.settings["word"])

    application = Application(word="here")
    application.add_handlers(".*", [("/late", Show)])
    server = web.serve(application)
    assert web.run(web.ask(server, get("/late"))).body == b"here"


def test_listen(web: Web) -> None:
    server = Application().listen(0, "127.0.0.1", max_body_size=5)
    web.servers.append(server)
    assert web.run(web.ask(server, post("/", b"123456"))).status == 413


def test_access_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """Terminal escapes in the access log: what the client chose is no command to a terminal."""

    class Status(RequestHandler):
        def get(self) -> None:
            self.set_status(int(self.get_query_argument("s")))

    caplog.set_level(logging.INFO, "pollux.access")
    ask(web, Status, get("/?s=200"), get("/?s=404"), get("/?s=503"), access_log=True)
    found = [(record.levelname, record.getMessage().rpartition(" ")[0]) for record in caplog.records]
    assert found == [
        ("INFO", "200 GET /?s=200 (127.0.0.1)"), ("WARNING", "404 GET /?s=404 (127.0.0.1)"),
        ("ERROR", "503 GET /?s=503 (127.0.0.1)"),
    ]  # fmt: skip


def test_access_log_escapes_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    """The parser lets none through; the log does not rely on that."""
    from types import SimpleNamespace

    from pollux_http import HTTPServerRequest
    from pollux_web.application import log_request

    caplog.set_level(logging.INFO, "pollux.access")
    request = HTTPServerRequest("GET", "/\x1b[31m\r\n\x9b2J\x7f")
    request.connection = SimpleNamespace(address="")  # type: ignore[assignment]
    log_request(SimpleNamespace(request=request, get_status=lambda: 200))  # type: ignore[arg-type]
    assert r"/\x1b[31m\x0d\x0a\x9b2J\x7f" in caplog.records[0].getMessage()


def test_log_function(web: Web) -> None:
    logged: list[tuple[int, str]] = []

    def log(handler: RequestHandler) -> None:
        logged.append((handler.get_status(), handler.request.uri))

    ask(web, RequestHandler, get("/a"), get("/b"), log_function=log)
    assert logged == [(405, "/a"), (405, "/b")]


@pytest.mark.parametrize("request_", [get(), post("/", b"x"), get("/whole") + get()], ids=["fast", "body", "pipelined"])
def test_flush_waits_for_the_client(web: Web, request_: bytes) -> None:
    """What is unsent stays bounded, however much the handler has to send and however slowly the client reads."""
    most = parts = 0

    class Whole(RequestHandler):
        def get(self) -> None:
            self.write("whole")

    class Handler(RequestHandler):
        async def get(self) -> None:
            nonlocal most, parts
            for _ in range(200):
                self.write(b"x" * 100_000)
                await self.flush()
                parts += 1
                most = max(most, self.request.connection.stream.unsent)
            await self.finish()

        post = get

    server = web.serve(Application([("/", Handler), ("/whole", Whole)]))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(request_)
        for _ in range(300):
            await asyncio.sleep(0)
        assert 0 < parts < 200, "it did not wait"
        if b"whole" in request_:
            assert (await client.answer()).body == b"whole"
        assert len((await client.answer()).body) == 20_000_000

    web.run(main())
    assert most == 0


def test_flush_raises_when_the_client_goes_away(web: Web) -> None:
    class Handler(RequestHandler):
        async def get(self) -> None:
            try:
                while True:
                    self.write(b"x" * 1_000_000)
                    await self.flush()
            except StreamClosedError:
                ended.set()

    server = web.serve(Application([("/", Handler)]))
    ended = asyncio.Event()

    async def main() -> None:
        client = await web.connect(server)
        await client.send(get("/"))
        await client.exactly(100_000)
        client.reset()
        await ended.wait()

    web.run(main())


@pytest.mark.parametrize("asks_twice", [False, True])
def test_entity_tags_of_every_size(web: Web, asks_twice: bool) -> None:
    """Remembered, made anew, and none, with and without headers of one's own: what is sent is the same."""
    sizes = [0, 1, 1023, 1024, 1025, 64 * 1024, 64 * 1024 + 1, 300_000]

    class Sized(RequestHandler):
        def get(self) -> None:
            if self.get_argument("own", None):
                self.set_header("X-Own", "1")
            self.write("x" * int(self.get_argument("size")))

    requests = [get(f"/?size={size}{own}") for size in sizes for own in ("", "&own=1")] * (1 + asks_twice)
    expected = [size for size in sizes for _ in range(2)] * (1 + asks_twice)
    for size, found in zip(expected, ask(web, Sized, *requests), strict=True):
        assert found.body == b"x" * size
        digest = hashlib.sha1(found.body).hexdigest()
        assert found.one("Etag") == (f'"{digest}"' if size <= 64 * 1024 else None)
        assert found.one("Content-Length") == str(size)


def test_a_reason_of_ones_own_for_200(web: Web) -> None:
    class Handler(RequestHandler):
        def get(self) -> None:
            self.set_status(200, "Splendid")

    server = web.serve(Application([("/", Handler)]))

    async def main() -> None:
        client = await web.connect(server)
        assert (await client.ask(get("/"))).reason == "Splendid"

    web.run(main())
