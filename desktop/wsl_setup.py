"""Makes the Linux part on Windows ready, and goes on where an interrupted setup stopped: the program behind
``IDLEBLOOM_SETUP`` there.

    python -m desktop.wsl_setup [node] [--json]       everything, with progress
    python -m desktop.wsl_setup check                 what this PC has and lacks, in words; changes nothing

It prints the lines that ``desktop.setup_program`` reads. Nothing here needs Qt.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import IdlebloomError
from core.pc.gpu import read_gpus
from core.pc.machine import free_disk
from core.words import _, size
from desktop.wsl import RENEW, SETUP, VERSION, Wsl, gist
from desktop.wsl_troubles import WslTrouble, trouble_in

FOLDER = "IDLEBLOOM_WINDOWS"
"""Where the installer put what it carries; set by its launcher."""
ROOT = "rootfs.tar.gz"
CLOCK_SECONDS = 5.0
"""The virtual machine's clock stands still while the PC sleeps; a swarm needs it within this."""
SMALL, LARGE = 4 * 10**9, 12 * 10**9
"""Bytes of disk that the Linux part takes with its environment: without and with NVIDIA's libraries."""
Say = Callable[[dict[str, object]], None]


@dataclass(frozen=True)
class Place:
    carried: Path
    """What the installer put there: the root file system, and which version it is."""
    home: Path
    """Of the distribution's disk."""

    @classmethod
    def of_user(cls) -> Place:
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        carried = os.environ.get(FOLDER) or Path(sys.executable).parent
        return cls(Path(carried), Path(local) / "Idlebloom" / "linux")

    @property
    def root(self) -> Path:
        return self.carried / ROOT

    @property
    def disk(self) -> Path:
        """WSL's own file."""
        return self.home / "ext4.vhdx"

    @property
    def kept(self) -> Path:
        """What the uninstaller kept: that file as it was, models and identity in it."""
        return self.home.parent / "kept" / "ext4.vhdx"

    @property
    def lived(self) -> Path:
        """There since the Linux part first was whole: it may hold models and an identity from then on."""
        return self.home / "lived"

    def version(self) -> str:
        try:
            return (self.carried / "version").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise WslTrouble(
                _("the installation in {folder} is damaged: {why}").format(folder=self.carried, why=error),
                _("Install Idlebloom again; models and settings stay."),
            ) from error


def make_ready(wsl: Wsl, place: Place, say: Say) -> None:
    """Returns when the node can be started. Raises ``IdlebloomError``; what was done stays."""
    wanted = place.version()
    wsl.check()
    if wsl.there():
        _check_ours(wsl, place)
    else:
        _check_space(place)
        _bring(wsl, place, say)
    found = _version_inside(wsl, place)
    if not found:  # its import was interrupted, and nobody has lived in it
        wsl.unregister()
        _bring(wsl, place, say)
        found = _version_inside(wsl, place, again=True)
    if found != wanted:
        _renew(wsl, place, say)
    set_clock(wsl)
    _build(wsl, say)
    place.lived.touch()


def _check_ours(wsl: Wsl, place: Place) -> None:
    if not place.disk.exists():
        raise WslTrouble(
            _("Another Linux by the name {name} is on this PC, which is not Idlebloom's.").format(
                name=wsl.name
            ),
            _(
                "Idlebloom leaves it alone. Remove it if you do not need it: wsl.exe --unregister {name}"
            ).format(name=wsl.name),
        )


def _check_space(place: Place) -> None:
    free, need = free_disk(place.home), LARGE if read_gpus().found else SMALL
    if free < need:
        raise WslTrouble(
            _("The disk of {folder} has {free} free, and Idlebloom's Linux part needs {need}.").format(
                folder=place.home, free=size(free), need=size(need)
            ),
            _("Free {lack} there, then start Idlebloom again.").format(lack=size(need - free)),
        )


def _bring(wsl: Wsl, place: Place, say: Say) -> None:
    say({"phase": "installing", "what": "Idlebloom's Linux part"})
    place.home.mkdir(parents=True, exist_ok=True)
    if place.kept.exists():
        place.kept.replace(place.disk)
        place.lived.touch()
    if place.lived.exists() and place.disk.exists():
        wsl.take_back(place.disk)
        return
    for left in (place.lived, place.disk):  # of one that was removed by hand, or cut off
        left.unlink(missing_ok=True)
    try:
        wsl.bring(place.home, place.root)
    except WslTrouble:
        if wsl.there():  # half of one
            wsl.unregister()
        raise


def _version_inside(wsl: Wsl, place: Place, *, again: bool = False) -> str:
    """Empty for one that does not answer and holds nothing of value yet. Raises ``WslTrouble`` otherwise."""
    said = wsl.ask_inside("/bin/cat", VERSION)
    if said.code == 0:
        return said.out.strip()
    if not place.lived.exists() and not again:
        return ""
    raise trouble_in(said.text) or WslTrouble(
        _("Idlebloom's Linux part does not start: {why}").format(why=gist(said.text)),
        _(
            "Open the Terminal, type: wsl.exe --shutdown – then start Idlebloom again. If it stays so, start "
            "Windows again."
        ),
    )


def _renew(wsl: Wsl, place: Place, say: Say) -> None:
    """Another version of Idlebloom in the same distribution: models, identity and settings stay."""
    say({"phase": "installing", "what": "the new version of Idlebloom's Linux part"})
    said = wsl.feed_inside(place.root, RENEW)
    if said.code:
        raise trouble_in(said.text) or WslTrouble(
            _("Idlebloom's Linux part could not be renewed: {why}").format(why=gist(said.text)),
            _("Start Idlebloom again. If it stays so, install it again; models and settings stay."),
        )


def set_clock(wsl: Wsl) -> None:
    """After this PC's sleep the virtual machine may live in the past."""
    said = wsl.ask_inside("/bin/date", "+%s")
    try:
        off = int(said.out.split()[0]) - time.time()
    except (ValueError, IndexError):
        return  # the node tells a clock that is wrong itself
    if abs(off) > CLOCK_SECONDS:
        wsl.ask_inside("/bin/date", "-s", f"@{time.time():.0f}", root=True)


def _build(wsl: Wsl, say: Say) -> None:
    """What its environment lacks, told in its own lines."""
    failed, last = "", ""
    for line in wsl.lines_inside(SETUP, "headless", "--json"):
        try:
            fields = json.loads(line)
        except ValueError:
            last = line.strip() or last
            continue
        if isinstance(fields, dict):
            failed = str(fields["error"]) if "error" in fields else failed
            if "error" not in fields:
                say(fields)
    if failed or last:
        raise trouble_in(f"{failed}\n{last}") or WslTrouble(failed or gist(last))


def findings(wsl: Wsl, place: Place) -> Iterator[tuple[bool, str]]:
    """What this PC has for giving and chatting: whether it is well, and words."""
    gpus = read_gpus()
    if gpus.found:
        card = gpus.found[0]
        words_ = _("{name} with {size}, driver {driver}; {rest}")
        rest = _("{free} of disk free").format(free=size(free_disk(place.home)))
        yield True, words_.format(name=card.name, size=size(card.memory_bytes), driver=gpus.driver, rest=rest)
    else:
        yield (
            False,
            _(
                "No NVIDIA driver was found. With an NVIDIA graphics card: install its driver, start this PC "
                "again, then Idlebloom."
            ),
        )
    try:
        wsl.check()
        yield True, _("Windows' Linux (WSL2) is there.")
        if not wsl.there():
            yield False, _("Idlebloom's Linux part is not on this PC yet, or was removed.")
            return
        _check_ours(wsl, place)
        said = wsl.ask_inside("/bin/cat", VERSION)
        if said.code:
            raise trouble_in(said.text) or WslTrouble(gist(said.text))
        yield (
            True,
            _("Idlebloom's Linux part starts; its version is {version}.").format(version=said.out.strip()),
        )
        seen = wsl.ask_inside("/usr/bin/test", "-e", "/usr/lib/wsl/lib/libnvidia-ml.so.1").code == 0
        if seen:
            yield True, _("The graphics card reaches the Linux part.")
        elif gpus.found:
            yield (
                False,
                _(
                    "The graphics card does not reach the Linux part. Install the newest NVIDIA driver in "
                    "Windows, then open the Terminal and type: wsl.exe --update"
                ),
            )
    except IdlebloomError as error:
        yield False, str(error)


def check(wsl: Wsl, place: Place) -> int:
    well = True
    for good, text in findings(wsl, place):
        print(("✓ " if good else "✗ ") + text)
        well = well and good
    return 0 if well else 1


def as_json(fields: dict[str, object]) -> None:
    print(json.dumps(fields), flush=True)


def main(arguments: Sequence[str]) -> int:
    wsl, place = Wsl(), Place.of_user()
    if "check" in arguments:
        return check(wsl, place)
    try:
        make_ready(wsl, place, as_json)
    except (IdlebloomError, OSError) as error:
        as_json({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
