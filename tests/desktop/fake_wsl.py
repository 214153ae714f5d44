"""A program in the place of ``wsl.exe``: what it has and how it fails lies in the folder ``FAKE_WSL``.

Its own words are UTF-16 without a mark, as the real one's are, unless ``utf8`` is there and WSL_UTF8 says so.
Errors are on standard error, as those of new ones, unless ``old`` is there; their exit code is -1. Without
WSL_DISABLE_WARNINGS, a warning comes before anything else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_WSL"])
ERRORS = {  # what Windows prints in German; the codes alone are the same everywhere
    "absent": "Das Windows-Subsystem für Linux ist nicht installiert.",
    "virtual": "WSL2 kann nicht gestartet werden.\r\nFehlercode: "
    "Wsl/Service/RegisterDistro/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED",
    "full": "Es steht nicht genug Speicherplatz auf dem Datenträger zur Verfügung.\r\n"
    "Fehlercode: Wsl/Service/RegisterDistro/ERROR_DISK_FULL",
    "odd": "Irgendetwas ging schief.\r\nFehlercode: Wsl/Service/0x8123abcd",
    "crypt": "Der Vorgang konnte nicht abgeschlossen werden.\r\n"
    "Fehlercode: Wsl/Service/RegisterDistro/ERROR_VIRTUAL_DISK_LIMITATION",
    "hangs": "Schwerwiegender Fehler\r\nFehlercode: Wsl/Service/E_UNEXPECTED",
}


FAILED = 255
"""-1, as Linux has it."""


def say(text: str, *, error: bool = False) -> None:
    utf8 = (HOME / "utf8").exists() and os.environ.get("WSL_UTF8") == "1"
    stream = sys.stderr if error and not (HOME / "old").exists() else sys.stdout
    stream.buffer.write(f"{text}\r\n".encode("utf-8" if utf8 else "utf-16-le"))
    stream.flush()


def fails(what: str) -> None:
    trouble = HOME / what
    if trouble.exists():
        say(ERRORS[trouble.read_text()], error=True)
        sys.exit(FAILED)


def own(arguments: list[str], registered: Path) -> int:
    match arguments:
        case ["--status"]:
            fails("status")
            say("Standardversion: 2")
            if (HOME / "no platform").exists():  # it is no error for --status
                say("Aktivieren Sie die VM-Plattform.\r\nhttps://aka.ms/enablevirtualization", error=True)
        case ["--list", "--quiet"]:
            names = ["Ubuntu", *([registered.read_text()] if registered.exists() else [])]
            say("\r\n".join(names))
        case ["--import", name, folder, root, "--version", "2"]:
            if (HOME / "half").exists():
                registered.write_text(name)
            fails("import")
            if (Path(folder) / "ext4.vhdx").exists():
                say("Fehlercode: Wsl/Service/RegisterDistro/ERROR_FILE_EXISTS", error=True)
                return FAILED
            disk(Path(folder) / "ext4.vhdx", Path(root).read_text(), {})
            registered.write_text(name)
            (HOME / "disk").write_text(str(Path(folder) / "ext4.vhdx"))
        case ["--import-in-place", name, path]:
            fails("import")
            registered.write_text(name)
            (HOME / "disk").write_text(path)
        case ["--unregister", _]:
            Path((HOME / "disk").read_text()).unlink(missing_ok=True) if (HOME / "disk").exists() else None
            registered.unlink(missing_ok=True)
        case ["--terminate", _]:
            pass
        case ["-d", _, *rest]:
            return inside(rest, registered)
        case _:
            say("Ungültiges Befehlszeilenargument")
            return FAILED
    return 0


def disk(path: Path, version: str, models: dict[str, str]) -> None:
    path.write_text(json.dumps({"version": version, "models": models}))


def inside(arguments: list[str], registered: Path) -> int:
    if not registered.exists():
        say("Fehlercode: Wsl/Service/WSL_E_DISTRO_NOT_FOUND", error=True)
        return FAILED
    fails("inside")
    root = arguments[:2] == ["-u", "root"]
    command = arguments[arguments.index("--exec") + 1 :]
    path = Path((HOME / "disk").read_text())
    found = json.loads(path.read_text())
    match command:
        case ["/bin/cat", "/etc/idlebloom-version"]:
            print(found["version"])
        case ["/bin/date", "+%s"]:
            print((HOME / "clock").read_text() if (HOME / "clock").exists() else int(time.time()))
        case ["/bin/date", "-s", at]:
            assert root
            (HOME / "clock").write_text(at.removeprefix("@"))
        case ["/usr/lib/idlebloom/renew"]:
            assert root
            fails("renewing")
            disk(path, sys.stdin.read(), found["models"])
        case ["/usr/lib/idlebloom/setup", "headless", "--json"]:
            print(
                json.dumps(
                    {"phase": "fetching", "what": "x", "done_bytes": 9, "total_bytes": 9, "seconds_left": 0}
                )
            )
            if (HOME / "building").exists():
                print(json.dumps({"error": (HOME / "building").read_text()}))
                return 1
        case ["/usr/bin/test", *_]:
            return 1
        case ["/usr/bin/idlebloom", *rest]:
            os.execv(sys.executable, [sys.executable, "-S", str(HOME / "node.py"), *rest])
        case _:
            print(f"{command[0]}: not found", file=sys.stderr)
            return 127
    return 0


if __name__ == "__main__":
    if os.environ.get("WSL_DISABLE_WARNINGS") != "1" or (HOME / "old").exists():
        print("wsl: a warning that nobody asked for", file=sys.stderr)
    with (HOME / "asked").open("a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\n")
    sys.exit(own(sys.argv[1:], HOME / "registered"))
