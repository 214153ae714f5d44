"""Windows' own Linux (WSL2), through its program ``wsl.exe``: what it says, in words and with what to do.

The node and its worker run in a distribution of Idlebloom's own. What wsl.exe prints is in the language of
Windows and, unless it knows ``WSL_UTF8``, in UTF-16; its error codes are the same everywhere, so they are
what is looked at (``desktop.wsl_troubles``).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.words import _
from desktop.wsl_troubles import UPDATE, Absent, WslTrouble, trouble_in, trouble_of

NAME = "Idlebloom"
"""Of the distribution."""
PROGRAM = "/usr/bin/idlebloom"
"""Idlebloom inside it."""
SETUP = "/usr/lib/idlebloom/setup"
"""What builds its environment there."""
RENEW = "/usr/lib/idlebloom/renew"
"""What replaces all there but what Idlebloom keeps, by the root file system on its input."""
VERSION = "/etc/idlebloom-version"
ASK_SECONDS = 60.0
"""The first question after Windows has started boots the virtual machine."""
LONG_SECONDS = 1800.0
SPEAKS = {"WSL_UTF8": "1", "WSL_DISABLE_WARNINGS": "1"}
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""Programs of the tray open no console."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    """Standard output: of a program inside, its answer."""
    err: str = ""
    """wsl.exe's own errors and warnings come here, older ones' there."""

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}".strip()


class Wsl:
    """``program`` is looked for on PATH. Nothing here knows Qt, so that a program without a window can use
    it too."""

    def __init__(self, program: str = "wsl.exe", name: str = NAME) -> None:
        self.program, self.name = program, name

    def inside(self, *command: str, root: bool = False) -> list[str]:
        """The line that runs a command in the distribution, with input and output passed on as they are."""
        user = ["-u", "root"] if root else []
        return [self.program, "-d", self.name, *user, "--cd", "/", "--exec", *command]

    def ask(self, *arguments: str, seconds: float = ASK_SECONDS) -> Said:
        return self._run([self.program, *arguments], seconds)

    def ask_inside(self, *command: str, root: bool = False, seconds: float = ASK_SECONDS) -> Said:
        return self._run(self.inside(*command, root=root), seconds)

    def feed_inside(self, source: Path, *command: str, seconds: float = LONG_SECONDS) -> Said:
        """A command of root's there, with a file of Windows as its input."""
        with source.open("rb") as data:
            return self._run(self.inside(*command, root=True), seconds, data)

    def lines_inside(self, *command: str) -> Iterator[str]:
        """What a command says there, line by line. Raises ``WslTrouble`` where it could not be started."""
        with _started(self.inside(*command), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            rest = []
            for raw in process.stdout:
                line = decoded(raw)
                rest.append(line)
                yield line
        if process.returncode and (trouble := trouble_in("".join(rest[-20:]))):
            raise trouble

    def check(self) -> None:
        """Raises ``WslTrouble`` where there is no usable WSL2. One too old for ``--status`` is none. It tells
        of virtual machines that cannot run without failing."""
        said = self.ask("--status")
        trouble = trouble_in(said.text)
        if trouble or said.code:
            raise trouble or Absent()

    def there(self) -> bool:
        """Whether the distribution is registered. Without any, old ones answer 1 or -1."""
        return self.name in self.ask("--list", "--quiet").out.split()

    def bring(self, folder: Path, root: Path) -> None:
        """Import the distribution. Raises ``WslTrouble``."""
        said = self.ask("--import", self.name, str(folder), str(root), "--version", "2", seconds=LONG_SECONDS)
        if said.code:
            raise trouble_in(said.text) or WslTrouble(
                _("Windows could not set up Idlebloom's Linux part: {why}").format(why=gist(said.text)),
                _(UPDATE),
            )

    def take_back(self, disk: Path) -> None:
        """Register the distribution anew with the disk that it had. Raises ``WslTrouble``."""
        said = self.ask("--import-in-place", self.name, str(disk), seconds=LONG_SECONDS)
        if said.code:
            raise trouble_in(said.text) or WslTrouble(
                _("Windows could not take back Idlebloom's Linux part with its models: {why}").format(
                    why=gist(said.text)
                ),
                _(UPDATE),
            )

    def unregister(self) -> None:
        """The distribution with all that is in it is gone afterwards."""
        self.ask("--unregister", self.name, seconds=LONG_SECONDS)

    def terminate(self) -> None:
        """End whatever still runs in the distribution, so that its memory is free."""
        self.ask("--terminate", self.name)

    def _run(self, command: Sequence[str], seconds: float, data: BinaryIO | None = None) -> Said:
        source = subprocess.DEVNULL if data is None else data
        with _started(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise unanswered() from None
        return Said(process.returncode, decoded(out), decoded(err))


def _started(command: Sequence[str], **streams: object) -> subprocess.Popen[bytes]:
    streams.setdefault("stdin", subprocess.DEVNULL)
    try:
        return subprocess.Popen(command, env=environment(), creationflags=NO_WINDOW, **streams)  # type: ignore[call-overload, no-any-return]
    except OSError as error:
        raise Absent from error


def environment(known: Mapping[str, str] | None = None) -> dict[str, str]:
    """For wsl.exe: where it knows that, UTF-8, and no warnings among what programs say."""
    return {**(os.environ if known is None else known), **SPEAKS}


def decoded(raw: bytes) -> str:
    """What wsl.exe prints of itself may be UTF-16 without a mark; what a program inside prints is UTF-8."""
    if b"\0" in raw:
        if raw.startswith(b"\0"):  # a line cut after its \\n leaves that one's second byte here
            raw = raw[1:]
        return (raw + b"\0" * (len(raw) % 2)).decode("utf-16-le", errors="replace").lstrip("\ufeff")
    return raw.decode("utf-8", errors="replace")


def unanswered() -> WslTrouble:
    """It hangs, as wsl.exe does now and then after a sleep of the PC."""
    return trouble_of("HCS_E_CONNECTION_TIMEOUT")


def gist(text: str) -> str:
    """The lines of what a program said, as one."""
    return " ".join(text.split())[-300:] or _("it ended without a word")
