"""A MariaDB server of one's own: on a free port, in a folder of its own, to be killed and started again at will."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
import trustme

from tests.services import absent, program

PATIENCE = 40.0  # seconds: a busy machine, and a recovery after a kill
_USER = [f"--user={'root' if os.geteuid() == 0 else os.environ.get('USER', 'nobody')}"]
# Small, and as durable as a killed process needs: what is written is the kernel's, though not on the disk.
_SMALL = ["--innodb-log-file-size=16M", "--innodb-buffer-pool-size=24M", "--innodb-flush-log-at-trx-commit=2"]
_OPTIONS = [
    "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin", "--performance-schema=OFF", "--sql-mode=",
    "--max-allowed-packet=256M", "--max-connections=200", "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_bin", "--innodb-lock-wait-timeout=10",
]  # fmt: skip
# `tester` has to have a password, `nobody` has no rights, `slow` is for servers one cannot log in to.
_ACCOUNTS = """\
CREATE DATABASE IF NOT EXISTS test;
CREATE DATABASE IF NOT EXISTS other;
CREATE USER IF NOT EXISTS 'tester'@'%' IDENTIFIED BY 's3cr&t @:/';
GRANT ALL PRIVILEGES ON *.* TO 'tester'@'%';
CREATE USER IF NOT EXISTS 'nobody'@'%' IDENTIFIED BY '';
"""


class Server:
    """A server; `start` it first.

    :ivar authority: signs its certificate, which names `localhost`.
    """

    host = "127.0.0.1"
    user = "tester"
    password = "s3cr&t @:/"
    database = "test"

    def __init__(self, folder: Path) -> None:
        if shutil.which("mariadb-install-db") is None:
            absent("mariadb-install-db is not installed: apt-get install mariadb-server")
        self._command = program("mariadbd", "mariadb-server")
        self._data = folder / "data"
        self.socket = str(folder / "s")
        self._held = socket.socket()  # the port stays ours while the server is down: bound, but not listening
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind((self.host, 0))
        self.port: int = self._held.getsockname()[1]
        self.authority = trustme.CA()
        self._process: subprocess.Popen[str] | None = None
        self._temporary = f"--tmpdir={folder}"  # in a shared one servers remove each other's files
        self._files = [
            f"--datadir={self._data}", f"--socket={self.socket}", f"--port={self.port}", f"--pid-file={folder}/pid",
            f"--ssl-cert={folder}/cert.pem", f"--ssl-key={folder}/key.pem", f"--init-file={folder}/accounts.sql",
        ]  # fmt: skip
        (folder / "accounts.sql").write_text(_ACCOUNTS)
        certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        make = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(
            [*make, *_USER, *_SMALL, self._temporary, f"--datadir={self._data}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def start(self) -> None:
        """Start it if it is not running, and return when it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = subprocess.Popen(
            [self._command, "--no-defaults", *_USER, *_SMALL, *_OPTIONS, self._temporary, *self._files],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_end_with_us if sys.platform == "linux" else None,
        )
        assert self._process.stderr is not None
        said: list[str] = []
        ready = threading.Event()
        threading.Thread(target=_listen, args=(self._process.stderr, said, ready), daemon=True).start()
        assert ready.wait(PATIENCE), "mariadbd did not start:\n" + "".join(said)
        assert self._process.poll() is None, "mariadbd ended:\n" + "".join(said)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        assert self._process is not None
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Let it stand still, connections and all; return when its last thread does."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self.kill()
        self._held.close()


def _end_with_us() -> None:
    """In the server's process: be killed when the tests' process ends, however it does (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _listen(stream: IO[str], said: list[str], ready: threading.Event) -> None:
    """Read what the server says to its end, so that it never waits for a reader."""
    with stream:
        for line in stream:
            said.append(line)
            if "ready for connections" in line:
                ready.set()
    ready.set()


def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For a fixture: a server that is running."""
    server = Server(tmp_path_factory.mktemp("mariadb"))
    try:
        server.start()
        yield server
    finally:
        server.close()
