"""Starting at login: one small file in the desktop's autostart folder, only while the owner wants it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import SettingError
from core.paths import HOME_VARIABLE
from core.settings import Change

NAME = "idlebloom.desktop"


def folder() -> Path:
    """Where desktops look for what starts at login (XDG autostart)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "autostart"


def started_by() -> tuple[str, ...]:
    """What starts Idlebloom: a package's own launcher, which brings its environment up to date first, or
    this environment's."""
    if launcher := os.environ.get("IDLEBLOOM_PROGRAM"):
        return (launcher,)
    program = Path(sys.executable).parent / "idlebloom"
    return (str(program),) if program.exists() else (sys.executable, "-m", "idlebloom")


def command() -> tuple[str, ...]:
    """How this very Idlebloom is started again, from the same environment and with the same data."""
    start = started_by()
    home = os.environ.get(HOME_VARIABLE)
    return (*start, "--data", str(Path(home).expanduser().absolute())) if home else start


@dataclass(frozen=True)
class Autostart:
    """Follows the setting ``start_at_login``: a listener of ``core.preferences``."""

    file: Path = field(default_factory=lambda: folder() / NAME)
    program: tuple[str, ...] = field(default_factory=command)

    def verify(self, change: Change) -> None:
        """Refuses what the folder would not let happen."""
        if "start_at_login" not in change:
            return
        near = self.file.parent
        while not near.exists():
            near = near.parent
        if not os.access(near, os.W_OK | os.X_OK):
            raise SettingError(f"cannot write to {near}", "Check the permissions of that folder.")

    def apply(self, change: Change) -> bool:
        try:
            self.follow(change.after.start_at_login)
        except OSError:
            return False  # tried again at the next start
        return True

    def follow(self, wanted: bool) -> None:
        """Bring the file in line. Raises ``OSError``."""
        if not wanted:
            self.file.unlink(missing_ok=True)
            return
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.file.with_suffix(".new")
        draft.write_text(self._entry(), encoding="utf-8")
        draft.replace(self.file)

    def _entry(self) -> str:
        return (
            "[Desktop Entry]\n"
            "Type=Application\n"
            "Name=Idlebloom\n"
            "Comment=Lends this PC's GPU while nobody uses it\n"
            f"Exec={' '.join(_quoted(part) for part in self.program)}\n"
            "Terminal=false\n"
            "X-GNOME-Autostart-enabled=true\n"
        )


def _quoted(part: str) -> str:
    """One argument as the Desktop Entry Specification wants it: odd characters in quotes, ``%`` doubled."""
    part = part.replace("%", "%%")
    if not re.search(r"[^\w./%:=+@-]", part, re.ASCII):
        return part
    escaped = re.sub(r"([\"`$\\])", r"\\\1", part)
    return '"' + escaped.replace("\\", "\\\\") + '"'
