"""The suites of docs/programs.md for pytest-asyncio and anyio's plugin, each in a process of its own."""

from __future__ import annotations

import re

import pytest

from tests.programs.conftest import documented

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(("heading", "count"), [("pytest-asyncio", 2), ("anyio", 1)], ids=["pytest-asyncio", "anyio"])
def test_documented_suite_passes(
    heading: str, count: int, backend: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = re.findall(r"```python\n# (\w+)\.py.*?\n(.*?)```", documented(heading), re.DOTALL)
    assert len(files) == 2
    for name, text in files:
        pytester.makepyfile(**{name: text})
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    monkeypatch.setenv("POLLUX_BACKEND", backend)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=count)


def test_virtual_time_under_pytest_asyncio(backend: str, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(f"""
        from functools import partial
        from pollux.testing import VirtualLoop

        def pytest_asyncio_loop_factories(config, item):
            return {{"virtual": partial(VirtualLoop, {backend!r})}}
    """)
    pytester.makepyfile("""
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_day():
            start = asyncio.get_running_loop().time()
            await asyncio.sleep(86_400)
            assert asyncio.get_running_loop().time() == start + 86_400
    """)
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest"
    ).assert_outcomes(passed=1)
