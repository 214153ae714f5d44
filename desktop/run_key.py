"""Starting at login on Windows: one value of the user's registry, only while the owner wants it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from core.settings import Change

KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
NAME = "Idlebloom"


def program() -> str:
    """The line that Windows is to run: the installer's own launcher, which brings all up to date first."""
    folder = os.environ.get("IDLEBLOOM_WINDOWS") or str(Path(sys.executable).parent)
    folder = folder.rstrip("\\")
    return f'"{folder}\\Idlebloom.exe"'


def follow(wanted: bool, registry: Any = None) -> None:
    """Bring the value in line. Raises ``OSError``; does nothing on other systems."""
    if registry is None:
        if sys.platform != "win32":
            return
        registry = importlib.import_module("winreg")
    with registry.CreateKeyEx(registry.HKEY_CURRENT_USER, KEY, 0, registry.KEY_SET_VALUE) as key:
        if wanted:
            registry.SetValueEx(key, NAME, 0, registry.REG_SZ, program())
            return
        try:
            registry.DeleteValue(key, NAME)
        except FileNotFoundError:
            pass  # it was not there


def there() -> bool:
    """Whether Windows starts it at login now: the setup may have said so."""
    if sys.platform != "win32":
        return False
    registry: Any = importlib.import_module("winreg")
    try:
        with registry.OpenKey(registry.HKEY_CURRENT_USER, KEY) as key:
            registry.QueryValueEx(key, NAME)
    except OSError:
        return False
    return True


class RunKey:
    """Follows the setting ``start_at_login``: a listener of ``core.preferences``."""

    def verify(self, change: Change) -> None:
        """Either will do."""

    def apply(self, change: Change) -> bool:
        try:
            follow(change.after.start_at_login)
        except OSError:
            return False  # tried again at the next change
        return True
