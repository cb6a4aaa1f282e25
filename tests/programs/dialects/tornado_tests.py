"""Tests as programs of Tornado have them, by unittest: some pass, some fail on purpose. Run on Tornado and on us; FROM
stands for the modules.
"""
# ruff: noqa: PT009, PT027

import asyncio
import logging
import unittest
from typing import Any

from FROM.gen import coroutine, sleep  # type: ignore[import-not-found]
from FROM.ioloop import IOLoop  # type: ignore[import-not-found]
from FROM.log import app_log  # type: ignore[import-not-found]
from FROM.testing import AsyncTestCase, ExpectLog, bind_unused_port, gen_test, main  # type: ignore[import-not-found]
from FROM_WEB import Application, RequestHandler  # type: ignore[import-not-found]
from FROM_WEB_TESTING import AsyncHTTPSTestCase, AsyncHTTPTestCase  # type: ignore[import-not-found]


class Hello(RequestHandler):  # type: ignore[misc]
    def get(self) -> None:
        if self.get_argument("fail", None):
            raise ValueError("on purpose")
        self.write(f"hello {self.request.protocol}")

    async def post(self) -> None:
        await asyncio.sleep(0)
        self.write(self.request.body)


class Site:
    def get_app(self) -> Any:
        return Application([("/", Hello)])

    def test_fetch(self: Any) -> None:
        response = self.fetch("/")
        self.assertEqual((response.code, response.body), (200, f"hello {self.get_protocol()}".encode()))
        self.assertEqual(self.fetch("/", method="POST", body="data").body, b"data")
        self.assertEqual(self.fetch("/nowhere").code, 404)
        self.assertEqual(self.fetch(self.get_url("/")).code, 200)

    def test_errors(self: Any) -> None:
        with ExpectLog(app_log, "Uncaught exception") as log:
            self.assertEqual(self.fetch("/?fail=1").code, 500)
        self.assertTrue(log.logged_stack)
        with self.assertRaises(Exception) as caught:
            self.fetch("/nowhere", raise_error=True)
        self.assertEqual(caught.exception.code, 404)

    @gen_test  # type: ignore[untyped-decorator]
    def test_client(self: Any) -> Any:
        response = yield self.http_client.fetch(self.get_url("/"))
        self.assertEqual(response.code, 200)


class PlainSite(Site, AsyncHTTPTestCase):  # type: ignore[misc]
    pass


class SecureSite(Site, AsyncHTTPSTestCase):  # type: ignore[misc]
    pass


class Waiting(AsyncTestCase):  # type: ignore[misc]
    def test_wait(self) -> None:
        self.io_loop.add_callback(self.stop, 5)
        self.assertEqual(self.wait(), 5)
        self.stop(a=1, b=2)
        self.assertEqual(self.wait(), {"a": 1, "b": 2})
        self.assertIs(IOLoop.current(), self.io_loop)

    def test_condition(self) -> None:
        seen: list[int] = []

        def step() -> None:
            seen.append(1)
            self.stop(len(seen))
            self.io_loop.add_callback(step)

        self.io_loop.add_callback(step)
        self.assertGreaterEqual(self.wait(condition=lambda: len(seen) >= 3), 3)

    def test_time_is_over(self) -> None:
        with self.assertRaisesRegex(self.failureException, "timed out after 0.01 seconds"):
            self.wait(timeout=0.01)

    @gen_test  # type: ignore[untyped-decorator]
    def test_generator(self) -> Any:
        yield sleep(0)
        value = yield self.double(2)
        self.assertEqual(value, 4)

    @coroutine  # type: ignore[untyped-decorator]
    def double(self, value: int) -> Any:
        yield sleep(0)
        return 2 * value

    @gen_test(timeout=20)  # type: ignore[untyped-decorator]
    async def test_native(self) -> None:
        await asyncio.sleep(0)

    @gen_test(timeout=0.01)  # type: ignore[untyped-decorator]
    async def test_fails_late(self) -> None:
        await asyncio.get_running_loop().create_future()

    @gen_test  # type: ignore[untyped-decorator]
    async def test_fails(self) -> None:
        await asyncio.sleep(0)
        self.assertEqual(1, 2)

    async def test_fails_undecorated(self) -> None:
        pass

    def test_fails_with_what_it_returns(self) -> Any:
        return 5

    @unittest.skip("not now")
    def test_skipped(self) -> None:
        pass

    @unittest.expectedFailure
    @gen_test  # type: ignore[untyped-decorator]
    async def test_expected(self) -> None:
        self.assertEqual(1, 2)

    def test_leaves_a_task(self) -> None:
        async def forever() -> None:
            await asyncio.get_running_loop().create_future()

        self.io_loop.add_callback(forever)
        self.io_loop.add_callback(self.stop)
        self.wait()

    def test_ports(self) -> None:
        first, second = bind_unused_port(), bind_unused_port()
        self.assertNotEqual(first[1], second[1])
        for sock, port in (first, second):
            self.assertEqual(sock.getsockname(), ("127.0.0.1", port))
            sock.close()


class Logging(unittest.TestCase):
    def test_expected(self) -> None:
        logger = logging.getLogger("own")
        with ExpectLog("own", "a message .*") as log:
            logger.error("a message with %s", "arguments")
        self.assertTrue(log.matched)
        with ExpectLog("own", "never", required=False) as log:
            logger.error("something else")
        self.assertFalse(log.matched)
        with ExpectLog(logger, "quiet", level=logging.DEBUG):
            logger.debug("quiet")

    def test_fails_without_a_log(self) -> None:
        with ExpectLog("own", "never"):
            pass


if __name__ == "__main__":
    main()
