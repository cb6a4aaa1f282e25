"""`AsyncTestCase` and its kin: Tornado's names for tests by unittest (tornado.testing). Those with an HTTP server are
in `pollux_web.testing`.

Each test has a loop of its own, `self.io_loop`, current while it runs. What a callback raises within a test is the
test's failure, and ends its `wait`, as in Tornado up to 5; Tornado 6 logs it, and lets the test wait until its time is
over.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import re
import socket
import sys
import unittest
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from pollux import gen
from pollux.ioloop import IOLoop
from pollux.log import app_log
from pollux.netutil import bind_sockets
from pollux.stack_context import ExceptionStackContext

Test = TypeVar("Test", bound=Callable[..., Any])

DEFAULT_TIMEOUT = 5.0  # seconds, Tornado's


def get_async_test_timeout() -> float:
    """Return the seconds that a test may wait: ASYNC_TEST_TIMEOUT in the environment, else 5.

    :raises ValueError: that is no number.
    """
    return float(os.environ.get("ASYNC_TEST_TIMEOUT", DEFAULT_TIMEOUT))


def bind_unused_port(reuse_port: bool = False, address: str = "127.0.0.1") -> tuple[socket.socket, int]:
    """Return a listening socket and its port, a free one.

    :param address: an IPv4 address.
    """
    (sock,) = bind_sockets(0, address, family=socket.AF_INET, reuse_port=reuse_port)
    return sock, sock.getsockname()[1]


class AsyncTestCase(unittest.TestCase):
    """A test on a loop of its own. Decorate coroutines with `gen_test`; or call `self.wait()`, and `self.stop` from a
    callback.

    :ivar io_loop: the loop.
    """

    def __init__(self, methodName: str = "runTest") -> None:  # noqa: N803  # unittest's
        super().__init__(methodName)
        self._running = False
        self._stopped = False
        self._answer: Any = None
        self._failure: BaseException | None = None
        self._own_loop = False

    def setUp(self) -> None:
        """Make the loop."""
        super().setUp()
        before = IOLoop.current(instance=False)
        self.io_loop = self.get_new_ioloop()
        self._own_loop = self.io_loop is not before
        self.io_loop.make_current()

    def tearDown(self) -> None:
        """Cancel what still runs, and close the loop with all that it watches, unless it was there before the test."""
        tasks = asyncio.all_tasks(self.io_loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.io_loop.run_until_complete(asyncio.wait(tasks))
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    self._failure = self._failure or error
        if self._own_loop:
            IOLoop.clear_current()
            self.io_loop.close(all_fds=True)
        super().tearDown()
        self._raise_failure()

    def get_new_ioloop(self) -> IOLoop:
        """Return the loop for a test. Override it for another poller, or to return `IOLoop.current()`."""
        return IOLoop(make_current=False)

    def _callTestMethod(self, method: Callable[[], Any]) -> None:  # noqa: N802  # unittest's: what calls a test
        result: Any = None
        raised: BaseException | None = None
        with ExceptionStackContext(self._take_exception):
            try:
                result = method()
            except BaseException as error:
                raised = error  # the test's own: it is none that a callback has raised
        if raised is not None:
            raise raised
        if inspect.iscoroutine(result):
            result.close()
        if result is not None and (inspect.isawaitable(result) or inspect.isgenerator(result)):
            raise TypeError(f"{self.id()} is a coroutine: decorate it with gen_test")
        if result is not None:
            raise ValueError(f"a test returns None, {self.id()} has returned {result!r}")

    def _take_exception(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> bool:
        """End the test with what a callback has raised."""
        if not isinstance(error, Exception):
            return False  # KeyboardInterrupt and the like
        if self._failure is None:
            self._failure = error
        else:
            app_log.error("multiple unhandled exceptions in test", exc_info=(kind, error, traceback))
        self.stop()
        return True

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self, _arg: Any = None, **kwargs: Any) -> None:
        """End `wait`, this one or the next, which returns the argument, or the keyword arguments as a dict."""
        self._answer = kwargs or _arg
        if self._running:
            self.io_loop.stop()
            self._running = False
        self._stopped = True

    def wait(self, condition: Callable[[], bool] | None = None, timeout: float | None = None) -> Any:
        """Run the loop until `stop` is called; return what it was given.

        :param condition: run on until it is true, too.
        :param timeout: seconds; None for `get_async_test_timeout`.
        :raises AssertionError: the time is over.
        """
        if timeout is None:
            timeout = get_async_test_timeout()
        timer = None
        if not self._stopped and timeout:

            def give_up() -> None:
                self._failure = self.failureException(f"Async operation timed out after {timeout} seconds")
                self.stop()

            timer = self.io_loop.call_later(timeout, give_up)
        while not self._stopped or (condition is not None and not condition()):
            self._stopped = False
            self._running = True
            self.io_loop.start()
            if self._failure is not None:
                break
        if timer is not None:
            self.io_loop.remove_timeout(timer)
        self._stopped = self._running = False
        self._raise_failure()
        answer, self._answer = self._answer, None
        return answer


@overload
def gen_test(func: Test) -> Test: ...
@overload
def gen_test(func: None = None, timeout: float | None = None) -> Callable[[Test], Test]: ...
def gen_test(func: Any = None, timeout: float | None = None) -> Any:
    """Decorate a test that is a coroutine, made of a generator or by `async def`: it is run to its end.

    :param timeout: seconds; None for `get_async_test_timeout`.
    :raises TimeoutError: from the test: the time is over.
    """

    def decorate(func: Callable[..., Any]) -> Callable[..., None]:
        is_generator = inspect.isgeneratorfunction(func)
        coroutine: Callable[..., Any] = gen.coroutine(func) if is_generator else func

        @functools.wraps(func)
        def test(self: AsyncTestCase, *args: Any, **kwargs: Any) -> None:
            limit = get_async_test_timeout() if timeout is None else timeout
            self.io_loop.run_sync(functools.partial(coroutine, self, *args, **kwargs), timeout=limit)

        return test

    return decorate if func is None else decorate(func)


class ExpectLog(logging.Filter):
    """A block that is to log something, which is then not shown.

    .. code-block:: python

        with ExpectLog("pollux.application", "Uncaught exception"):
            self.fetch("/fails")

    :param logger: or its name; "" for the root logger.
    :param regex: what the beginning of the message matches.
    :param required: it is an error if it is not logged.
    :param level: it has to be of this level; others are shown.
    :ivar matched: whether it was logged.
    :ivar logged_stack: whether a record with a traceback was logged, and matched.
    """

    def __init__(
        self, logger: logging.Logger | str, regex: str, required: bool = True, level: int | None = None
    ) -> None:
        super().__init__()
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self.regex = re.compile(regex)
        self.required = required
        self.level = level
        self.matched = False
        self.logged_stack = False
        self._level_before: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for what was expected."""
        if record.exc_info:
            self.logged_stack = True
        if not self.regex.match(record.getMessage()):
            return True
        if self.level is not None and record.levelno != self.level:
            app_log.warning("%r is logged at %s, not at the level expected", record.getMessage(), record.levelname)
            return True
        self.matched = True
        return False

    def __enter__(self) -> Self:
        if self.level is not None and self.level < self.logger.getEffectiveLevel():
            self._level_before = self.logger.level
            self.logger.setLevel(self.level)
        self.logger.addFilter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._level_before is not None:
            self.logger.setLevel(self._level_before)
        self.logger.removeFilter(self)
        if kind is None and self.required and not self.matched:
            raise AssertionError(f"nothing was logged to {self.logger.name!r} that matches {self.regex.pattern!r}")


def setup_with_context_manager(testcase: unittest.TestCase, cm: Any) -> Any:
    """Enter a context manager in `setUp`, to be left after the test; return what it gives."""
    return testcase.enterContext(cm)


def main(**kwargs: Any) -> None:
    """Run the tests of the program that is run: all, or those that the command line names. It takes Tornado's options,
    too: `--logging=debug`.

    :param kwargs: for `unittest.main`.
    """
    from pollux.options import define, options, parse_command_line

    for name in ("verbose", "quiet", "failfast"):
        if name not in options:
            define(name, type=bool)
    names = parse_command_line(sys.argv)
    settings: dict[str, Any] = {"argv": [sys.argv[0], *names], "failfast": bool(options.failfast)}
    settings["verbosity"] = 2 if options.verbose else 0 if options.quiet else 1
    if not names and hasattr(sys.modules["__main__"], "all"):
        settings["defaultTest"] = "all"  # Tornado's word for a function that returns the suite
    unittest.main(**{**settings, **kwargs})
