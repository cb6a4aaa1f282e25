"""Resolvers: from a host name to the addresses to connect to. Also importable from `pollux.netutil`, as in Tornado.

What the outside world fixes
----------------------------
* getaddrinfo(3) blocks, for as long as the name servers take, and cannot be interrupted. So it runs in a thread; a
  caller that is cancelled or gives up leaves the thread to end by itself.
* A numeric address needs no name server: with AI_NUMERICHOST getaddrinfo(3) never asks one.

What was decided
----------------
* Numeric addresses are answered at once, without a thread, by all resolvers but `OverrideResolver`: an executor full of
  slow work must not hold up a connect to 127.0.0.1.
* None caches: how long a name may be kept is known to the system's resolver only, which has a cache of its own.
* `Resolver()` makes an instance of the configured class, as Tornado's `Configurable` has it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from pollux.ioloop import IOLoop

Addresses = list[tuple[int, Any]]  # (family, what socket.connect takes)
Override = str | tuple[str, int]
_R = TypeVar("_R", bound="Resolver")


class Resolver:
    """The interface, and the maker of the configured implementation: `Resolver()` is a `DefaultLoopResolver` unless
    `configure` has said otherwise.

    A subclass overrides `resolve`, and `initialize` in place of `__init__` if it takes arguments. `io_loop`, an
    argument of all up to Tornado 4, is dropped: names are resolved in the current loop.
    """

    _configured: ClassVar[tuple[type[Resolver] | None, dict[str, Any]]] = (None, {})

    def __new__(cls: type[_R], *args: Any, **kwargs: Any) -> _R:
        """Make an instance of `cls`, or of the configured class if `cls` is `Resolver` itself."""
        made: type[Any] = cls
        if cls is Resolver:
            configured, options = Resolver._configured
            made = configured or DefaultLoopResolver
            kwargs = {**options, **kwargs}
        kwargs.pop("io_loop", None)
        instance: _R = object.__new__(made)
        instance.initialize(*args, **kwargs)
        return instance

    def initialize(self) -> None:
        """Take the arguments of the constructor."""

    @staticmethod
    def configure(impl: str | type[Resolver] | None, **kwargs: Any) -> None:
        """Choose what `Resolver()` makes from now on, and with which arguments.

        :param impl: a subclass, or its dotted name ("pollux.netutil.ThreadedResolver"); None means the default.
        :raises TypeError: it is no subclass of `Resolver`.
        :raises ImportError: there is nothing of this name.
        """
        if isinstance(impl, str):
            module, _, name = impl.rpartition(".")
            try:
                impl = getattr(import_module(module), name)
            except (AttributeError, ValueError):
                raise ImportError(f"there is no resolver {impl!r}: expected the dotted name of a class") from None
        if impl is not None and not (isinstance(impl, type) and issubclass(impl, Resolver)):
            raise TypeError(
                f"Resolver.configure: expected a subclass of Resolver, its dotted name or None, got {impl!r}"
            )
        Resolver._configured = (impl, kwargs)

    @staticmethod
    def configured_class() -> type[Resolver]:
        """Return the class that `Resolver()` makes."""
        return Resolver._configured[0] or DefaultLoopResolver

    def resolve(
        self,
        host: str,
        port: int,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        callback: Callable[[Addresses], Any] | None = None,
    ) -> Awaitable[Addresses]:
        """Resolve `host`, a name or a numeric address.

        :param callback: called in the loop with the result; an error is then logged by the loop.
        :returns: an awaitable of a list of `(family, address)`, in the order in which they should be tried (RFC 6724);
            address is what `socket.connect` takes.
        :raises OSError: from the awaitable; mostly its subclass `socket.gaierror`: the name does not resolve.
        """
        future = asyncio.ensure_future(self._resolve(host, port, family), loop=IOLoop.current())
        if callback is not None:
            IOLoop.current().add_future(future, lambda done: callback(done.result()))
        return future

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        raise NotImplementedError("override Resolver.resolve(host, port, family)")

    def close(self) -> None:
        """Release what the resolver holds; it is not used afterwards."""


class BlockingResolver(Resolver):
    """Resolves in the loop's own thread: the loop stands still meanwhile. For programs that know why."""

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        return _numeric(host, port, family) or _look_up(host, port, family)


class ExecutorResolver(Resolver):
    """Resolves in an executor.

    :param executor: a `concurrent.futures.Executor`; None resolves in the loop's thread, as in Tornado.
    :param close_executor: shut it down with the resolver.
    """

    executor: concurrent.futures.Executor | None

    def initialize(self, executor: concurrent.futures.Executor | None = None, close_executor: bool = True) -> None:
        """Take the arguments of the constructor."""
        self.executor = executor
        self.close_executor = close_executor and executor is not None

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        if addresses := _numeric(host, port, family):
            return addresses
        if self.executor is None:
            return _look_up(host, port, family)
        return await IOLoop.current().run_in_executor(self.executor, _look_up, host, port, family)

    def close(self) -> None:
        """Shut the executor down, unless `close_executor` is false. What still resolves goes on to its end."""
        if self.close_executor and self.executor is not None:
            self.executor.shutdown(wait=False)


class ThreadedResolver(ExecutorResolver):
    """Resolves in threads of its own, shared by all resolvers of this class.

    :param num_threads: how many; that of the first one made counts.
    """

    _pool: ClassVar[tuple[int, concurrent.futures.Executor] | None] = None

    def initialize(self, num_threads: int = 10) -> None:  # type: ignore[override]  # Tornado's signature
        """Take the arguments of the constructor."""
        pool = ThreadedResolver._pool
        if pool is None or pool[0] != os.getpid():  # threads do not survive a fork
            pool = os.getpid(), concurrent.futures.ThreadPoolExecutor(num_threads, thread_name_prefix="resolver")
            ThreadedResolver._pool = pool
        super().initialize(pool[1], close_executor=False)


class DefaultLoopResolver(Resolver):
    """Resolves in the loop's default executor. The default."""

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        if addresses := _numeric(host, port, family):
            return addresses
        return await IOLoop.current().run_in_executor(None, _look_up, host, port, family)


class DefaultExecutorResolver(DefaultLoopResolver):
    """Another of Tornado's names for the same: asyncio's `getaddrinfo` is a call in the default executor."""


class OverrideResolver(Resolver):
    """Changes names before another resolver sees them: for tests and odd networks.

    :param resolver: the one that resolves.
    :param mapping: from a host name, a `(host, port)` or a `(host, port, family)` to a host name, or to a
        `(host, port)` where the key has a port. The most exact key counts.
    """

    resolver: Resolver
    mapping: Mapping[Any, Override]

    def initialize(self, resolver: Resolver, mapping: Mapping[Any, Override]) -> None:  # type: ignore[override]
        """Take the arguments of the constructor."""
        self.resolver = resolver
        self.mapping = mapping

    async def _resolve(self, host: str, port: int, family: int) -> Addresses:
        for key in ((host, port, family), (host, port), host):
            if key in self.mapping:
                target = self.mapping[key]
                host, port = (target, port) if isinstance(target, str) else target
                break
        return await self.resolver.resolve(host, port, socket.AddressFamily(family))

    def close(self) -> None:
        """Close the resolver within."""
        self.resolver.close()


def _look_up(host: str, port: int, family: int) -> Addresses:
    """Ask getaddrinfo(3), which may block."""
    if not is_port(port):
        raise socket.gaierror(socket.EAI_SERVICE, f"cannot resolve {host!r}: a port is 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"cannot resolve {host!r}: {error.strerror}") from None
    except ValueError as error:  # UnicodeError: the IDNA codec; or a null byte
        raise socket.gaierror(socket.EAI_NONAME, f"cannot resolve {host!r}: it is no host name ({error})") from None
    return [(info[0], info[4]) for info in found]


def _numeric(host: str, port: int, family: int) -> Addresses | None:
    """Resolve a numeric address without a name server; None if `host` is not one of `family`."""
    if not is_port(port):
        return None
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags)
    except (OSError, ValueError):
        return None
    return [(info[0], info[4]) for info in found]


def is_port(port: int | str) -> bool:
    """Return whether there is such a port. getaddrinfo(3) only looks at the lower 16 bits; names it looks up itself."""
    return not isinstance(port, int) or 0 <= port <= 0xFFFF
