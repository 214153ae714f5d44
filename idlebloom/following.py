"""Settings that any program of Idlebloom carries out, a command without a node too: the language of its words
and the start at login. And what none of them takes: a model that cannot be found, a folder that cannot be
used."""

from __future__ import annotations

import sys
from pathlib import Path

from core import words
from core.errors import DiskError, ModelError, SettingError
from core.paths import make_folder
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


class Finding:
    """Refuses a ``model`` that is neither a folder here nor named as on the hub, and a ``data_dir`` that
    cannot be made or written to. What they need brings much along, which few commands need."""

    def verify(self, change: Change) -> None:
        try:
            if "model" in change:
                from core.node.models import chosen

                chosen(change.after.model)
            if "data_dir" in change and change.after.data_dir:
                from core.node.storage import ANOTHER_FOLDER

                make_folder(Path(change.after.data_dir), ANOTHER_FOLDER)
        except (ModelError, DiskError) as error:
            raise SettingError(error.message, error.advice) from error

    def apply(self, change: Change) -> bool:
        return True


def follow(preferences: Preferences) -> Preferences:
    """Let these settings take effect now and whenever they change."""
    words.use(preferences.settings.language)
    preferences.listen(Speaking())
    if sys.platform == "win32":
        preferences.listen(RunKey())  # folders are the Linux part's, which checks them
    else:
        preferences.listen(Autostart())
        preferences.listen(Finding())
    return preferences
