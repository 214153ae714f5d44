"""What the tray remembers of itself between its runs, apart from the settings: a few flags in one file."""

from __future__ import annotations

from pathlib import Path

from core import json_file
from core.errors import DiskError

FILE = "tray.json"


class Memory:
    """A broken or unreadable file counts as an empty one; a full disk only costs the memory."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        try:
            self._known = json_file.read(self._file)
        except DiskError:
            self._known = {}

    def __contains__(self, flag: str) -> bool:
        return self._known.get(flag) is True

    def keep(self, flag: str) -> None:
        if flag not in self:
            self._known[flag] = True
            try:
                json_file.write(self._file, self._known)
            except DiskError:
                pass  # asked again at the next start
