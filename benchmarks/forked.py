"""Worker processes forked from one that has only imported: a start takes tenths of a second, not seconds.

    async with forge() as forge:
        worker = await forge.worker(log)      # as ``core.serving.supervisor.Worker.start``

``python -m benchmarks.forked FD`` is the process that forks. It has imported what a worker imports and has
started nothing: no thread of torch's, no event loop. Each request on the socket ``FD`` brings where it shall
live and three files, a worker's standard input, output and error; the answer is its process id.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn

from benchmarks.internet.router import enter
from core.paths import code
from core.serving.supervisor import Worker

START_SECONDS = 120.0
MOST_BYTES = 4096


class Forked:
    """What ``Worker`` wants to know of a process; it ends when its output does."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    async def wait(self) -> int:
        """Returns when the process has gone; how it ended only its parent knows, which does not tell."""
        while _runs(self.pid):  # noqa: ASYNC110 - nobody else's child can be waited for
            await asyncio.sleep(0.005)
        self.stdin.close()
        self.returncode = 0
        return 0


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Forge:
    """Made by ``forge``."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire, self._asking = wire, asyncio.Lock()

    async def worker(self, log: Path, remove: Path, namespace: str = "") -> Worker:
        """A worker that waits for its configuration. Its standard error goes to the file ``log``; it
        removes the folder ``remove`` when the process that forks has died. ``namespace`` is the host of
        ``benchmarks.internet`` that it lives on, none for this one."""
        stdin, to_child = os.pipe()
        from_child, stdout = os.pipe()
        stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            async with self._asking:
                socket.send_fds(self._wire, [os.fsencode(f"{namespace}:{remove}")], [stdin, stdout, stderr])
                pid = int(await asyncio.get_running_loop().sock_recv(self._wire, MOST_BYTES))
        finally:
            for file in (stdin, stdout, stderr):
                os.close(file)
        process = Forked(pid, await _writer(to_child), await _reader(from_child))
        return Worker(process)  # type: ignore[arg-type]  # all that it asks of a process


async def _writer(file: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    made = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(file, "wb", 0))
    return asyncio.StreamWriter(made[0], made[1], None, loop)


async def _reader(file: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", 0)
    )
    return reader


@asynccontextmanager
async def forge() -> AsyncIterator[Forge]:
    """The process that forks, ready when entered. Its workers end by themselves when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.forked",
                str(theirs.fileno()),
                cwd=code(),
                env=dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.get_running_loop().sock_recv(ours, MOST_BYTES)
            yield Forge(ours)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# The process that forks


def main(file: int) -> None:
    import core.serving.donor
    import core.serving.worker
    import core.swarm.hive
    import core.swarm.p2p

    core.swarm.hive.load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the ended leave no zombies
    wire = socket.socket(fileno=file)
    wire.send(b"ready")
    while True:
        told, files, _, _ = socket.recv_fds(wire, MOST_BYTES, 3)
        if not told:
            return
        child = os.fork()
        if not child:
            wire.close()
            _become(files, os.fsdecode(told))
        for opened in files:
            os.close(opened)
        wire.send(str(child).encode())


def _become(files: list[int], told: str) -> NoReturn:
    """The rest of a worker's life."""
    import core.serving.worker

    namespace, _, folder = told.partition(":")
    if namespace:
        enter(namespace)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, opened in enumerate(files):
        os.dup2(opened, target)
        os.close(opened)
    random.seed()
    sys.argv = ["worker", str(os.getppid()), folder]
    core.serving.worker.main()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
