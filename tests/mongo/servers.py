"""Servers of MongoDB's protocol as processes of their own, and a network between us and them that can fail."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import bson
import pytest

from tests.services import absent


def installed(command: str) -> str:
    """Return the path of one of SecantusDB's programs, or end the test."""
    path = Path(sys.executable).with_name(command)
    return str(path) if path.exists() else absent(f"{command} is not installed: pip install 'pollux[test]'")


class MongoServer:
    """`secantusd-rs` on a port that stays the same when it is killed and started again.

    The port is bound here as well, so that nobody else gets it. As this socket does not listen, SO_REUSEADDR lets the
    server share it.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self._command = [
            installed("secantusd-rs"), "--host", "127.0.0.1", "--port", str(self.port), "--storage-path",
            str(folder / "data"), "--cache-size", "256M", "--log-file-max", "128MB", "--log-level", "WARNING", *options,
        ]  # fmt: skip
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        folder = self._folder  # where no secantusd.toml lies about
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "listening on" in line:
                break
        else:
            pytest.fail(f"secantusd-rs ended before it listened:\n{''.join(said)}")
        self._listener = threading.Thread(target=self._process.stdout.read, daemon=True)  # a full pipe would stop it
        self._listener.start()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def close(self) -> None:
        """End it."""
        self.kill()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # What a test asks of it behind the back of what is tested

    def command(self, database: str = "admin", **command: Any) -> dict[str, Any]:
        """Run a command on a connection of its own, without a driver: that would keep threads and sockets for a while.

        OP_MSG with one section of kind 0 (MongoDB manual, "Wire Protocol").
        """
        body = bson.encode({**command, "$db": database})
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rwb") as stream:
            stream.write(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)
            stream.flush()
            (length,) = struct.unpack("<i", stream.read(4))
            answer = bson.decode(stream.read(length - 4)[17:])
        assert answer["ok"] == 1, answer
        return answer

    def fail(self, *commands: str, times: int = 1, **data: Any) -> None:
        """Have the next so many of these commands fail: `errorCode`, `closeConnection`, or wait for `blockTimeMS`."""
        if "blockTimeMS" in data:
            data["blockConnection"] = True
        self.command(configureFailPoint="failCommand", mode={"times": times}, data={"failCommands": commands, **data})

    def stop_failing(self) -> None:
        """End all that."""
        self.command(configureFailPoint="failCommand", mode="off")

    def open_cursors(self) -> int:
        """Return how many cursors it keeps for clients."""
        return int(self.command(serverStatus=1)["metrics"]["cursor"]["open"]["total"])


class Network:
    """A way to a server: it passes everything on, or swallows it (as a firewall does), or cuts.

    It runs in threads of its own, so that nothing a test does to its loop can hold it up.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passing = threading.Event()
        self._passing.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def swallow(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told."""
        self._passing.clear()

    def heal(self) -> None:
        """Pass on what comes from now on. What was swallowed stays lost, and its connections silent."""
        self.cut()
        self._passing.set()

    def cut(self) -> None:
        """Close all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
            except ConnectionRefusedError:  # the server is down
                near.close()
                continue
            except OSError:
                return
            with self._lock:
                self._pairs.append((near, far))
            left = [2]
            for one, other in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(one, other, (near, far), left), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(
        self, one: socket.socket, other: socket.socket, pair: tuple[socket.socket, socket.socket], left: list[int]
    ) -> None:
        try:
            while data := one.recv(65536):
                if self._passing.is_set():
                    other.sendall(data)
            other.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        with self._lock:
            left[0] -= 1
            if not left[0]:
                for end in pair:
                    end.close()

    def close(self) -> None:
        """Cut, and stop listening. May be called again."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
