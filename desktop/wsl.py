"""Windows' own Linux (WSL2), through its program ``wsl.exe``: what it says, in words and with what to do.

The node and its worker run in a distribution of Idlebloom's own. What wsl.exe prints is in the language of
Windows and, unless it knows ``WSL_UTF8``, in UTF-16; its error codes are the same everywhere, so they are
what is looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.errors import IdlebloomError
from core.words import N_, _

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
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""Programs of the tray open no console."""
CODE = re.compile(r"0x[0-9a-fA-F]{8}|\b(?:Wsl|WSL)[/_][A-Za-z0-9_/]+\b|\b(?:HCS_E|ERROR)_[A-Z_]+\b")

ABSENT = N_("Idlebloom needs Windows' own Linux (WSL2), which this PC does not have yet.")
INSTALL = N_(
    "Open the Terminal as administrator, type: wsl.exe --install --no-distribution – then start Windows "
    "again, then Idlebloom. Windows 10 needs version 2004 or newer, with all updates."
)
TROUBLES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("HCS_E_HYPERV_NOT_INSTALLED", "0x80370102", "WSL_E_VIRTUAL_MACHINE_PLATFORM_REQUIRED"),
        N_("Windows cannot start its Linux (WSL2): virtualisation is switched off on this PC."),
        N_(
            "Switch it on in the firmware: hold Shift while you choose Restart, then Troubleshoot, Advanced "
            "options, UEFI settings; it is called Intel VT-x, AMD-V or SVM. If it is on there: in a Terminal "
            "as administrator type: wsl.exe --install --no-distribution – then start Windows again."
        ),
    ),
    (("HCS_E_SERVICE_NOT_AVAILABLE", "0x80370114", "WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED"), ABSENT, INSTALL),
    (("0x8007019e", "0x80070422", "WSL_E_INSTALL_COMPONENT_FAILED"), ABSENT, INSTALL),
    (
        ("0x800701bc", "WSL_E_OS_NOT_SUPPORTED", "WSL_E_WSL_NOT_UP_TO_DATE", "0x80004002"),
        N_("Windows' Linux (WSL2) is too old on this PC."),
        N_("Open the Terminal, type: wsl.exe --update – then start Idlebloom again."),
    ),
    (
        ("ERROR_DISK_FULL", "0x80070070", "ERROR_HANDLE_DISK_FULL", "0x80070027"),
        N_("The disk is full."),
        N_(
            "Free some space on the drive that holds Idlebloom, then start it again: it goes on where it was."
        ),
    ),
    (
        ("HCS_E_CONNECTION_TIMEOUT", "0x80370109", "E_UNEXPECTED", "0x8000ffff", "HCS_E_TERMINATED"),
        N_("Windows' Linux (WSL2) does not answer."),
        N_(
            "Open the Terminal, type: wsl.exe --shutdown – then start Idlebloom again. If it stays so, start "
            "Windows again."
        ),
    ),
    (
        ("WSL_E_DISTRO_NOT_FOUND", "0x80370326"),
        N_("Idlebloom's Linux part is not on this PC yet, or was removed."),
        N_("Start Idlebloom from the start menu: it sets it up."),
    ),
    (
        ("E_ACCESSDENIED", "0x80070005", "ERROR_SHARING_VIOLATION", "0x80070020"),
        N_("Windows does not let Idlebloom use its own folder: another program holds it, or forbids it."),
        N_("Let your virus scanner leave the folder Idlebloom in your AppData alone, then start it again."),
    ),
)
"""Codes of wsl.exe, older ones as numbers, with what each means and what to do."""


class WslTrouble(IdlebloomError):
    """What keeps the Linux part from running."""


class Absent(WslTrouble):
    """There is no WSL2."""

    def __init__(self) -> None:
        super().__init__(_(ABSENT), _(INSTALL))


@dataclass(frozen=True)
class Said:
    code: int
    text: str


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
        """Raises ``WslTrouble`` where there is no usable WSL2. One too old for ``--status`` is none."""
        said = self.ask("--status")
        if said.code:
            raise trouble_in(said.text) or Absent()

    def there(self) -> bool:
        """Whether the distribution is registered. Without any, old ones answer 1 or -1."""
        return self.name in self.ask("--list", "--quiet").text.split()

    def bring(self, folder: Path, root: Path) -> None:
        """Import the distribution. Raises ``WslTrouble``."""
        said = self.ask("--import", self.name, str(folder), str(root), "--version", "2", seconds=LONG_SECONDS)
        if said.code:
            raise trouble_in(said.text) or WslTrouble(
                _("Windows could not set up Idlebloom's Linux part: {why}").format(why=gist(said.text)),
                _("Open the Terminal, type: wsl.exe --update – then start Idlebloom again."),
            )

    def take_back(self, disk: Path) -> None:
        """Register the distribution anew with the disk that it had. Raises ``WslTrouble``."""
        said = self.ask("--import-in-place", self.name, str(disk), seconds=LONG_SECONDS)
        if said.code:
            raise trouble_in(said.text) or WslTrouble(
                _("Windows could not take back Idlebloom's Linux part with its models: {why}").format(
                    why=gist(said.text)
                ),
                _("Open the Terminal, type: wsl.exe --update – then start Idlebloom again."),
            )

    def unregister(self) -> None:
        """The distribution with all that is in it is gone afterwards."""
        self.ask("--unregister", self.name, seconds=LONG_SECONDS)

    def terminate(self) -> None:
        """End whatever still runs in the distribution, so that its memory is free."""
        self.ask("--terminate", self.name)

    def _run(self, command: Sequence[str], seconds: float, data: BinaryIO | None = None) -> Said:
        source = subprocess.DEVNULL if data is None else data
        with _started(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                out, _nothing = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise unanswered() from None
        return Said(process.returncode, decoded(out))


def _started(command: Sequence[str], **streams: object) -> subprocess.Popen[bytes]:
    streams.setdefault("stdin", subprocess.DEVNULL)
    try:
        return subprocess.Popen(command, env=environment(), creationflags=NO_WINDOW, **streams)  # type: ignore[call-overload, no-any-return]
    except OSError as error:
        raise Absent from error


def environment(known: Mapping[str, str] | None = None) -> dict[str, str]:
    """For wsl.exe: UTF-8 where it knows that, and nothing of this side's Python passed on."""
    return {**(os.environ if known is None else known), "WSL_UTF8": "1"}


def decoded(raw: bytes) -> str:
    """What wsl.exe prints of itself may be UTF-16 without a mark; what a program inside prints is UTF-8."""
    if b"\0" in raw:
        if raw.startswith(b"\0"):  # a line cut after its \\n leaves that one's second byte here
            raw = raw[1:]
        return (raw + b"\0" * (len(raw) % 2)).decode("utf-16-le", errors="replace").lstrip("\ufeff")
    return raw.decode("utf-8", errors="replace")


def trouble_in(text: str) -> WslTrouble | None:
    """The trouble that a code in this text stands for."""
    codes = {part.lower() for code in CODE.findall(text) for part in (code, *code.split("/"))}
    for known, words, advice in TROUBLES:
        if any(code.lower() in codes for code in known):
            return WslTrouble(_(words), _(advice))
    if re.search(r"no space left on device", text, re.IGNORECASE):
        return trouble_in("ERROR_DISK_FULL")
    return None


def unanswered() -> WslTrouble:
    """It hangs, as wsl.exe does now and then after a sleep of the PC."""
    return trouble_in("E_UNEXPECTED") or Absent()


def gist(text: str) -> str:
    """The lines of what a program said, as one."""
    return " ".join(text.split())[-300:] or _("it ended without a word")
