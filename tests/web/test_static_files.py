"""Static files over real sockets: what leads out of the root, large files, changes, versions. The plain cases are
compared with Tornado in `test_oracle_features.py`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from pollux_web import Application, HTTPError, StaticFileHandler
from pollux_web.ranges import UnsatisfiableRange, parse_range
from tests.web.client import Answer, Client, Web, get


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "a.txt").write_text("0123456789")
    (tmp_path / "root-secret").mkdir()
    (tmp_path / "root-secret" / "a.txt").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("linked")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "nowhere").symlink_to(tmp_path / "nothing")
    StaticFileHandler.reset()
    return tmp_path / "root"


def served(web: Web, root: Path, *requests: bytes, **options: Any) -> list[Answer]:
    server = web.serve(Application([("/(.*)", StaticFileHandler, {"path": str(root), **options})]))

    async def main() -> list[Answer]:
        client = await web.connect(server)
        answers = [await client.ask(data, data.partition(b" ")[0].decode()) for data in requests]
        client.close()
        return answers

    return web.run(main())


OUTSIDE = [
    "../root-secret/a.txt", "..%2froot-secret/a.txt", "%2e%2e/root-secret/a.txt", "sub/../../root-secret/a.txt",
    "../root-secret/none", "/etc/passwd", "%2fetc%2fpasswd", "link/b.txt", "link/none", "nowhere", "..", "a.txt%00",
    "../elsewhere/b.txt",
]  # fmt: skip


def test_nothing_outside_is_served_nor_told(web: Web, root: Path) -> None:
    """What is outside answers the same whether it exists or not."""
    answers = served(web, root, *(get(f"/{path}") for path in OUTSIDE))
    assert {(answer.status, answer.body) for answer in answers} == {(403, answers[0].body)}


def test_symlinks_may_be_allowed(web: Web, root: Path) -> None:
    allowed = [str(root.parent / "elsewhere")]
    for value in (allowed, allowed[0]):
        answers = served(web, root, get("/link/b.txt"), get("/nowhere"), allowed_symlink_directory=value)
        assert [answer.status for answer in answers] == [200, 403]


def test_a_root_may_be_a_symlink(web: Web, root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert served(web, root.parent / "alias", get("/a.txt"))[0].body == b"0123456789"


def test_a_directory_does_not_redirect_to_another_site(web: Web, root: Path) -> None:
    (root / "evil.example").mkdir()
    server = web.serve(Application([("/+(.*)", StaticFileHandler, {"path": str(root), "default_filename": "i"})]))
    answer = web.run(web.ask(server, get("//evil.example")))
    assert (answer.status, answer.one("Location")) == (403, None)
    assert web.run(web.ask(server, get("/evil.example"))).one("Location") == "/evil.example/"


def test_a_large_file_waits_for_its_reader(web: Web, root: Path) -> None:
    """What has been read of the file and not of the socket stays far below its size."""
    size = 32 * 1024 * 1024
    with (root / "large").open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    handed: list[int] = []

    class Counting(StaticFileHandler):
        @classmethod
        def get_content(cls, abspath: str, start: int | None = None, end: int | None = None) -> Any:
            for chunk in super().get_content(abspath, start, end):
                handed.append(len(chunk))
                yield chunk

        def compute_etag(self) -> None:
            pass

    server = web.serve(Application([("/(.*)", Counting, {"path": str(root)})]))

    async def main() -> bytes:
        client: Client = await web.connect(server, receive_buffer=65536)
        await client.send(get("/large"))
        before = -1
        while before != len(handed):  # until it stands still
            before = len(handed)
            for _ in range(50):
                await asyncio.sleep(0)
        assert 0 < sum(handed) < size / 2
        return (await client.answer()).body

    body = web.run(main())
    assert len(body) == size
    assert body.endswith(b"\0end")
    assert sum(handed) == size


SIZE = 4 << 20  # bytes: sent by the kernel, and more than fits into a socket
NUMBERED = b"".join(b"%07d\n" % number for number in range(SIZE // 8))


def large(root: Path) -> Path:
    """Make a file each piece of which is another."""
    (root / "large.bin").write_bytes(NUMBERED)
    return root / "large.bin"


def test_large_files_and_parts_of_them(web: Web, root: Path) -> None:
    """By sendfile where the system has it; on a connection that goes on, and behind each other."""
    large(root)
    server = web.serve(Application([("/(.*)", StaticFileHandler, {"path": str(root)})]))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=65536)
        assert (await client.ask(get("/large.bin"))).body == NUMBERED
        part = await client.ask(get("/large.bin", "Range: bytes=1000003-3000001"))
        assert (part.status, part.body) == (206, NUMBERED[1000003:3000002])
        assert part.one("Content-Range") == f"bytes 1000003-3000001/{SIZE}"
        head = await client.ask(get("/large.bin", method="HEAD"), "HEAD")
        assert (head.one("Content-Length"), head.body) == (str(SIZE), b"")
        await client.send(get("/large.bin") + get("/a.txt") + get("/large.bin", "Connection: close"))
        assert [(await client.answer()).body for _ in range(3)] == [NUMBERED, b"0123456789", NUMBERED]
        assert await client.rest() == b""

    web.run(main())


def test_a_large_file_over_tls_or_compressed_is_the_same(web: Web, root: Path) -> None:
    large(root).rename(root / "large.txt")
    (root / "large.png").write_bytes(NUMBERED)
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    application = Application([("/(.*)", StaticFileHandler, {"path": str(root)})], compress_response=True)
    server, secure = web.serve(application), web.serve(application, ssl_options=context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main() -> None:
        client = await web.connect(server)
        packed = await client.ask(get("/large.txt", "Accept-Encoding: gzip"))
        assert packed.one("Content-Encoding") == "gzip"
        assert gzip.decompress(packed.body) == NUMBERED
        for request in (get("/large.txt"), get("/large.png", "Accept-Encoding: gzip")):
            plain = await client.ask(request)
            assert (plain.one("Content-Encoding"), plain.body) == (None, NUMBERED)
        address = secure.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address[:2], ssl=trusting, server_hostname="localhost")
        for _ in range(2):
            writer.write(get("/large.png"))
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(SIZE) == NUMBERED
        writer.close()

    web.run(main())


def test_a_large_file_that_is_cut_off_while_it_is_sent(web: Web, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client must not take what it has for the whole: the connection is closed."""
    path = large(root)
    server = web.serve(Application([("/(.*)", StaticFileHandler, {"path": str(root)})]))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=4096)
        await client.send(get("/large.bin"))
        await client.exactly(1000)
        os.truncate(path, SIZE // 2)
        assert len(await client.rest()) < SIZE
        assert (await web.ask(server, get("/a.txt"))).status == 200

    web.run(main())
    assert "become shorter while it was sent" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_large_file_whose_reader_is_slow_and_stops(virtual_web: Web, root: Path) -> None:
    """One that reads now and then is waited for, one that has stopped is cut off by `send_timeout`."""
    large(root)
    server = virtual_web.serve(Application([("/(.*)", StaticFileHandler, {"path": str(root)})]), send_timeout=10)

    async def main() -> None:
        client = await virtual_web.connect(server, receive_buffer=4096)
        await client.send(get("/large.bin"))
        for _ in range(5):
            await asyncio.sleep(8)
            await client.exactly(300_000)
        assert server.busy == 1
        await asyncio.sleep(30)
        assert server.busy == 0
        assert len(await client.rest()) < SIZE - 1_500_000

    virtual_web.run(main())


def test_a_client_that_goes_away_leaves_no_file_open(web: Web, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`web` counts the descriptors at its end."""
    with (root / "large").open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    server = web.serve(Application([("/(.*)", StaticFileHandler, {"path": str(root)})]))

    async def main() -> None:
        client = await web.connect(server, receive_buffer=65536)
        await client.send(get("/large"))
        await client.exactly(1000)
        client.reset()
        while server.busy:
            await asyncio.sleep(0)

    web.run(main())
    assert caplog.text == "", "clients go away: no error"


def test_a_file_that_changes_gets_a_new_tag(web: Web, root: Path) -> None:
    (first,) = served(web, root, get("/a.txt"))
    (root / "a.txt").write_text("changed")
    etag = first.one("Etag")
    (second,) = served(web, root, get("/a.txt", f"If-None-Match: {etag}"))
    assert (second.status, second.body) == (200, b"changed")
    assert second.one("Etag") == f'"{hashlib.sha512(b"changed").hexdigest()}"'
    (third,) = served(web, root, get("/a.txt", f"If-None-Match: {second.one('Etag')}"))
    assert (third.status, third.body) == (304, b"")


def test_if_range(web: Web, root: Path) -> None:
    (plain,) = served(web, root, get("/a.txt"))
    etag, modified = plain.one("Etag"), plain.one("Last-Modified")
    cases = [
        (etag, 206), (modified, 206), ('"other"', 200), (f"W/{etag}", 200), ("junk", 200),
        (formatdate(0, usegmt=True), 200),
    ]  # fmt: skip
    answers = served(web, root, *(get("/a.txt", "Range: bytes=2-3", f"If-Range: {value}") for value, _ in cases))
    assert [answer.status for answer in answers] == [status for _, status in cases]
    assert {answer.body for answer in answers} == {b"23", b"0123456789"}


def test_a_tag_without_reading(web: Web, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StaticFileHandler, "MAX_VERSION_CONTENT_SIZE", 5)
    (answer,) = served(web, root, get("/a.txt"))
    status = os.stat(root / "a.txt")
    assert answer.one("Etag") == f'"{10:x}-{status.st_mtime_ns:x}"'
    with pytest.raises(ValueError, match="too large for a version"):
        StaticFileHandler.get_content_version(str(root / "a.txt"))
    assert StaticFileHandler.make_static_url({"static_path": str(root)}, "a.txt") == "/static/a.txt"


def test_urls_with_a_version_may_be_kept(web: Web, root: Path) -> None:
    url = StaticFileHandler.make_static_url({"static_path": str(root), "static_url_prefix": "/"}, "a.txt")
    plain, versioned = served(web, root, get("/a.txt"), get(url))
    assert plain.one("Cache-Control") is None
    assert versioned.one("Cache-Control") == f"max-age={86400 * 365 * 10}"
    assert versioned.one("Expires") is not None


def test_a_version_of_what_is_outside_is_refused(root: Path) -> None:
    with pytest.raises(HTTPError, match="403"):
        StaticFileHandler.make_static_url({"static_path": str(root)}, "../root-secret/a.txt")


def test_versions_are_kept_and_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StaticFileHandler, "MAX_CACHED_VERSIONS", 2)
    for name in "bcde":
        (root / name).write_text(name)
        StaticFileHandler.get_version({"static_path": str(root)}, name)
        assert len(StaticFileHandler._versions) <= 2


def test_content_from_elsewhere(web: Web, root: Path) -> None:
    """The methods that Tornado's documentation says to override."""

    class Memory(StaticFileHandler):
        @classmethod
        def get_absolute_path(cls, root: str, path: str) -> str:
            return path

        def validate_absolute_path(self, root: str, absolute_path: str) -> str:
            if absolute_path != "there.txt":
                raise HTTPError(404)
            return absolute_path

        @classmethod
        def get_content(cls, abspath: str, start: int | None = None, end: int | None = None) -> Any:
            return b"from memory"[start:end]

        def get_content_size(self) -> int:
            return 11

        def get_modified_time(self) -> None:
            return None

        @classmethod
        def get_content_version(cls, abspath: str) -> str:
            return "7"

        def set_extra_headers(self, path: str) -> None:
            self.set_header("X-Path", path)

    server = web.serve(Application([("/(.*)", Memory, {"path": "none"})]))
    answer = web.run(web.ask(server, get("/there.txt", "Range: bytes=5-")))
    assert (answer.status, answer.body, answer.one("Etag"), answer.one("X-Path")) == (
        206,
        b"memory",
        '"7"',
        "there.txt",
    )
    assert answer.one("Last-Modified") is None
    assert web.run(web.ask(server, get("/not"))).status == 404


@given(
    st.one_of(st.text(max_size=20), st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}", fullmatch=True)), st.integers(0, 50)
)
@settings(max_examples=500, deadline=None, database=None)
def test_a_range_is_within_the_file_or_refused(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except UnsatisfiableRange:
        return
    if part is not None:
        assert 0 <= part[0] < part[1] <= size
