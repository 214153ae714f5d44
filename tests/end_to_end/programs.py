"""Idlebloom's commands as real processes, each with its own data and temporary folder, so that whatever
they leave behind is seen, and ended with all their children when the test ends."""

from __future__ import annotations

import codecs
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from core.door import find_running
from core.paths import code

START_SECONDS = 90.0
"""Generous: the machines that run tests are slow and busy."""
MARK = "IDLEBLOOM_TEST_RUN"


class Program:
    """One command. Its processes are known by a variable in their environment, whoever their parent is."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        through: Sequence[str] = (),
    ) -> None:
        self.temporary, self.data = folder / "tmp", folder / "data"
        self.temporary.mkdir(exist_ok=True)
        self._run = secrets.token_hex(8)
        kept = {
            name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
        }
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*through, sys.executable, "-m", "idlebloom", *arguments, "--data", str(self.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=kept | {"TMPDIR": str(self.temporary), MARK: self._run} | (environment or {}),
            cwd=code(),
            start_new_session=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self._pieces: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.out = self.err = ""
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, "out"), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, "err"), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[bytes], name: str) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        with stream:
            while data := os.read(stream.fileno(), 65536):
                piece = decoder.decode(data)
                setattr(self, name, getattr(self, name) + piece)
                if name == "out":
                    self._pieces.put(piece)
        if name == "out":
            self._pieces.put("")

    def piece(self, seconds: float = START_SECONDS) -> str:
        """What it writes next to its standard output; nothing at its end."""
        return self._pieces.get(timeout=seconds)

    def line(self, seconds: float = START_SECONDS) -> str:
        """The next line of its standard output."""
        line = ""
        while not line.endswith("\n"):
            piece = self.piece(seconds)
            assert piece, f"it ended with {self.process.wait(5)}: {self.err}"
            line += piece
        return line.rstrip("\n")

    def ready(self) -> dict[str, Any]:
        """The line of JSON that says it is up."""
        found = json.loads(self.line())
        assert isinstance(found, dict)
        return found

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Its exit code; all its output has been read then."""
        code_ = self.process.wait(seconds)
        for thread in self._threads:
            thread.join(5)
        return code_

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    # All its processes

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Those that live, in the order of their start; only those whose command holds ``word``."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.status() != psutil.STATUS_ZOMBIE
                    and process.environ().get(MARK) == self._run
                    and word in " ".join(process.cmdline())
                ):
                    found.append(process)
        return sorted(found, key=lambda process: (process.create_time(), process.pid))

    def workers(self) -> list[psutil.Process]:
        return self.processes("core.serving.worker")

    def daemon_of(self, process: psutil.Process) -> psutil.Process:
        """The p2pd of one of its processes."""
        return next(child for child in process.children() if child.name() == "p2pd")

    def daemons(self) -> list[psutil.Process]:
        """Its p2pd, all of them."""
        return [process for process in self.processes() if process.name() == "p2pd"]

    def itself(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def leftovers(self) -> list[str]:
        """What is in its temporary folder, and sockets of its processes elsewhere."""
        inside = [str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*")]
        run = self.data / "run"
        sockets = [str(path) for path in run.rglob("*.sock*")] if run.is_dir() else []
        elsewhere = [str(path) for path in Path("/tmp").glob(f"idlebloom-p2p-{self.process.pid}-*")]
        return inside + sockets + elsewhere

    def is_gone(self) -> bool:
        return not self.remains()

    def remains(self) -> list[object]:
        """Processes and files of it that are still there."""
        return [*self.processes(), *self.leftovers()]

    def kill_all(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.close_input()
        self.wait(10)


def until(condition: Callable[[], object], seconds: float, what: str | Callable[[], object] = "") -> None:
    """Waits until the condition holds; fails when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, (
            f"not within {seconds} s: {(what() if callable(what) else what) or condition}"
        )
        time.sleep(0.05)


class Folder:
    """Starts programs that share a data folder, one after the other or at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.programs: list[Program] = []

    def start(
        self, *arguments: str, environment: dict[str, str] | None = None, through: Sequence[str] = ()
    ) -> Program:
        """``through``: words before the command, of a program that becomes it."""
        program = Program(self.path, *arguments, environment=environment, through=through)
        self.programs.append(program)
        return program

    def run(self, *arguments: str, seconds: float = START_SECONDS) -> Program:
        """To its end, with nothing on its standard input."""
        program = self.start(*arguments)
        program.close_input()
        program.wait(seconds)
        return program

    def look(self, path: str) -> dict[str, Any]:
        """What the running node says, without a process for the question."""
        found = find_running(self.path / "data" / "run" / "door.json").request(path)
        assert isinstance(found, dict)
        return found

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The JSON that a command prints; it has to succeed and say nothing else."""
        program = self.run(*arguments, "--json")
        assert (program.process.returncode, program.err) == (0, ""), program.err
        found = json.loads(program.out)
        assert isinstance(found, dict)
        return found

    def refusal(self, *arguments: str) -> str:
        """The one line with which a command fails."""
        program = self.run(*arguments)
        assert program.process.returncode == 1, (program.process.returncode, program.out, program.err)
        assert program.out == ""
        assert program.err.count("\n") == 1 and program.err.startswith("idlebloom: "), program.err
        assert program.is_gone()
        return program.err.removeprefix("idlebloom: ").rstrip("\n")


@contextmanager
def folder() -> Iterator[Folder]:
    """A short path: paths of sockets are limited."""
    path = Path(tempfile.mkdtemp(prefix="ib-"))
    opened = Folder(path)
    try:
        yield opened
    finally:
        for program in opened.programs:
            program.kill_all()
        shutil.rmtree(path, ignore_errors=True)


def signal_group(program: Program, number: signal.Signals) -> None:
    """As a terminal does for Ctrl-C: to the whole process group."""
    os.killpg(program.process.pid, number)


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def disk(path: Path, options: str) -> Iterator[None]:
    """A file system of its own at ``path``. Needs root."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def resize_disk(path: Path, size: int) -> None:
    """Gives it ``size`` bytes in all."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)


def fill_disk(path: Path) -> None:
    """Leaves it no room. A size below what is in use is refused, and meanwhile somebody may write on: it is
    asked for anew until it was none."""
    while True:
        usage = os.statvfs(path)
        size = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        with suppress(subprocess.CalledProcessError):
            return resize_disk(path, size)
