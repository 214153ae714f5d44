"""The owner's settings on disk, and how a change of them reaches the running parts.

A change is verified by every listener before any applies it, then saved, then applied. So a refused
change leaves nothing half done, and what is saved is what everyone agreed to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core import json_file
from core.errors import SettingError
from core.settings import Change, Settings, changed, chosen


class Listener(Protocol):
    def verify(self, change: Change) -> None:
        """Raise ``SettingError`` to refuse; change nothing yet."""

    def apply(self, change: Change) -> bool:
        """Take the change over. ``False``: it takes effect at the next start. Must not raise."""


@dataclass(frozen=True)
class Applied:
    change: Change
    live: bool
    """Whether all parts took it over at once."""


class Preferences:
    """The settings in one file. ``notice`` says what was wrong with the file, if anything was."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self.notice = ""
        self.settings = self._load()

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def change(self, values: Mapping[str, object]) -> Applied:
        """Change some settings, given as JSON has them. Raises ``SettingError`` from the limits or
        from a listener, ``DiskError`` where it cannot be saved; then nothing has changed."""
        with self._lock:
            change = Change(self.settings, changed(self.settings, values))
            if not change.names:
                return Applied(change, live=True)
            for listener in self._listeners:
                listener.verify(change)
            json_file.write(self._file, chosen(change.after))
            self.settings = change.after
            took = [listener.apply(change) for listener in self._listeners]
            return Applied(change, live=all(took))

    def _load(self) -> Settings:
        try:
            return changed(Settings(), json_file.read(self._file))
        except json_file.Broken as error:
            self.notice = f"{error}. The default settings are used."
        except SettingError as error:
            kept = json_file.keep_aside(self._file)
            why = str(error).rstrip(".")
            self.notice = f"{self._file} was kept as {kept.name}: {why}. The default settings are used."
        return Settings()
