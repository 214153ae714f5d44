"""Settings that any program of Idlebloom carries out, a command without a node too: the language of its words
and the start at login."""

from __future__ import annotations

import sys

from core import words
from core.preferences import Preferences
from core.settings import Change
from desktop.autostart import Autostart
from desktop.run_key import RunKey


class Speaking:
    """Follows the setting ``language``."""

    def verify(self, change: Change) -> None:
        """Any value will do."""

    def apply(self, change: Change) -> bool:
        words.use(change.after.language)
        return True


def follow(preferences: Preferences) -> Preferences:
    """Let these settings take effect now and whenever they change."""
    words.use(preferences.settings.language)
    preferences.listen(Speaking())
    preferences.listen(RunKey() if sys.platform == "win32" else Autostart())
    return preferences
