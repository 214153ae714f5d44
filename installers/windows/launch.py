"""What Idlebloom.exe runs: makes this user's environment ready, with a window that shows how far it is, then
starts the tray in it.

The Python that runs this is the one that uv fetched; the environment is made from it.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import progress_window
import setup
from release import Place, Release, SetupError


def main() -> int:
    try:
        release, place = Release.read(HERE), Place.of_user()
        ready = setup.is_ready("window", release, place)
    except SetupError as error:
        progress_window.show_error(str(error))
        return 1
    if not ready and (code := progress_window.run("window")):
        return code
    subprocess.Popen(
        [place.python.with_name("pythonw.exe"), "-m", "idlebloom"],
        env=environment(place, os.environ.copy(), language()),
        cwd=place.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return 0


def environment(place: Place, known: dict[str, str], spoken: str) -> dict[str, str]:
    """Of the tray: where the installer put things, and the program that makes the Linux part ready."""
    return {
        **({"LANG": spoken} if spoken else {}),
        **known,
        "IDLEBLOOM_WINDOWS": str(HERE),
        "IDLEBLOOM_SETUP": json.dumps([str(place.python), "-m", "desktop.wsl_setup"]),
        "PYTHONPATH": str(next(place.env.glob(place.packages)) / "idlebloom" / "_app"),
    }


def language() -> str:
    """The user's, as ``de_DE``; Python does not ask Windows for it."""
    buffer = ctypes.create_unicode_buffer(85)
    kernel = getattr(ctypes, "windll", None)
    if kernel is None or not kernel.kernel32.GetUserDefaultLocaleName(buffer, len(buffer)):
        return ""
    return buffer.value.replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
