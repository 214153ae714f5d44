"""``idlebloom`` without a command: the tray, where there is a display."""

from __future__ import annotations

import argparse
import os
import sys

from core.paths import Paths

NAME = "tray"


def is_possible() -> bool:
    return sys.platform == "win32" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.preferences import Preferences
    from desktop.node_process import command
    from desktop.start import run
    from idlebloom.following import follow
    from idlebloom.launch import offered

    known = frozenset(one.NAME for one in offered())
    return run(paths, command(args.data), lambda: follow(Preferences(paths.settings_file)), known)
