"""The chat of `06_websocket.py` in a real browser, on every backend: two pages that talk, and the server's end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.architecture.test_rooms import ROOT
from tests.reactor.loops import BACKENDS, usable
from tests.services import program

# Debian's browser, as root, without a display or a graphics card, and without its habit of calling home.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
]  # fmt: skip
PATIENCE = 30_000  # milliseconds: only turns a hang into a failure


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    path = program("chromium", "chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=SWITCHES, timeout=PATIENCE)
        yield chromium
        chromium.close()


@contextmanager
def serving(backend: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The example under `pollux serve`; its URL and process."""
    command = [sys.executable, "-W", "error", "-m", "pollux", "serve", str(ROOT / "examples" / "06_websocket.py"),
               "--port", "0", "--backend", usable(backend).name]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLLUX_")}
    with subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"on (http://\S+)", line)
            assert found is not None, line + process.stderr.read()
            yield found[1], process
        finally:
            process.kill()


def enter(browser: Browser, url: str) -> Page:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    return page


def say(page: Page, name: str, text: str) -> None:
    page.fill("#name", name)
    page.fill("#text", text)
    page.click("button")


@pytest.mark.parametrize("backend", BACKENDS)
def test_chat_in_chromium(browser: Browser, backend: str, tmp_path: Path) -> None:
    expect.set_options(timeout=PATIENCE)
    with serving(backend) as (url, process):
        one, two = enter(browser, url), enter(browser, url)
        for page in (one, two):
            expect(page.locator("#state")).to_have_text("2 here")
        say(one, "Cleo", "hello <b>there</b>")
        say(two, "Zoë", "x" * 500)
        for page in (one, two):
            expect(page.locator("#said li")).to_have_count(2)
            assert set(page.locator("#said li").all_text_contents()) == {"Cleohello <b>there</b>", "Zoë" + "x" * 500}
        picture = tmp_path / "chat.png"
        one.screenshot(path=picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
        two.close()
        expect(one.locator("#state")).to_have_text("1 here")
        three = enter(browser, url)
        expect(three.locator("#said li")).to_have_count(2)
        process.send_signal(signal.SIGTERM)
        expect(three.locator("#state")).to_have_text(re.compile("^closed: 1001"))
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        for page in (one, three):
            page.close()
