"""What /usr/bin/idlebloom runs: makes this user's environment ready, then becomes the program in it.

Without arguments on a desktop only the window's part is awaited; the tray has the rest fetched, through the
program that ``IDLEBLOOM_SETUP`` names, and shows how far it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import setup
from release import Place, Release, SetupError

LIGHT = {"--help", "-h", "--version", "settings", "status", "pause", "resume", "give"}
"""What talks to a running node, or to nobody."""


def main(arguments: Sequence[str]) -> int:
    """Returns only where it failed: else this process has become the program."""
    desktop = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    group = group_for(arguments, desktop)
    try:
        release, place = Release.read(setup.HERE), Place.of_user()
        ready = setup.is_ready(group, release, place)
    except SetupError as error:
        return failed(str(error), desktop)
    if not ready:
        window = None if sys.stderr.isatty() or not desktop else window_module()
        if code := setup.main([group]) if window is None else window.run(group):
            return code
    return become(place, arguments)


def group_for(arguments: Sequence[str], desktop: bool) -> str:
    """What of the environment a command needs: without a display nothing of a window's."""
    words = [w for before, w in zip(["", *arguments], arguments, strict=False) if before != "--data"]
    first = next((word for word in words if not word.startswith("-") or word in LIGHT), "")
    if first in LIGHT or not arguments:
        return "window" if desktop else "talk"
    return "node" if desktop else "headless"


def become(place: Place, arguments: Sequence[str]) -> NoReturn:
    environment = {
        **os.environ,
        "IDLEBLOOM_SETUP": str(setup.HERE / "setup"),
        "IDLEBLOOM_PROGRAM": "/usr/bin/idlebloom",
    }
    os.execve(place.python, [str(place.python), "-m", "idlebloom", *arguments], environment)


def failed(words: str, desktop: bool) -> int:
    print(f"idlebloom: {words}", file=sys.stderr)
    if desktop and not sys.stderr.isatty() and (window := window_module()) is not None:
        window.show_error(words)
    return 1


def window_module() -> ModuleType | None:
    """None on a PC without Python's Tk: then there are only words on standard error."""
    try:
        import progress_window
    except ImportError:
        return None
    return progress_window


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
