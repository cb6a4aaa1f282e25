"""The pytest plugin, in suites of their own: what its fixtures give, what they complain about, and what it costs."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pollux import registry

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
USABLE = [backend.name for backend in registry.backends() if registry.unusable(backend) is None]


@pytest.fixture(autouse=True)
def _own_settings(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors for warnings, as here."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    monkeypatch.delenv("POLLUX_BACKEND", raising=False)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run in a process of its own, through the entry point, as for any user."""
    others = [f"-pno:{name}" for name in ("xdist", "hypothesispytest", "timeout", "cacheprovider", "asyncio", "anyio")]
    return pytester.runpytest_subprocess(*others, *arguments)


LOOP_TEST = """
    import asyncio, pollux

    def test_loop(pollux_loop, pollux_backend):
        assert type(pollux_loop) is pollux.IOLoop
        assert pollux_loop.backend.name == pollux_backend
        assert pollux.IOLoop.current() is pollux_loop
        assert pollux_loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
        print("ran on", pollux_backend)
"""


def test_loop_on_the_configured_backend(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(LOOP_TEST)
    monkeypatch.setenv("POLLUX_BACKEND", "select")
    result = run(pytester, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ran on select*"])


def test_backends_by_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOOP_TEST)
    result = run(pytester, "-v", "--pollux-backend", "select, poll")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_loop?select? PASSED*", "*test_loop?poll? PASSED*"])


def test_all_backends_and_the_reason_why_not(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOOP_TEST)
    every = registry.backends()
    result = run(pytester, "-rs", "--pollux-backend=all")
    result.assert_outcomes(passed=len(USABLE), skipped=len(every) - len(USABLE))
    for backend in every:
        if reason := registry.unusable(backend):
            assert f"{backend.name}: {reason}" in result.stdout.str()


def test_backends_by_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOOP_TEST)
    pytester.makeini("[pytest]\npollux_backend = select,poll\n")
    run(pytester).assert_outcomes(passed=2)
    result = run(pytester, "-v", "--pollux-backend=poll")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*poll? PASSED*"])


@pytest.mark.parametrize("asked", ["selekt", "poll,", ","], ids=repr)
def test_unknown_backend_is_an_error_that_lists_the_candidates(pytester: pytest.Pytester, asked: str) -> None:
    pytester.makepyfile(LOOP_TEST)
    result = run(pytester, f"--pollux-backend={asked}")
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.INTERNAL_ERROR)
    out = result.stdout.str() + result.stderr.str()
    assert repr(asked) in out
    for backend in registry.backends():
        assert backend.name in out


def test_tests_own_choice_wins(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("pollux_backend", ["select"], indirect=True)
        def test_choice(pollux_loop):
            assert pollux_loop.backend.name == "select"

        @pytest.mark.parametrize(argnames="n, pollux_backend", argvalues=[(1, "select")], indirect=["pollux_backend"])
        def test_choice_among_others(pollux_loop, n):
            assert pollux_loop.backend.name == "select"
    """)
    run(pytester, "--pollux-backend=poll").assert_outcomes(passed=2)


def test_virtual_clock(pytester: pytest.Pytester) -> None:
    """The loop of a test that asks for the clock runs on it, also if a fixture does the asking."""
    pytester.makepyfile("""
        import asyncio, pytest
        from pollux.testing import VirtualLoop

        @pytest.fixture
        def hour(pollux_clock):
            return pollux_clock.now + 3600

        def test_direct(pollux_loop, pollux_clock):
            assert isinstance(pollux_loop, VirtualLoop)
            assert pollux_loop.clock is pollux_clock
            pollux_loop.run_until_complete(asyncio.sleep(86_400))
            assert pollux_clock.now == 87_400

        def test_indirect(pollux_loop, hour):
            pollux_loop.call_at(hour, pollux_loop.stop)
            pollux_loop.start()
            assert pollux_loop.time() == hour

        def test_real(pollux_loop):
            assert not isinstance(pollux_loop, VirtualLoop)
    """)
    run(pytester, "--pollux-backend=all").assert_outcomes(
        passed=3 * len(USABLE), skipped=3 * (len(registry.backends()) - len(USABLE))
    )


@pytest.mark.parametrize("clock", ["", ", pollux_clock"], ids=["real time", "virtual time"])
def test_leftovers_fail_the_test(pytester: pytest.Pytester, clock: str) -> None:
    """By name; and what is left is cleaned up, so that the next test and the interpreter's end see none of it."""
    pytester.makepyfile(f"""
        import asyncio, socket

        async def forgotten():
            await asyncio.Event().wait()

        def test_task(pollux_loop{clock}):
            async def main():
                main.task = asyncio.get_running_loop().create_task(forgotten())
            pollux_loop.run_until_complete(main())

        def test_server(pollux_loop{clock}):
            pollux_loop.run_until_complete(asyncio.start_server(print, "127.0.0.1", 0)).close
            test_server.sockets = [key for key in pollux_loop._entries]

        def test_handler(pollux_loop{clock}):
            pair = socket.socketpair()
            pollux_loop.add_handler(pair[0], print, pollux_loop.READ)
            test_handler.pair = pair

        def test_clean(pollux_loop{clock}):
            pollux_loop.run_until_complete(asyncio.to_thread(int))

        def teardown_module():
            for sock in test_handler.pair:
                sock.close()
    """)
    result = run(pytester, "-W", "ignore::ResourceWarning", "--pollux-backend=select")
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines([
        "*left things behind in <*Loop select stopped>*", "*task not done: *forgotten*",
        "*still watched: fd * (READ: socket listening at ('127.0.0.1', *", "*still watched: fd * (READ: socket at*",
    ])  # fmt: skip


def test_what_closes_a_moment_later_is_no_leftover(pytester: pytest.Pytester) -> None:
    """The server's end of a connection, and its task, when the client's end is closed at the very end of the test."""
    pytester.makepyfile("""
        import asyncio

        async def echo(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            server.close()
            writer.close()

        def test_real(pollux_loop):
            pollux_loop.run_until_complete(main())

        def test_virtual(pollux_loop, pollux_clock):
            pollux_loop.run_until_complete(main())

        def test_closed_by_itself(pollux_loop):
            pollux_loop.close()
    """)
    run(pytester, "--pollux-backend=" + ",".join(USABLE)).assert_outcomes(passed=3 * len(USABLE))


def test_beside_pytest_asyncio_and_anyio(pytester: pytest.Pytester) -> None:
    """Fixtures of all three in one run, none of which knows the others."""
    pytester.makepyfile("""
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_asyncio_has_its_loop():
            await asyncio.sleep(0)

        @pytest.mark.anyio
        async def test_anyio_has_its_loop(anyio_backend_name):
            assert anyio_backend_name == "asyncio"

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        def test_ours(pollux_loop, pollux_clock):
            pollux_loop.run_until_complete(asyncio.sleep(1))

        @pytest.mark.asyncio
        async def test_asyncio_has_its_loop_again():
            await asyncio.sleep(0)
    """)
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["plugins: *pollux-*"])


def test_documented_example_passes(pytester: pytest.Pytester) -> None:
    (example,) = re.findall(r"```python\n(import asyncio\n\nfrom pollux import Per.*?)```", PAGE.read_text(), re.DOTALL)
    pytester.makepyfile(example)
    run(pytester).assert_outcomes(passed=2)


def test_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOOP_TEST)
    result = run(pytester, "-p", "no:pollux")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'pollux_loop' not found*"])


def test_names_say_whose_they_are(pytester: pytest.Pytester) -> None:
    from pollux.testing import pytest_plugin

    fixtures = [name for name, thing in vars(pytest_plugin).items() if "Fixture" in type(thing).__name__]
    assert set(fixtures) == {"pollux_backend", "pollux_clock", "pollux_loop"}


def test_costs_nothing_when_unused(pytester: pytest.Pytester) -> None:
    """A run that asks for no fixture of it imports only what `import pollux` does, and the plugin's own two modules."""
    pytester.makepyfile("""
        import json, subprocess, sys

        def test_modules():
            script = "import pollux, sys, json; print(json.dumps([*sys.modules]))"
            bare = subprocess.check_output([sys.executable, "-c", script])
            loaded = [name for name in sys.modules if name.split(".")[0].startswith("pollux")]
            extra = sorted(set(loaded) - set(json.loads(bare)))
            print("extra:", json.dumps(extra))
    """)
    result = run(pytester, "-s")
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if "extra:" in line]
    extra = set(json.loads(line.partition("extra:")[2].rstrip(".")))
    assert extra - {"pollux.errors"} == {"pollux.testing", "pollux.testing.pytest_plugin"}


def test_plugin_is_the_entry_point() -> None:
    assert {point.value for point in entry_points(group="pytest11", name="pollux")} == {"pollux.testing.pytest_plugin"}
