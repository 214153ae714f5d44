"""What keeps Windows' own Linux (WSL2) from running, by the codes that ``wsl.exe`` prints: in words, with
what to do.

Looked up in WSL's source (github.com/microsoft/WSL, seen in November 2026), not seen on a real Windows:

- An error is printed as a path of contexts that ends in a name, ``Wsl/Service/RegisterDistro/E_FAIL``, or in
  a number where the code has none (``ErrorToString``, ``g_commonErrors`` of src/windows/common/wslutil.cpp).
  Names are the same in every language. Windows' own older wsl.exe prints numbers alone: both are listed here.
- The numbers of ``WSL_E_…`` are 0x80040300 and on (src/windows/service/inc/wslservice.idl); ``ERROR_…`` are
  Win32's, as 0x8007 and their number; ``HCS_E_…`` are 0x803701…, of Windows' own virtual machines.
- ``WSL_E_DEFAULT_DISTRO_NOT_FOUND`` and ``WSL_E_INVALID_USAGE`` are printed without any code, and the first
  is no trouble: there is no distribution yet (``Main`` of src/windows/common/WslClient.cpp).
- ``--status`` answers 0 also where virtual machines cannot run, and prints a link then, in every language
  (``Status`` there): aka.ms/enablevirtualization, or aka.ms/wsl2kernel where WSL's own kernel lacks.
- wsl.exe's own exit code is -1 for every error, so that it differs from a Linux program's; the stub of a
  Windows without WSL was reported to end with 50.
"""

from __future__ import annotations

import re

from core.errors import IdlebloomError
from core.words import N_, _

CODE = re.compile(r"0x[0-9a-fA-F]{8}|\b(?:Wsl|WSL)[/_][A-Za-z0-9_/]+\b|\b(?:HCS_E|ERROR)_[A-Z_]+\b")
LINK = re.compile(r"aka\.ms/(enablevirtualization|wsl2kernel)", re.IGNORECASE)

ABSENT = N_("Idlebloom needs Windows' own Linux (WSL2), which this PC does not have yet.")
INSTALL = N_(
    "Open the Terminal as administrator, type: wsl.exe --install --no-distribution – then start Windows "
    "again, then Idlebloom. Windows 10 needs version 2004 or newer, with all updates."
)
UPDATE = N_("Open the Terminal, type: wsl.exe --update – then start Idlebloom again.")
TROUBLES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("HCS_E_HYPERV_NOT_INSTALLED", "0x80370102"),
        N_("Windows cannot start its Linux (WSL2): virtualisation is switched off on this PC."),
        N_(
            "Switch it on in the firmware: hold Shift while you choose Restart, then Troubleshoot, Advanced "
            "options, UEFI settings; it is called Intel VT-x, AMD-V or SVM. If it is on there: in a Terminal "
            "as administrator type: wsl.exe --install --no-distribution – then start Windows again."
        ),
    ),
    (
        (
            *("WSL_E_VIRTUAL_MACHINE_PLATFORM_REQUIRED", "0x8004032d", "enablevirtualization"),
            *("WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED", "0x80040321"),
            *("HCS_E_SERVICE_NOT_AVAILABLE", "0x80370114", "ERROR_SERVICE_DISABLED", "0x80070422"),
            *("ERROR_SERVICE_DOES_NOT_EXIST", "0x80070424", "ERROR_SERVICE_NOT_ACTIVE", "0x80070426"),
        ),
        N_(
            "Windows cannot start its Linux (WSL2): a part of Windows that it needs is switched off, or "
            "waits for a restart."
        ),
        N_(
            "Start Windows again, then Idlebloom. If it stays so: open the Terminal as administrator, type: "
            "wsl.exe --install --no-distribution – then start Windows again. If that does not help, switch "
            "on virtualisation in the firmware; it is called Intel VT-x, AMD-V or SVM."
        ),
    ),
    (("0x8007019e",), ABSENT, INSTALL),  # ERROR_LINUX_SUBSYSTEM_NOT_PRESENT
    (
        (
            *("0x800701bc", "wsl2kernel"),  # the kernel of WSL2 lacks or is too old
            *("E_NOINTERFACE", "0x80004002", "REGDB_E_CLASSNOTREG", "0x80040154"),  # parts that do not match
            *("WSL_E_PLUGIN_REQUIRES_UPDATE", "0x8004032a"),
        ),
        N_("Windows' Linux (WSL2) is too old on this PC."),
        UPDATE,
    ),
    (
        ("WSL_E_OS_NOT_SUPPORTED", "0x80040327"),
        N_("This Windows is too old for its Linux (WSL2)."),
        N_("Install all updates in Windows' settings, start Windows again, then Idlebloom."),
    ),
    (
        ("ERROR_ACCESS_DISABLED_BY_POLICY", "0x800704ec"),
        N_("Whoever looks after this PC does not let Windows' Linux (WSL2) run."),
        N_("Ask them to allow it; without it Idlebloom can do nothing here."),
    ),
    (
        ("ERROR_DISK_FULL", "0x80070070", "ERROR_HANDLE_DISK_FULL", "0x80070027"),
        N_("The disk is full."),
        N_(
            "Free some space on the drive that holds Idlebloom, then start it again: it goes on where it was."
        ),
    ),
    (
        (
            *("E_OUTOFMEMORY", "0x8007000e", "ERROR_COMMITMENT_LIMIT", "0x800705af"),
            *("ERROR_NO_SYSTEM_RESOURCES", "0x800705aa"),
        ),
        N_("Windows has too little memory left to start its Linux (WSL2)."),
        N_("Close some programs, then start Idlebloom again."),
    ),
    (
        ("ERROR_VIRTUAL_DISK_LIMITATION", "0xc03a001a"),
        N_(
            "Windows compresses or encrypts the folder of Idlebloom's Linux part, whose disk must be neither."
        ),
        N_(
            "Open the properties of the folder Idlebloom in AppData\\Local, Advanced, and switch both off "
            "there. Then start Idlebloom again."
        ),
    ),
    (
        (
            *("WSL_E_DISK_CORRUPTED", "0x8004032f", "ERROR_FILE_CORRUPT", "0x80070570"),
            *("ERROR_UNRECOGNIZED_VOLUME", "0x800703ed"),
        ),
        N_("The disk of Idlebloom's Linux part is damaged."),
        N_(
            "Start Windows again, then Idlebloom. If it stays so, begin anew: uninstall Idlebloom without "
            "keeping anything, then install it again. Models are fetched again then."
        ),
    ),
    (
        (
            *("WSL_E_IMPORT_FAILED", "0x8004030b", "WSL_E_NOT_A_LINUX_DISTRO", "0x80040326"),
            "Wsl/Service/RegisterDistro/E_FAIL",
        ),
        N_("Windows cannot read what Idlebloom's setup brought along for Linux."),
        N_("Install Idlebloom again; models and settings stay."),
    ),
    (
        (
            *("HCS_E_CONNECTION_TIMEOUT", "0x80370109", "HCS_E_TERMINATED", "0x80370107"),
            *("E_UNEXPECTED", "0x8000ffff", "WSL_E_VM_CRASHED", "0x80040332", "ERROR_TIMEOUT", "0x800705b4"),
            *("RPC_S_CALL_FAILED", "0x800706be", "RPC_S_SERVER_UNAVAILABLE", "0x800706ba"),
            *("RPC_E_DISCONNECTED", "0x80010108", "CO_E_SERVER_EXEC_FAILURE", "0x80080005"),
        ),
        N_("Windows' Linux (WSL2) does not answer."),
        N_(
            "Open the Terminal, type: wsl.exe --shutdown – then start Idlebloom again. If it stays so, start "
            "Windows again."
        ),
    ),
    (
        ("WSL_E_DISTRO_NOT_FOUND", "0x80040302"),
        N_("Idlebloom's Linux part is not on this PC yet, or was removed."),
        N_("Start Idlebloom from the start menu: it sets it up."),
    ),
    (
        (
            *("E_ACCESSDENIED", "0x80070005", "ERROR_SHARING_VIOLATION", "0x80070020"),
            *("WSL_E_USER_VHD_ALREADY_ATTACHED", "0x80040312", "WSL_E_DISTRO_NOT_STOPPED", "0x8004030c"),
        ),
        N_("Windows does not let Idlebloom use its own folder: another program holds it, or forbids it."),
        N_("Let your virus scanner leave the folder Idlebloom in your AppData alone, then start it again."),
    ),
)
"""Codes, newer ones by name and older ones by number, with what each means and what to do."""


class WslTrouble(IdlebloomError):
    """What keeps the Linux part from running."""


class Absent(WslTrouble):
    """There is no WSL2."""

    def __init__(self) -> None:
        super().__init__(_(ABSENT), _(INSTALL))


def trouble_in(text: str) -> WslTrouble | None:
    """The trouble that a code in this text stands for; the first of the table where there are several."""
    found = [*CODE.findall(text), *LINK.findall(text)]
    codes = {part.lower() for code in found for part in (code, *code.split("/"))}
    for known, words, advice in TROUBLES:
        if any(code.lower() in codes for code in known):
            return WslTrouble(_(words), _(advice))
    if re.search(r"no space left on device", text, re.IGNORECASE):
        return trouble_in("ERROR_DISK_FULL")
    return None


def trouble_of(code: str) -> WslTrouble:
    """Of a code that the table has."""
    return trouble_in(code) or Absent()
