"""asyncio's subprocesses on our loop, many and large."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

from tests.programs.conftest import Run

MEBIBYTE = 1 << 20


def test_many_at_once(run: Run) -> None:
    """Each with its input, output and exit code."""

    async def one(number: int) -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"read line; echo $line-{number}; exit {number}", stdin=PIPE, stdout=PIPE
        )
        output, _ = await process.communicate(b"got\n")
        return output, process.returncode

    async def main() -> None:
        assert await asyncio.gather(*map(one, range(40))) == [(b"got-%d\n" % n, n) for n in range(40)]

    run(main())


def test_megabytes_both_ways(run: Run) -> None:
    """More than any pipe holds, so that both ends must wait for each other."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"x" * 8 * MEBIBYTE)
        assert output == b"x" * 8 * MEBIBYTE
        assert process.returncode == 0

    run(main())


def test_lines_as_they_come(run: Run) -> None:
    async def main() -> None:
        script = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(200):
            process.stdin.write(f"{number:04}\n".encode())
            assert await process.stdout.readline() == f"{number:04}\n"[3::-1].encode() + b"\n"
        process.stdin.close()
        assert await process.wait() == 0

    run(main())


def test_shell_and_standard_error(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
        output, errors = await process.communicate()
        assert (output, errors or b"") == (b"out\nerr\n", b"")
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=DEVNULL, stderr=PIPE)
        output, errors = await process.communicate()
        assert (output or b"", errors) == (b"", b"err\n")

    run(main())


def test_killed_and_cancelled(run: Run) -> None:
    """A signal is the exit code; a wait that is cancelled leaves the process to be waited for again."""

    async def main() -> None:
        processes = [await asyncio.create_subprocess_exec("sleep", "600") for _ in range(10)]
        waits = [asyncio.create_task(process.wait()) for process in processes]
        await asyncio.sleep(0)
        waits[0].cancel()
        for process, how in zip(processes, [signal.SIGTERM, signal.SIGKILL] * 5, strict=True):
            process.send_signal(how)
        assert [await process.wait() for process in processes] == [-signal.SIGTERM, -signal.SIGKILL] * 5
        assert waits[0].cancelled()

    run(main())
