"""`pollux.run`, `pollux.new_event_loop`, `pollux.Loop`; and that importing Pollux does nothing."""

import asyncio
import subprocess
import sys

import pytest

import pollux
from tests.reactor.loops import BACKENDS, usable


async def name_of_the_loop() -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, pollux.IOLoop)
    assert pollux.IOLoop.current() is loop
    return loop.backend.name


@pytest.mark.smoke
@pytest.mark.parametrize("name", BACKENDS)
def test_run_with_a_backend_by_name(name: str) -> None:
    usable(name)
    assert pollux.run(name_of_the_loop(), backend=name) == name
    assert pollux.IOLoop.current(instance=False) is None


def test_run_takes_the_environment_and_a_backend_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLUX_BACKEND", "select")
    assert pollux.run(name_of_the_loop()) == "select"
    assert pollux.run(name_of_the_loop(), backend=BACKENDS["poll"]) == "poll"


@pytest.mark.parametrize("debug", [True, False])
def test_run_in_debug_mode(debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert pollux.run(main(), debug=debug) is debug


def test_unknown_backend_is_an_error_that_lists_the_others() -> None:
    main = name_of_the_loop()
    with pytest.raises(pollux.BackendError, match="select"):
        pollux.run(main, backend="nonesuch")
    main.close()


@pytest.mark.parametrize("factory", [pollux.new_event_loop, pollux.Loop])
def test_factories_fit_asyncios_runner(factory: type) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, pollux.IOLoop)
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert runner.run(name_of_the_loop()) == loop.backend.name


def test_a_new_event_loop_is_nobodys_current_one() -> None:
    pollux.IOLoop.clear_current()
    loop = pollux.new_event_loop("select")
    assert pollux.IOLoop.current(instance=False) is None
    loop.close()


def test_exception_of_main_comes_out_of_run() -> None:
    async def main() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pollux.run(main())


def test_importing_opens_starts_and_sets_nothing() -> None:
    script = """
import asyncio, os, signal, sys, threading
import asyncio.events
before = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
policy, handlers = asyncio.events._event_loop_policy, [signal.getsignal(n) for n in signal.valid_signals()]
import pollux
assert "pluggy" not in sys.modules, "choosing a backend imports pluggy, importing pollux does not"
import pollux.periodic, pollux.runner, pollux.poller, pollux_backends.plugin, pollux_http, pollux_web
assert before is None or sorted(os.listdir("/proc/self/fd")) == before
assert threading.active_count() == 1
assert asyncio.events._event_loop_policy is policy
assert [signal.getsignal(n) for n in signal.valid_signals()] == handlers
assert asyncio.events._get_running_loop() is None
assert "pytest" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
